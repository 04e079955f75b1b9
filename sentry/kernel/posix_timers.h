#pragma once
#include <signal.h>
#include <sys/time.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "sentry/kernel/cpu_clock.h"
#include "sentry/kernel/fwd.h"
#include "sentry/kernel/signal_state.h"
#include "sentry/time/clock.h"
#include "sentry/time/timer_queue.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::kernel {

// What a timer counts against.
enum class TimerClock : uint8_t {
  kMonotonic,
  kRealtime,
  kBoottime,
  kProcessCpu,   // of the timer's own process
  kProcessUser,  // as above, user time alone
  kCpuClock,     // of any process or thread: see CpuClock
};

// When a timer goes off next, and how often from then on; both relative, 0 is "disarmed" or "once".
struct TimerSetting {
  Nanos value = 0;
  Nanos interval = 0;
};

// A timer that counts and reloads; what happens on expiry is up to the derived class. CPU-time
// clocks cannot be waited for, so the queue looks again when the remaining time could have been
// used up by all threads of the process. Thread-safe.
class CountingTimer : public Timer {
 public:
  CountingTimer(Kernel& kernel, TimerClock clock) : kernel_(kernel), clock_(clock) {}
  // Arms from now on; an absolute `value` counts by the clock itself. Returns the former setting.
  // Never with a lock held.
  TimerSetting set(TimerSetting setting, bool absolute) EXCLUDES(mutex_);
  TimerSetting get() const EXCLUDES(mutex_);
  // Disarms it for good: a set() that comes later does nothing. Before the owner lets go of it.
  void retire() EXCLUDES(mutex_);

 protected:
  ~CountingTimer() override = default;
  // `count` expirations happened (more than one when the host was late). On the queue's thread,
  // no lock held.
  virtual void fire(uint64_t count) = 0;
  // These two are called without our lock, because they take the signal lock.
  virtual Nanos now() const;
  virtual size_t cpu_share() const { return 1; }  // threads that may use up CPU time at once
  Kernel& kernel_;
  const TimerClock clock_;

 private:
  void expired() final EXCLUDES(mutex_);
  void rearm_locked(Nanos now, size_t share) REQUIRES(mutex_);
  TimerSetting get_locked(Nanos now) const REQUIRES(mutex_);

  mutable Mutex mutex_{Rank::kTask};
  std::optional<Nanos> next_ GUARDED_BY(mutex_);  // by clock_; none: disarmed
  Nanos interval_ GUARDED_BY(mutex_) = 0;
  bool retired_ GUARDED_BY(mutex_) = false;
};

// One timer of timer_create(2). Owned by its process and, while its signal is queued, by the queue.
class PosixTimer final : public SignalSource, public CountingTimer {
 public:
  struct Target {
    int notify = SIGEV_SIGNAL;  // SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD_ID
    int signo = SIGALRM;
    sigval value{};
    pid_t tid = 0;  // SIGEV_THREAD_ID
  };
  struct ClockChoice {
    TimerClock clock;
    CpuClock cpu;  // with kCpuClock
  };
  PosixTimer(ThreadGroup& group, int id, ClockChoice clock, Target target);
  const int id;

  // Overruns of the last delivered signal (timer_getoverrun(2)).
  int overrun() const { return delivered_overrun_.load(std::memory_order_relaxed); }
  void forget_overruns() {
    pending_overrun_.store(0, std::memory_order_relaxed);
    delivered_overrun_.store(0, std::memory_order_relaxed);
  }
  int delivered() override;

 private:
  void fire(uint64_t count) override;
  Nanos now() const override;
  size_t cpu_share() const override;

  ThreadGroup& group_;  // outlives its timers: it deletes them when it exits
  const CpuClock cpu_clock_;
  const Target target_;
  std::atomic<int64_t> pending_overrun_{0};
  std::atomic<int> delivered_overrun_{0};
};

// The timers of one process: setitimer(2), timer_create(2), RLIMIT_CPU. Thread-safe; no method is
// called with a lock held.
class ProcessTimers {
 public:
  explicit ProcessTimers(ThreadGroup& group);
  ~ProcessTimers();

  // `which`: ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF, else EINVAL.
  Result<TimerSetting> set_interval(int which, TimerSetting setting);
  Result<TimerSetting> get_interval(int which) const;

  // EINVAL: clock, notification or signal unknown; EOPNOTSUPP: nothing can wait for the clock;
  // EAGAIN: over RLIMIT_SIGPENDING timers. Without a target: SIGALRM with the timer's id as its
  // value (timer_create(2)).
  Result<int> create(Task& task, clockid_t clock, std::optional<PosixTimer::Target> target);
  Result<TimerSetting> set(int id, TimerSetting setting, bool absolute);
  Result<TimerSetting> get(int id);
  Result<int> overrun(int id);
  Result<void> remove(int id);
  // execve(2) and exit delete POSIX timers; exit stops the others, too.
  void remove_all();
  void stop_intervals();

  // RLIMIT_CPU changed, or the first task started.
  void watch_cpu_limit();

 private:
  class IntervalTimer;
  class CpuLimit;
  static Result<PosixTimer::ClockChoice> choose_clock(Task& task, clockid_t clock);
  Result<Ref<PosixTimer>> find(int id) EXCLUDES(mutex_);
  // Stops a timer that is in no table any more and takes back its signal.
  void retire(PosixTimer& timer);

  ThreadGroup& group_;
  std::array<std::unique_ptr<IntervalTimer>, 3> intervals_;
  std::unique_ptr<CpuLimit> cpu_limit_;
  mutable Mutex mutex_{Rank::kTask};
  std::map<int, Ref<PosixTimer>> timers_ GUARDED_BY(mutex_);
  int next_id_ GUARDED_BY(mutex_) = 0;
};

}  // namespace boxrun::kernel
