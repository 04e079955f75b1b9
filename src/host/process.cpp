#include "src/host/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace boxrun::host {

Result<UniqueFd> pidfd_of_self() {
  return own_fd(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
}

void die_with_parent(int parent_pidfd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // A parent that died before the line above sends nothing any more; its pidfd is readable then.
  pollfd parent = {parent_pidfd, POLLIN, 0};
  if (::poll(&parent, 1, 0) != 0) ::_exit(125);
}

Result<void> become_subreaper() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) return last_error();
  return {};
}

Result<void> close_all_but(std::span<const int> keep) {
  std::vector<int> sorted(keep.begin(), keep.end());
  std::sort(sorted.begin(), sorted.end());
  unsigned first = STDERR_FILENO + 1;
  const auto close_until = [&first](unsigned end) -> Result<void> {
    if (end > first && ::syscall(SYS_close_range, first, end - 1, 0) < 0) return last_error();
    return {};
  };
  for (const int fd : sorted) {
    if (fd < static_cast<int>(first)) continue;
    TRY(close_until(static_cast<unsigned>(fd)));
    first = static_cast<unsigned>(fd) + 1;
  }
  if (::syscall(SYS_close_range, first, UINT_MAX, 0) < 0) return last_error();
  return {};
}

uint64_t ignored_signals() {
  uint64_t ignored = 0;
  for (int signo = 1; signo < NSIG; signo++) {
    struct sigaction action = {};
    if (::sigaction(signo, nullptr, &action) == 0 && action.sa_handler == SIG_IGN)
      ignored |= uint64_t{1} << (signo - 1);
  }
  return ignored;
}

void ignore_broken_pipes() {
  struct sigaction action = {};
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
}

void shield_from_group_signals() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int signo = 1; signo < NSIG; signo++) ::sigaction(signo, &action, nullptr);
  ignore_broken_pipes();
  // Nor is a write beyond RLIMIT_FSIZE.
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGXFSZ, &action, nullptr);

  sigset_t blocked;
  ::sigemptyset(&blocked);
  for (const int signo : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGTSTP, SIGTTIN,
                          SIGTTOU, SIGWINCH, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR}) {
    ::sigaddset(&blocked, signo);
  }
  ::pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

std::array<bool, 3> occupy_standard_streams() {
  std::array<bool, 3> open{};
  for (int fd = 0; fd < 3; fd++) {
    open[static_cast<size_t>(fd)] = ::fcntl(fd, F_GETFD) >= 0;
    // The lowest free number is fd itself: those below are taken.
    if (!open[static_cast<size_t>(fd)] && ::open("/dev/null", O_RDWR) < 0) ::eventfd(0, 0);
  }
  return open;
}

void release_standard_streams() {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) null.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO}) ::dup2(null.get(), fd);
}

Result<void> set_resource_limits() {
  const rlimit core = {1, 1};
  if (::setrlimit(RLIMIT_CORE, &core) < 0) return last_error();
  rlimit files = {};
  if (::getrlimit(RLIMIT_NOFILE, &files) < 0) return last_error();
  files.rlim_cur = files.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &files) < 0) return last_error();
  return {};
}

void wipe_environment() {
  for (char** variable = environ; variable != nullptr && *variable != nullptr; variable++) {
    ::explicit_bzero(*variable, ::strlen(*variable));
  }
  ::clearenv();  // NOLINT(concurrency-mt-unsafe): the process has one thread yet
}

}  // namespace boxrun::host
