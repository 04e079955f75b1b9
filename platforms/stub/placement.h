// A tracer and its tracee take turns, so on one CPU a system call costs two context switches; on
// two CPUs it costs two wake-ups of an idle CPU, five times as much and more. Schedulers prefer the
// idle CPU. So pairs that exchange calls quickly are pinned to one CPU together, and pairs that
// compute, wait or crowd one CPU are let loose again for the scheduler to place.
#pragma once
#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "src/base/sync.h"

namespace boxrun::platform {

// One per platform instance. Its thread runs only while pairs are pinned; it is started by the
// first, which is after the Sentry was sealed.
class Placement {
 public:
  Placement();
  ~Placement();

  // One pair: a host thread, which makes every call, and the stub thread it traces at the time.
  class Pair {
   public:
    explicit Pair(Placement& placement);
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    ~Pair() { leave(); }

    // New threads inherit the affinity of whoever made them: begins by undoing that.
    void enter(pid_t stub_thread);
    void leave();
    // Around everything that makes guest code run.
    void guest_runs() {
      turns_.store(turns_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      if (!pinned_.load(std::memory_order_relaxed)) began_ = std::chrono::steady_clock::now();
    }
    void guest_stopped() {
      if (!pinned_.load(std::memory_order_relaxed)) judge();
    }

   private:
    friend class Placement;
    void judge();

    Placement& placement_;
    const pid_t host_thread_;
    pid_t stub_thread_ = 0;            // placement_.mutex_ for writing
    std::atomic<uint32_t> turns_{0};   // written by the host thread
    std::atomic<bool> pinned_{false};  // placement_.mutex_ for writing
    int cpu_ = -1;                     // placement_.mutex_; where, while pinned
    uint32_t seen_turns_ = 0;          // placement_.mutex_; turns_ at the last tick
    int short_turns_ = 0;              // in a row, while not pinned; host thread only
    std::chrono::steady_clock::time_point began_;
  };

 private:
  enum class IfCrowded : uint8_t { kPin, kLeaveLoose };
  void pin(Pair& pair, IfCrowded if_crowded);
  void unpin_locked(Pair& pair) REQUIRES(mutex_);
  bool crowded(int cpu) const REQUIRES(mutex_);
  void tick(bool spread) REQUIRES(mutex_);
  void watch();

  cpu_set_t allowed_;  // what the process may use; constant
  Mutex mutex_{Rank::kStubSeed};
  CondVar changed_;
  std::vector<Pair*> pinned_ GUARDED_BY(mutex_);
  std::thread watcher_ GUARDED_BY(mutex_);
  bool ending_ GUARDED_BY(mutex_) = false;
};

}  // namespace boxrun::platform
