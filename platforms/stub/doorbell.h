#pragma once
#include <sys/types.h>

#include <atomic>

#include "src/base/sync.h"

namespace boxrun::platform {

// How Context::interrupt() reaches a guest thread: the latch is the truth, the signal kDoorbell
// only makes run() look at it. run() says it runs before it looks for the last time, and ring()
// looks after latching, so one of the two sees the other. ring() is for any thread, the rest for
// the context's own.
class Doorbell {
 public:
  void ring();
  bool latched() const { return latched_.load(); }
  // Whether it rang since it was last answered.
  bool answer() { return latched() && latched_.exchange(false); }
  void set_running(bool running) {
    // Only the look at the latch that follows `true` must not come before it.
    running_.store(running, running ? std::memory_order_seq_cst : std::memory_order_release);
  }
  // Whose doorbell it is; a thread of 0: nobody's.
  void attach(pid_t process, pid_t thread);
  void detach() { attach(0, 0); }

 private:
  std::atomic<bool> latched_{false};
  std::atomic<bool> running_{false};
  Mutex mutex_{Rank::kSleeper};
  pid_t process_ GUARDED_BY(mutex_) = 0;
  pid_t thread_ GUARDED_BY(mutex_) = 0;
};

}  // namespace boxrun::platform
