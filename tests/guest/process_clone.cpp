// clone and clone3 with their flags, pidfds.
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"
#include "tests/guest/turn.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace {

using guest::Turn;

constexpr long kPidfdSendSignal = 424, kPidfdOpen = 434, kPidfdGetfd = 438;

long raw_clone(uint64_t flags, void* stack = nullptr, int* parent_tid = nullptr,
               int* child_tid = nullptr) {
  return syscall(SYS_clone, flags, stack, parent_tid, child_tid, nullptr);
}

long raw_clone3(uint64_t flags, int exit_signal, int* pidfd = nullptr,
                size_t size = sizeof(clone_args)) {
  clone_args args = {};
  args.flags = flags;
  args.exit_signal = static_cast<uint64_t>(exit_signal);
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  return syscall(SYS_clone3, &args, size);
}

int pidfd_open(pid_t pid, unsigned flags = 0) {
  return static_cast<int>(syscall(kPidfdOpen, pid, flags));
}

// A container engine's filter may hide clone3; glibc falls back to clone then.
void require_clone3() {
  if (syscall(SYS_clone3, nullptr, 0) == -1 && errno == ENOSYS) guest::skip("no clone3");
}

}  // namespace

CASE(tids_are_written) {
  static int parent_tid, child_tid;
  long pid = raw_clone(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, nullptr, &parent_tid,
                       &child_tid);
  if (pid == 0) _exit(child_tid == getpid() && syscall(SYS_gettid) == getpid() ? 4 : 5);
  CHECK_EQ(parent_tid, pid);
  CHECK_EQ(child_tid, 0);  // written in the child's memory only
  CHECK_EXIT(static_cast<pid_t>(pid), 4);
}

CASE(shared_memory_without_shared_descriptors) {
  static char stack[65536];
  static volatile int value;
  static int fd;
  fd = open("/", O_RDONLY);
  int pid = clone(
      [](void*) -> int {
        value = 7;
        close(fd);
        return 3;
      },
      stack + sizeof stack, CLONE_VM | SIGCHLD, nullptr);
  CHECK_EXIT(pid, 3);
  CHECK_EQ(value, 7);
  CHECK_OK(fcntl(fd, F_GETFD));
}

CASE(shared_descriptors_without_shared_memory) {
  static int value = 1;
  long pid = raw_clone(CLONE_FILES | SIGCHLD);
  if (pid == 0) {
    value = 2;
    _exit(open("/", O_RDONLY));
  }
  int status = guest::wait_for(static_cast<pid_t>(pid));
  CHECK(WIFEXITED(status));
  CHECK_OK(fcntl(WEXITSTATUS(status), F_GETFD));
  CHECK_EQ(value, 1);
}

CASE(shared_cwd) {
  long pid = raw_clone(CLONE_FS | SIGCHLD);
  if (pid == 0) _exit(chdir("/") == 0 ? 0 : 1);
  CHECK_EXIT(static_cast<pid_t>(pid), 0);
  char cwd[4096];
  CHECK_EQ(std::string(getcwd(cwd, sizeof cwd)), "/");
}

CASE(clone_parent_makes_a_sibling) {
  pid_t me = getpid();
  Turn done;
  pid_t pid = guest::spawn([&] {
    long sibling = raw_clone(CLONE_PARENT | SIGCHLD);
    if (sibling == 0) {
      CHECK_EQ(getppid(), me);
      done.give();
      _exit(guest::failures != 0 ? 1 : 6);
    }
    CHECK_ERRNO(waitpid(static_cast<pid_t>(sibling), nullptr, 0), ECHILD);
  });
  done.take();
  CHECK_EXIT(pid, 0);
  int status = 0;
  CHECK(wait(&status) > 0);
  CHECK_EQ(guest::status_text(status), "exited 6");
}

CASE(clone_vfork_waits) {
  static volatile int value;
  long pid =
      raw_clone(CLONE_VFORK | CLONE_FILES | SIGCHLD);  // own memory, the parent waits nevertheless
  if (pid == 0) {
    guest::sleep_ms(10);
    (void)!write(1, "child\n", 6);
    _exit(0);
  }
  guest::print("parent\n");
  CHECK_EQ(value, 0);
  CHECK_EXIT(static_cast<pid_t>(pid), 0);
}

CASE(flag_rules) {
  CHECK_ERRNO(raw_clone(CLONE_SIGHAND | SIGCHLD), EINVAL);
  CHECK_ERRNO(raw_clone(CLONE_THREAD | CLONE_SIGHAND | SIGCHLD), EINVAL);
}

CASE(clone3_rules) {
  require_clone3();
  CHECK_ERRNO(raw_clone3(CLONE_DETACHED, SIGCHLD), EINVAL);
  CHECK_ERRNO(raw_clone3(SIGCHLD, 0), EINVAL);  // the signal has a field of its own
  CHECK_ERRNO(raw_clone3(0, 65), EINVAL);
  CHECK_ERRNO(raw_clone3(0, SIGCHLD, nullptr, 10), EINVAL);
  CHECK_ERRNO(raw_clone3(0, SIGCHLD, nullptr, 5000), E2BIG);
  CHECK_ERRNO(syscall(SYS_clone3, 8, sizeof(clone_args)), EFAULT);
  CHECK_ERRNO(raw_clone3(CLONE_PIDFD, SIGCHLD, nullptr), EFAULT);
}

CASE(clone3_forks) {
  require_clone3();
  long pid = raw_clone3(0, SIGCHLD);
  if (pid == 0) _exit(9);
  CHECK_EXIT(static_cast<pid_t>(pid), 9);
}

CASE(clone3_with_a_pidfd) {
  require_clone3();
  int pidfd = -1;
  long pid = raw_clone3(CLONE_PIDFD, SIGCHLD, &pidfd);
  if (pid == 0) _exit(10);
  REQUIRE(pidfd >= 0);
  CHECK_EQ(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
  siginfo_t info = {};
  CHECK_OK(waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED));
  CHECK_EQ(info.si_pid, pid);
  CHECK_EQ(info.si_status, 10);
}

CASE(clone3_clears_handlers) {
  require_clone3();
  signal(SIGUSR1, [](int) {});
  signal(SIGUSR2, SIG_IGN);
  long pid = raw_clone3(0x100000000ULL, SIGCHLD);  // CLONE_CLEAR_SIGHAND
  if (pid == 0) {
    struct sigaction action;
    sigaction(SIGUSR1, nullptr, &action);
    if (action.sa_handler != SIG_DFL) _exit(1);
    sigaction(SIGUSR2, nullptr, &action);
    _exit(action.sa_handler == SIG_IGN ? 0 : 2);
  }
  CHECK_EXIT(static_cast<pid_t>(pid), 0);
}

CASE(pidfd_of_a_process) {
  Turn go;
  pid_t pid = fork();
  if (pid == 0) {
    go.take();
    _exit(12);
  }
  int fd = pidfd_open(pid);
  REQUIRE(fd >= 0);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  pollfd entry = {fd, POLLIN, 0};
  CHECK_EQ(poll(&entry, 1, 0), 0);
  go.give();
  CHECK_EQ(poll(&entry, 1, 5000), 1);
  CHECK_EQ(entry.revents & POLLIN, POLLIN);
  CHECK_EXIT(pid, 12);
  CHECK_ERRNO(syscall(kPidfdSendSignal, fd, 0, nullptr, 0), ESRCH);
  char byte;
  CHECK_ERRNO(read(fd, &byte, 1), EINVAL);
}

CASE(pidfd_send_signal) {
  pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  int fd = pidfd_open(pid);
  CHECK_OK(syscall(kPidfdSendSignal, fd, 0, nullptr, 0));
  CHECK_ERRNO(syscall(kPidfdSendSignal, fd, 65, nullptr, 0), EINVAL);
  CHECK_ERRNO(syscall(kPidfdSendSignal, fd, SIGTERM, nullptr, 0x100), EINVAL);
  CHECK_ERRNO(syscall(kPidfdSendSignal, 0, SIGTERM, nullptr, 0), EBADF);
  CHECK_OK(syscall(kPidfdSendSignal, fd, SIGTERM, nullptr, 0));
  CHECK_KILLED(pid, SIGTERM);
}

CASE(pidfd_errors) {
  CHECK_ERRNO(pidfd_open(0x3ffffffe), ESRCH);
  CHECK_ERRNO(pidfd_open(-1), EINVAL);
  CHECK_ERRNO(pidfd_open(getpid(), 0x10), EINVAL);
  siginfo_t info = {};
  CHECK_ERRNO(waitid(static_cast<idtype_t>(P_PIDFD), 0, &info, WEXITED), EBADF);
  int fd = pidfd_open(getpid());
  CHECK_ERRNO(waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(fd), &info, WEXITED),
              ECHILD);
}

CASE(pidfd_getfd) {
  Turn done;
  REQUIRE(guest::write_file("file", "theirs"));
  Turn ready;
  pid_t pid = fork();
  if (pid == 0) {
    dup2(open("file", O_RDONLY), 50);
    ready.give();
    done.take();
    _exit(0);
  }
  ready.take();
  int fd = pidfd_open(pid);
  int taken = static_cast<int>(syscall(kPidfdGetfd, fd, 50, 0));
  if (taken == -1 && (errno == ENOSYS || errno == EPERM)) {
    kill(pid, SIGKILL);
    guest::wait_for(pid);
    guest::skip("pidfd_getfd is refused");
  }
  char buffer[8] = {};
  CHECK_EQ(read(taken, buffer, 6), 6);
  CHECK_EQ(std::string(buffer), "theirs");
  CHECK_EQ(fcntl(taken, F_GETFD), FD_CLOEXEC);
  CHECK_ERRNO(syscall(kPidfdGetfd, fd, 51, 0), EBADF);
  CHECK_ERRNO(syscall(kPidfdGetfd, fd, 50, 1), EINVAL);
  CHECK_ERRNO(syscall(kPidfdGetfd, taken, 50, 0), EBADF);
  done.give();
  CHECK_EXIT(pid, 0);
}
