#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <thread>

#include "sentry/wait/wait.h"
#include "src/base/fd.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::fs {

// Feeds WaitQueues from host descriptors: one thread that waits with epoll for all of them.
// Edge-triggered: a queue hears of every change, and its file asks the host what is ready.
class FdNotifier {
 public:
  // Makes the host descriptors; before sealing.
  static Result<std::unique_ptr<FdNotifier>> create();
  // Starts the thread; after the last fork, before the first watch.
  void start();
  ~FdNotifier();  // no watch is left
  FdNotifier(const FdNotifier&) = delete;
  FdNotifier& operator=(const FdNotifier&) = delete;

  // Notifies `queue` from now until the watch is destroyed; both it and `fd` outlive the watch.
  // Null for a descriptor that never blocks (EPERM of epoll_ctl(2)): a regular file, /dev/null.
  class Watch {
   public:
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    friend class FdNotifier;
    Watch(FdNotifier& notifier, uint64_t id, int fd) : notifier_(notifier), id_(id), fd_(fd) {}
    FdNotifier& notifier_;
    const uint64_t id_;
    const int fd_;
  };
  Result<std::unique_ptr<Watch>> watch(int fd, WaitQueue& queue) EXCLUDES(mutex_);

 private:
  FdNotifier(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  void run();

  const UniqueFd epoll_;
  const UniqueFd wake_;  // an eventfd that ends the thread
  Mutex mutex_{Rank::kTimers};
  uint64_t next_id_ GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, WaitQueue*> queues_ GUARDED_BY(mutex_);
  std::atomic<bool> stop_{false};
  std::jthread thread_;
};

}  // namespace boxrun::fs
