// Threads: creation, joining, thread-local storage, exit, what they share and what is theirs.
#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>

#include "tests/guest/guest_test.h"

namespace {

template <class Body>
void* trampoline(void* body) {
  (*static_cast<Body*>(body))();
  return nullptr;
}

template <class Body>
pthread_t start(Body& body) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, nullptr, trampoline<Body>, &body) == 0);
  return thread;
}

pid_t gettid_raw() { return static_cast<pid_t>(syscall(SYS_gettid)); }

thread_local int tls_value = 5;

}  // namespace

CASE(create_and_join) {
  int result = 0;
  auto body = [&] { result = 7; };
  pthread_join(start(body), nullptr);
  CHECK_EQ(result, 7);
}

CASE(identity) {
  pid_t pid = 0, tid = 0, parent = getppid();
  auto body = [&] {
    pid = getpid();
    tid = gettid_raw();
    CHECK_EQ(getppid(), parent);
  };
  pthread_join(start(body), nullptr);
  CHECK_EQ(pid, getpid());
  CHECK(tid != pid);
  CHECK_EQ(gettid_raw(), getpid());
}

CASE(thread_local_storage) {
  tls_value = 6;
  auto body = [&] {
    CHECK_EQ(tls_value, 5);
    tls_value = 9;
  };
  pthread_join(start(body), nullptr);
  CHECK_EQ(tls_value, 6);
}

CASE(counters_add_up) {
  static std::atomic<int> atomic_count;
  static int guarded_count;
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  auto body = [] {
    for (int i = 0; i < 20000; ++i) {
      atomic_count.fetch_add(1);
      pthread_mutex_lock(&mutex);
      ++guarded_count;
      pthread_mutex_unlock(&mutex);
    }
  };
  pthread_t threads[4];
  for (auto& thread : threads) thread = start(body);
  for (auto& thread : threads) pthread_join(thread, nullptr);
  CHECK_EQ(atomic_count.load(), 80000);
  CHECK_EQ(guarded_count, 80000);
}

CASE(condition_variable_ping_pong) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
  static int turn;
  auto play = [](int mine) {
    for (int i = 0; i < 500; ++i) {
      pthread_mutex_lock(&mutex);
      while (turn != mine) pthread_cond_wait(&changed, &mutex);
      turn = 1 - mine;
      pthread_cond_signal(&changed);
      pthread_mutex_unlock(&mutex);
    }
  };
  auto other = [&] { play(1); };
  pthread_t thread = start(other);
  play(0);
  pthread_join(thread, nullptr);
  CHECK_EQ(turn, 0);
}

CASE(timed_waits) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  auto body = [&] {
    timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000) {
      until.tv_nsec -= 1000000000;
      ++until.tv_sec;
    }
    CHECK_EQ(pthread_mutex_timedlock(&mutex, &until), ETIMEDOUT);
  };
  pthread_join(start(body), nullptr);
  pthread_cond_t never = PTHREAD_COND_INITIALIZER;
  timespec past = {1, 0};
  CHECK_EQ(pthread_cond_timedwait(&never, &mutex, &past), ETIMEDOUT);
}

CASE(descriptors_and_cwd_are_shared) {
  int fd = -1;
  auto body = [&] {
    fd = open("/", O_RDONLY);
    CHECK_OK(chdir("/"));
    umask(033);
  };
  pthread_join(start(body), nullptr);
  CHECK_OK(fcntl(fd, F_GETFD));
  char cwd[64];
  CHECK_EQ(std::string(getcwd(cwd, sizeof cwd)), "/");
  CHECK_EQ(umask(0), 033);
}

CASE(unshare_gives_a_thread_its_own_cwd_and_descriptors) {
  char before[4096], after[4096];
  REQUIRE(getcwd(before, sizeof before) != nullptr);
  auto body = [] {
    int result = unshare(CLONE_FS | CLONE_FILES);
    if (result == -1 && errno == EPERM) return;  // a container engine's filter
    CHECK_EQ(result, 0);
    CHECK_OK(chdir("/"));
    close(0);
  };
  pthread_join(start(body), nullptr);
  REQUIRE(getcwd(after, sizeof after) != nullptr);
  CHECK_EQ(std::string(after), std::string(before));
  CHECK_OK(fcntl(0, F_GETFD));
}

CASE(masks_are_per_thread) {
  sigset_t set, now;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  auto body = [&] { pthread_sigmask(SIG_BLOCK, &set, nullptr); };
  pthread_join(start(body), nullptr);
  pthread_sigmask(SIG_BLOCK, nullptr, &now);
  CHECK(!sigismember(&now, SIGUSR1));
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  auto inherits = [] {
    sigset_t mine;
    pthread_sigmask(SIG_BLOCK, nullptr, &mine);
    CHECK(sigismember(&mine, SIGUSR1));
  };
  pthread_join(start(inherits), nullptr);
}

CASE(exit_of_a_thread_ends_the_process) {
  pid_t pid = fork();
  if (pid == 0) {
    auto body = [] { _exit(6); };
    start(body);
    for (;;) pause();
  }
  CHECK_EXIT(pid, 6);
}

CASE(a_fatal_signal_ends_all_threads) {
  pid_t pid = fork();
  if (pid == 0) {
    auto body = [] { syscall(SYS_tgkill, getpid(), gettid_raw(), SIGTERM); };
    start(body);
    for (;;) pause();
  }
  CHECK_KILLED(pid, SIGTERM);
}

CASE(the_leader_may_exit_first) {
  pid_t pid = fork();
  if (pid == 0) {
    static pid_t leader;
    leader = getpid();
    auto body = [] {
      guest::sleep_ms(20);
      CHECK_EQ(getpid(), leader);
      CHECK_OK(kill(leader, 0));
      _exit(guest::failures != 0 ? 1 : 8);
    };
    start(body);
    syscall(SYS_exit, 3);  // this thread only: the process is not waitable yet
  }
  CHECK_EXIT(pid, 8);
}

CASE(when_all_threads_exit_one_by_one_the_process_ends) {
  pid_t pid = fork();
  if (pid == 0) {
    auto body = [] {
      guest::sleep_ms(10);
      syscall(SYS_exit, 5);
    };
    start(body);
    syscall(SYS_exit, 3);
  }
  // The leader's code until Linux 5.17, since then that of the last thread
  // (synchronize_group_exit).
  int status = guest::wait_for(pid);
  CHECK(status == 3 << 8 || status == 5 << 8);
}

CASE(fork_from_a_thread_leaves_one_thread) {
  auto body = [] {
    pid_t pid = fork();
    if (pid == 0) {
      CHECK_EQ(gettid_raw(), getpid());
      CHECK_EQ(tls_value, 5);
      _exit(guest::failures);
    }
    CHECK_EXIT(pid, 0);
  };
  pthread_join(start(body), nullptr);
}

CASE(set_tid_address_and_clear_child_tid) {
  CHECK_EQ(syscall(SYS_set_tid_address, nullptr), gettid_raw());
  // A raw thread whose exit clears the word and wakes one waiter: what pthread_join is made of.
  static char stack[65536];
  static int word = -1;
  static volatile int ran;
  int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
              CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  static int parent_tid;
  int tid = clone(
      [](void*) -> int {
        ran = 1;
        syscall(SYS_exit, 0);
        return 0;
      },
      stack + sizeof stack, flags, nullptr, &parent_tid, nullptr, &word);
  REQUIRE(tid > 0);
  while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) != 0) {
    syscall(SYS_futex, &word, FUTEX_WAIT, -1, nullptr, nullptr, 0);
  }
  CHECK_EQ(ran, 1);
  CHECK_EQ(parent_tid, tid);
}

CASE(arch_prctl_bases) {
  uint64_t fs = 0, gs = 0;
  CHECK_OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
  CHECK_EQ(fs, *reinterpret_cast<uint64_t*>(
                   pthread_self()));  // the first word of the TCB points to itself
  static uint64_t target = 0x1122334455667788;
  CHECK_OK(syscall(SYS_arch_prctl, ARCH_SET_GS, &target));
  CHECK_OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
  CHECK(gs == reinterpret_cast<uint64_t>(&target));
  uint64_t read_back = 0;
  asm volatile("mov %%gs:0, %0" : "=r"(read_back));
  CHECK_EQ(read_back, target);
  guest::sleep_ms(1);  // survives a switch
  asm volatile("mov %%gs:0, %0" : "=r"(read_back));
  CHECK_EQ(read_back, target);
  CHECK_ERRNO(syscall(SYS_arch_prctl, ARCH_SET_FS, 1UL << 63), EPERM);
  CHECK_ERRNO(syscall(SYS_arch_prctl, 0x9999, 0), EINVAL);
}

CASE(thread_names) {
  pthread_setname_np(pthread_self(), "leader-name");
  auto body = [] {
    char name[16];
    pthread_getname_np(pthread_self(), name, sizeof name);
    CHECK_EQ(std::string(name), "leader-name");
    CHECK_OK(prctl(PR_SET_NAME, "a name longer than fifteen"));
    prctl(PR_GET_NAME, name);
    CHECK_EQ(std::string(name), "a name longer t");
  };
  pthread_join(start(body), nullptr);
  char name[16];
  prctl(PR_GET_NAME, name);
  CHECK_EQ(std::string(name), "leader-name");
}

CASE(many_threads) {
  constexpr int kThreads = 100;
  static std::atomic<int> alive;
  static pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, nullptr, kThreads);
  auto body = [] {
    alive.fetch_add(1);
    pthread_barrier_wait(&barrier);
  };
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 65536);
  pthread_t threads[kThreads];
  for (auto& thread : threads) {
    REQUIRE(pthread_create(&thread, &small, trampoline<decltype(body)>, &body) == 0);
  }
  for (auto& thread : threads) pthread_join(thread, nullptr);
  CHECK_EQ(alive.load(), kThreads);
}

CASE(cancellation) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  auto body = [&] {
    char byte;
    (void)!read(ends[0], &byte, 1);
  };
  pthread_t thread = start(body);
  pthread_cancel(thread);
  void* result = nullptr;
  pthread_join(thread, &result);
  CHECK(result == PTHREAD_CANCELED);
}

CASE(memory_shared_by_threads_is_remapped_for_all) {
  // One thread unmaps and maps again while another reads the new content.
  char* page = static_cast<char*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(page != MAP_FAILED);
  page[0] = 1;
  auto body = [&] {
    CHECK_EQ(page[0], 1);
    void* again =
        mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(again == page);
    page[1] = 2;
  };
  pthread_join(start(body), nullptr);
  CHECK_EQ(page[0], 0);
  CHECK_EQ(page[1], 2);
}
