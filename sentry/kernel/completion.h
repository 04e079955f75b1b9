#pragma once
#include <atomic>
#include <climits>

#include "sentry/wait/wait.h"
#include "src/base/ref.h"

namespace boxrun::kernel {

// Something that happens once: the end of a vfork. Shared by who waits and who completes.
class Completion final : public RefCounted {
 public:
  void complete() {
    done_.store(true, std::memory_order_release);
    waiters_.notify(kReadable, INT_MAX);
  }
  bool done() const { return done_.load(std::memory_order_acquire); }
  WaitQueue& waiters() { return waiters_; }

 private:
  std::atomic<bool> done_{false};
  WaitQueue waiters_;
};

}  // namespace boxrun::kernel
