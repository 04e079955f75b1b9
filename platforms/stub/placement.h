// A guest thread and the host thread that serves it take turns. Where both run decides what a turn
// costs: two context switches on one CPU; two wake-ups of an idle CPU, five times as much and more,
// when they sleep on two; next to nothing when they wait awake on two. Schedulers prefer the idle
// CPU and nobody can wait awake for long. So pairs that exchange calls quickly are pinned to one
// CPU together; those that do little else, while CPUs are idle, are pinned to two and spin for the
// other's turn; and pairs that compute, wait or crowd one CPU are let loose for the scheduler to
// place.
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
  enum class Waiting : uint8_t {
    kAsleep,  // turns are handed over by the host kernel only
    kAwake,   // both sides can spin
  };

  explicit Placement(Waiting waiting);
  ~Placement();

  // How often a pair got two CPUs.
  uint64_t separations() const { return separations_.load(std::memory_order_relaxed); }

  // One pair: a host thread, which makes every call, and the stub thread it serves at the time.
  class Pair {
   public:
    explicit Pair(Placement& placement);
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    ~Pair();

    // New threads inherit the affinity of whoever made them: begins by undoing that.
    void enter(pid_t stub_thread);
    void leave();
    // Around everything that makes guest code run.
    void guest_runs() {
      turns_.store((turns_.load(std::memory_order_relaxed) + 1) | 1, std::memory_order_relaxed);
      if (mode_.load(std::memory_order_relaxed) == Mode::kLoose) began_ = Clock::now();
    }
    void guest_stopped() {
      const uint32_t turns = (turns_.load(std::memory_order_relaxed) | 1) + 1;
      turns_.store(turns, std::memory_order_relaxed);
      if (mode_.load(std::memory_order_relaxed) == Mode::kLoose) {
        judge_turn();
      } else if (turns - window_turns_ >= 2 * kWindow && placement_.waiting_ == Waiting::kAwake) {
        judge_window(turns);
      }
    }
    // How often either side may look for its turn before it sleeps: with a pause in between, or
    // with kYield, letting the other side run in between. 0: not at all. It can change at any
    // moment.
    static constexpr uint32_t kYield = uint32_t{1} << 31;
    uint32_t looks() const { return looks_.load(std::memory_order_relaxed); }
    // One of the two slept although it may spin.
    void missed() { misses_++; }

   private:
    friend class Placement;
    using Clock = std::chrono::steady_clock;
    enum class Mode : uint8_t { kLoose, kTogether, kApart };
    // Turns between two looks at the clock, while pinned.
    static constexpr uint32_t kWindow = 64;

    void judge_turn();
    void judge_window(uint32_t turns);
    void judge_apart(Clock::time_point now, Clock::duration window);

    Placement& placement_;
    const pid_t host_thread_;
    pid_t stub_thread_ = 0;                 // placement_.mutex_ for writing
    std::atomic<uint32_t> turns_{0};        // written by the host thread; odd while the guest runs
    std::atomic<Mode> mode_{Mode::kLoose};  // placement_.mutex_ for writing
    std::atomic<uint32_t> looks_{0};        // placement_.mutex_ for writing
    int cpu_ = -1;                          // placement_.mutex_; of the stub thread, while pinned
    int host_cpu_ = -1;                     // placement_.mutex_; of the host thread
    uint32_t seen_turns_ = 0;               // placement_.mutex_; turns_ at the last tick
    bool active_ = false;                   // placement_.mutex_; between the last two ticks
    size_t index_ = 0;                      // placement_.mutex_; in placement_.pairs_
    // Of the host thread alone.
    int short_turns_ = 0;  // in a row, while loose
    Clock::time_point began_;
    Clock::time_point window_began_;
    uint32_t window_turns_ = 0;   // turns_ at that time
    Clock::duration together_{};  // the last window together before the pair was set apart
    Clock::time_point next_try_;
    Clock::duration backoff_{};
    uint32_t misses_ = 0;        // in this window
    uint32_t good_windows_ = 0;  // apart, in a row
  };

 private:
  enum class IfCrowded : uint8_t { kPin, kLeaveLoose };
  void pin(Pair& pair, IfCrowded if_crowded);
  // Whether the host thread got a CPU of its own.
  bool separate(Pair& pair);
  void join(Pair& pair);
  void join_locked(Pair& pair) REQUIRES(mutex_);
  uint32_t looks_together() const;
  void unpin_locked(Pair& pair) REQUIRES(mutex_);
  bool crowded(int cpu) const REQUIRES(mutex_);
  int idle_cpu() const REQUIRES(mutex_);
  // How many CPUs pairs keep busy, those included that spin; counted up to `enough`.
  int busy_cpus(int enough) const REQUIRES(mutex_);
  void tick(bool spread) REQUIRES(mutex_);
  void watch();

  const Waiting waiting_;
  std::atomic<uint64_t> separations_{0};
  cpu_set_t allowed_;  // what the process may use; constant
  int cpus_;           // of them; constant
  Mutex mutex_{Rank::kStubSeed};
  CondVar changed_;
  std::vector<Pair*> pairs_ GUARDED_BY(mutex_);
  std::vector<Pair*> pinned_ GUARDED_BY(mutex_);
  std::thread watcher_ GUARDED_BY(mutex_);
  bool ending_ GUARDED_BY(mutex_) = false;
};

}  // namespace boxrun::platform
