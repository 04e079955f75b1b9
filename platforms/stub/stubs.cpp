#include "platforms/stub/stubs.h"

#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <iterator>
#include <utility>

namespace boxrun::platform {

void Stubs::bury_all() {
  std::vector<Dying> all;
  {
    Lock lock(mutex_);
    std::swap(all, dying_);
  }
  for (const Dying& dying : all) {
    while (::wait4(dying.process, nullptr, __WALL, nullptr) < 0 && errno == EINTR) {
    }
    if (dying.gone) dying.gone();
  }
}

void Stubs::bury(pid_t process, std::function<void()> gone) {
  std::vector<Dying> ended;
  {
    Lock lock(mutex_);
    dying_.push_back({process, std::move(gone)});
    const auto first_ended = std::partition(dying_.begin(), dying_.end(), [](const Dying& dying) {
      return ::wait4(dying.process, nullptr, __WALL | WNOHANG, nullptr) == 0;
    });
    ended.assign(std::make_move_iterator(first_ended), std::make_move_iterator(dying_.end()));
    dying_.erase(first_ended, dying_.end());
  }
  for (const Dying& dying : ended) {
    if (dying.gone) dying.gone();
  }
}

uint64_t lowest_user_address() {
  constexpr uint64_t kDefault = 64 << 10;
  UniqueFd fd(::open("/proc/sys/vm/mmap_min_addr", O_RDONLY | O_CLOEXEC));
  char text[32];
  const ssize_t n = fd ? ::read(fd.get(), text, sizeof text) : -1;
  uint64_t value = 0;
  if (n > 0) std::from_chars(text, text + n, value);
  return std::max(kDefault, page_up(value).value_or(kDefault));
}

void silence_child_stops() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  action.sa_flags = SA_NOCLDSTOP;
  ::sigaction(SIGCHLD, &action, nullptr);
}

Result<UniqueFd> watch_losses() {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  // Blocked, it stays pending for the descriptor although its default is to be ignored.
  ::pthread_sigmask(SIG_BLOCK, &child, nullptr);
  return own_fd(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace boxrun::platform
