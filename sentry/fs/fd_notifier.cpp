#include "sentry/fs/fd_notifier.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

namespace boxrun::fs {
namespace {

constexpr uint64_t kWakeId = 0;

Result<void> add(int epoll, int fd, uint32_t events, uint64_t id) {
  epoll_event event{.events = events, .data = {.u64 = id}};
  TRY(host_result(::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)));
  return {};
}

}  // namespace

Result<std::unique_ptr<FdNotifier>> FdNotifier::create() {
  UniqueFd epoll = TRY(own_fd(::epoll_create1(EPOLL_CLOEXEC)));
  UniqueFd wake = TRY(own_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
  TRY(add(epoll.get(), wake.get(), EPOLLIN, kWakeId));
  return std::unique_ptr<FdNotifier>(new FdNotifier(std::move(epoll), std::move(wake)));
}

void FdNotifier::start() {
  // Signals are for other threads.
  sigset_t all;
  sigset_t old;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &old);
  thread_ = std::jthread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

FdNotifier::~FdNotifier() {
  stop_.store(true);
  const uint64_t one = 1;
  // An eventfd takes the first write always.
  static_cast<void>(::write(wake_.get(), &one, sizeof one) == sizeof one);
}

void FdNotifier::run() {
  constexpr int kBatch = 32;
  epoll_event events[kBatch];
  while (!stop_.load()) {
    const int count = ::epoll_wait(epoll_.get(), events, kBatch, -1);
    for (int i = 0; i < count; i++) {
      // Under the lock, so that a watch that has been destroyed is not notified any more.
      Lock lock(mutex_);
      const auto at = queues_.find(events[i].data.u64);
      if (at == queues_.end()) continue;
      Events seen = events[i].events;
      if ((seen & EPOLLIN) != 0) seen |= kReadable;
      if ((seen & EPOLLOUT) != 0) seen |= kWritable;
      at->second->notify(seen, INT32_MAX);
    }
  }
}

Result<std::unique_ptr<FdNotifier::Watch>> FdNotifier::watch(int fd, WaitQueue& queue) {
  uint64_t id = 0;
  {
    Lock lock(mutex_);
    id = next_id_++;
    queues_.emplace(id, &queue);
  }
  const Result<void> added =
      add(epoll_.get(), fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET, id);
  if (added.ok()) return std::unique_ptr<Watch>(new Watch(*this, id, fd));
  Lock lock(mutex_);
  queues_.erase(id);
  if (added.error() == Errno::kPerm) return std::unique_ptr<Watch>();
  return added.error();
}

FdNotifier::Watch::~Watch() {
  ::epoll_ctl(notifier_.epoll_.get(), EPOLL_CTL_DEL, fd_, nullptr);
  Lock lock(notifier_.mutex_);
  notifier_.queues_.erase(id_);
}

}  // namespace boxrun::fs
