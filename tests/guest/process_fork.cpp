// fork, vfork and what a child inherits.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/times.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"

CASE(child_has_its_own_pid) {
  pid_t parent = getpid();
  pid_t pid = guest::spawn([parent] {
    CHECK(getpid() != parent);
    CHECK_EQ(getppid(), parent);
    CHECK_EQ(syscall(SYS_gettid), getpid());
  });
  CHECK(pid > 0);
  CHECK_EXIT(pid, 0);
}

CASE(memory_is_copied_both_ways) {
  static int value = 1;
  int to_child[2], to_parent[2];
  REQUIRE(pipe(to_child) == 0 && pipe(to_parent) == 0);
  pid_t pid = guest::spawn([&] {
    char byte;
    CHECK_EQ(read(to_child[0], &byte, 1), 1);
    CHECK_EQ(value, 1);  // the parent's later store is not seen
    value = 3;
    CHECK_EQ(write(to_parent[1], "x", 1), 1);
  });
  value = 2;
  CHECK_EQ(write(to_child[1], "x", 1), 1);
  char byte;
  CHECK_EQ(read(to_parent[0], &byte, 1), 1);
  CHECK_EQ(value, 2);
  CHECK_EXIT(pid, 0);
}

CASE(descriptors_share_their_offset) {
  REQUIRE(guest::write_file("file", "abcdef"));
  int fd = open("file", O_RDONLY);
  pid_t pid = guest::spawn([fd] {
    char two[2];
    CHECK_EQ(read(fd, two, 2), 2);
    close(fd);
  });
  CHECK_EXIT(pid, 0);
  char next;
  CHECK_EQ(read(fd, &next, 1), 1);
  CHECK_EQ(next, 'c');
}

CASE(descriptor_tables_are_separate) {
  int fd = open(".", O_RDONLY);
  pid_t pid = guest::spawn([fd] {
    close(fd);
    CHECK_EQ(open("/", O_RDONLY), fd);
  });
  CHECK_EXIT(pid, 0);
  CHECK_OK(fcntl(fd, F_GETFD));
}

CASE(cwd_and_umask_are_inherited_and_separate) {
  REQUIRE(mkdir("dir", 0755) == 0);
  umask(027);
  pid_t pid = guest::spawn([] {
    CHECK_EQ(umask(077), 027);
    CHECK_OK(chdir("dir"));
  });
  CHECK_EXIT(pid, 0);
  CHECK_EQ(umask(0), 027);
  CHECK_OK(access("dir", F_OK));
}

CASE(handlers_and_mask_are_inherited_pending_signals_are_not) {
  static volatile sig_atomic_t caught;
  signal(SIGUSR1, [](int) { caught = caught + 1; });
  signal(SIGUSR2, SIG_IGN);
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  sigprocmask(SIG_BLOCK, &usr1, nullptr);
  raise(SIGUSR1);
  pid_t pid = guest::spawn([&usr1] {
    sigset_t pending, mask;
    sigpending(&pending);
    CHECK(!sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_BLOCK, nullptr, &mask);
    CHECK(sigismember(&mask, SIGUSR1));
    struct sigaction action;
    sigaction(SIGUSR2, nullptr, &action);
    CHECK(action.sa_handler == SIG_IGN);
    raise(SIGUSR1);
    sigprocmask(SIG_UNBLOCK, &usr1, nullptr);
    CHECK_EQ(caught, 1);
  });
  CHECK_EXIT(pid, 0);
  CHECK_EQ(caught, 0);
  sigprocmask(SIG_UNBLOCK, &usr1, nullptr);
  CHECK_EQ(caught, 1);
}

CASE(alarms_and_timers_are_not_inherited) {
  alarm(1000);
  pid_t pid = guest::spawn([] { CHECK_EQ(alarm(0), 0); });
  CHECK_EXIT(pid, 0);
  CHECK(alarm(0) > 900);
}

CASE(limits_and_priority_are_inherited) {
  rlimit files = {100, 100};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &files) == 0);
  REQUIRE(setpriority(PRIO_PROCESS, 0, 5) == 0);
  pid_t pid = guest::spawn([] {
    rlimit mine = {};
    CHECK_OK(getrlimit(RLIMIT_NOFILE, &mine));
    CHECK_EQ(mine.rlim_cur, 100);
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5);
  });
  CHECK_EXIT(pid, 0);
}

CASE(locks_of_the_process_are_not_inherited) {
  int fd = open("file", O_RDWR | O_CREAT, 0600);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  REQUIRE(fcntl(fd, F_SETLK, &lock) == 0);
  pid_t parent = getpid();
  pid_t pid = guest::spawn([fd, parent] {
    struct flock probe = {};
    probe.l_type = F_WRLCK;
    probe.l_whence = SEEK_SET;
    CHECK_OK(fcntl(fd, F_GETLK, &probe));
    CHECK_EQ(probe.l_type, F_WRLCK);
    CHECK_EQ(probe.l_pid, parent);
  });
  CHECK_EXIT(pid, 0);
}

CASE(vfork_suspends_the_parent_and_shares_memory) {
  static volatile int value;
  value = 0;
  pid_t pid = vfork();
  if (pid == 0) {
    value = 7;
    _exit(4);
  }
  CHECK_EQ(value, 7);
  CHECK_EXIT(pid, 4);
}

CASE(vfork_then_exec) {
  pid_t pid = vfork();
  if (pid == 0) {
    execl(guest::self_path(), "x", "--role", "exit_six", nullptr);
    _exit(9);
  }
  CHECK_EXIT(pid, 6);
}

ROLE(exit_six) { return 6; }

CASE(many_children_at_once) {
  constexpr int kChildren = 30;
  pid_t children[kChildren];
  for (int i = 0; i < kChildren; ++i) {
    children[i] = fork();
    if (children[i] == 0) _exit(i);
    REQUIRE(children[i] > 0);
  }
  for (int i = kChildren - 1; i >= 0; --i) CHECK_EXIT(children[i], i);
  CHECK_ERRNO(wait(nullptr), ECHILD);
}

CASE(deep_chain) {
  // Each generation forks the next and passes its answer up.
  auto descend = [](auto&& self, int depth) -> int {
    if (depth == 0) return 1;
    pid_t pid = fork();
    if (pid == 0) _exit(self(self, depth - 1) + 1);
    int status = guest::wait_for(pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
  };
  CHECK_EQ(descend(descend, 15), 16);
}

CASE(large_private_memory_is_copied_on_write) {
  constexpr size_t kBytes = 32 << 20;
  char* memory = static_cast<char*>(
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(memory != MAP_FAILED);
  memset(memory, 1, kBytes);
  for (int generation = 0; generation < 3; ++generation) {
    pid_t pid = guest::spawn([memory] {
      for (size_t i = 0; i < kBytes; i += 4096 * 16) {
        REQUIRE(memory[i] == 1);
        memory[i] = 2;
      }
      for (size_t i = 0; i < kBytes; i += 4096 * 16) REQUIRE(memory[i] == 2);
      CHECK_EQ(memory[4096], 1);
    });
    CHECK_EXIT(pid, 0);
  }
  for (size_t i = 0; i < kBytes; i += 4096) REQUIRE(memory[i] == 1);
}

CASE(children_times_are_added_at_wait) {
  pid_t pid = guest::spawn([] {
    int64_t start = guest::now_ns(CLOCK_PROCESS_CPUTIME_ID);
    while (guest::now_ns(CLOCK_PROCESS_CPUTIME_ID) - start < 30000000) {
    }
  });
  CHECK_EXIT(pid, 0);
  rusage usage = {};
  CHECK_OK(getrusage(RUSAGE_CHILDREN, &usage));
  int64_t used = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000L +
                 usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
  CHECK(used >= 20000);
}
