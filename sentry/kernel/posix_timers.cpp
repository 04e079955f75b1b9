#include "sentry/kernel/posix_timers.h"

#include <algorithm>
#include <climits>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/signals.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"

namespace boxrun::kernel {
namespace {

constexpr bool counts_cpu(TimerClock clock) {
  return clock == TimerClock::kProcessCpu || clock == TimerClock::kProcessUser ||
         clock == TimerClock::kCpuClock;
}
// How soon a CPU-time clock is looked at again, at least and at most.
constexpr Nanos kShortestLook = kSecond / 1000;

Nanos saturating_add(Nanos a, Nanos b) {
  Nanos sum;
  return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

}  // namespace

Nanos CountingTimer::now() const {
  const Clock& clock = kernel_.clock();
  switch (clock_) {
    case TimerClock::kRealtime:
      return clock.realtime();
    case TimerClock::kBoottime:
      return clock.boottime();
    default:
      return clock.monotonic();
  }
}

TimerSetting CountingTimer::get_locked(Nanos now) const {
  if (!next_) return {0, interval_};
  // A timer that is due but has not fired yet still shows a nanosecond (timer_gettime(2)).
  return {std::max<Nanos>(1, *next_ - now), interval_};
}

TimerSetting CountingTimer::get() const {
  const Nanos at = now();
  Lock lock(mutex_);
  return get_locked(at);
}

TimerSetting CountingTimer::set(TimerSetting setting, bool absolute) {
  // Without our lock: disarm waits for a running expired(), which takes it.
  kernel_.timers().disarm(*this);
  const Nanos at = now();
  const size_t share = cpu_share();
  Lock lock(mutex_);
  const TimerSetting old = get_locked(at);
  next_ = std::nullopt;
  interval_ = setting.value == 0 ? 0 : setting.interval;
  if (setting.value == 0 || retired_) return old;
  next_ = absolute ? setting.value : saturating_add(at, setting.value);
  rearm_locked(at, share);
  return old;
}

void CountingTimer::retire() {
  {
    Lock lock(mutex_);
    retired_ = true;
    next_ = std::nullopt;
  }
  kernel_.timers().disarm(*this);
}

void CountingTimer::rearm_locked(Nanos now, size_t share) {
  if (!next_) return;
  Nanos wait = std::max<Nanos>(0, *next_ - now);
  if (counts_cpu(clock_)) {
    wait = std::max(kShortestLook, wait / static_cast<Nanos>(std::max<size_t>(1, share)));
  }
  kernel_.timers().arm(*this, saturating_add(kernel_.clock().monotonic(), wait));
}

void CountingTimer::expired() {
  const Nanos at = now();
  const size_t share = cpu_share();
  uint64_t count = 0;
  {
    Lock lock(mutex_);
    if (!next_) return;
    if (at >= *next_) {
      count = 1;
      if (interval_ > 0) {
        count += static_cast<uint64_t>((at - *next_) / interval_);
        next_ = saturating_add(*next_, static_cast<Nanos>(count) * interval_);
      } else {
        next_ = std::nullopt;
      }
    }
    rearm_locked(at, share);
  }
  if (count != 0) fire(count);
}

// --- POSIX timers

PosixTimer::PosixTimer(ThreadGroup& group, int timer_id, ClockChoice clock, Target target)
    : CountingTimer(group.kernel(), clock.clock),
      id(timer_id),
      group_(group),
      cpu_clock_(std::move(clock.cpu)),
      target_(target) {}

Nanos PosixTimer::now() const {
  return clock_ == TimerClock::kCpuClock ? cpu_clock_.now() : CountingTimer::now();
}

size_t PosixTimer::cpu_share() const {
  const bool whole_process = cpu_clock_.process && !cpu_clock_.thread;
  return whole_process ? cpu_clock_.process->task_count() : 1;
}

void PosixTimer::fire(uint64_t count) {
  if (target_.notify == SIGEV_NONE) return;
  SigInfo info{};
  info.si_signo = target_.signo;
  info.si_code = SI_TIMER;
  info.si_timerid = id;
  info.si_value = target_.value;
  Ref<Task> task;
  if (target_.notify == SIGEV_THREAD_ID) {
    task = group_.find_task(target_.tid);
    if (!task) return;  // the thread is gone, and its signal with it
  }
  // All but the expiration that queues the signal are overruns.
  pending_overrun_.fetch_add(static_cast<int64_t>(count), std::memory_order_relaxed);
  send_timer_signal(group_, task.get(), info, Ref<SignalSource>(this));
}

int PosixTimer::delivered() {
  const int64_t missed = pending_overrun_.exchange(0, std::memory_order_relaxed) - 1;
  const int overrun = static_cast<int>(std::clamp<int64_t>(missed, 0, INT_MAX));  // DELAYTIMER_MAX
  delivered_overrun_.store(overrun, std::memory_order_relaxed);
  return overrun;
}

// --- interval timers

class ProcessTimers::IntervalTimer final : public CountingTimer {
 public:
  IntervalTimer(ThreadGroup& group, TimerClock clock, int signo)
      : CountingTimer(group.kernel(), clock), group_(group), signo_(signo) {}
  ~IntervalTimer() override { retire(); }

 private:
  void fire(uint64_t) override { (void)send_to_group(group_, kernel_signal(signo_)); }
  Nanos now() const override {
    if (clock_ == TimerClock::kMonotonic) return CountingTimer::now();
    const CpuTimes used = group_.cpu_times();
    return clock_ == TimerClock::kProcessUser ? used.user : used.user + used.system;
  }
  size_t cpu_share() const override { return group_.task_count(); }

  ThreadGroup& group_;
  const int signo_;
};

// RLIMIT_CPU: SIGXCPU at the soft limit and every second from then on, SIGKILL at the hard one.
class ProcessTimers::CpuLimit final : public CountingTimer {
 public:
  explicit CpuLimit(ThreadGroup& group)
      : CountingTimer(group.kernel(), TimerClock::kProcessCpu), group_(group) {}
  ~CpuLimit() override { retire(); }

  void watch() {
    const uint64_t soft = group_.limits().soft(RLIMIT_CPU);
    // As at the start of nearly every process: there is nothing to stop either.
    if (soft >= INT64_MAX / kSecond && get().value == 0) return;
    if (soft >= INT64_MAX / kSecond) return static_cast<void>(set({}, false));
    set({std::max<Nanos>(static_cast<Nanos>(soft) * kSecond, 1), kSecond}, true);
  }

 private:
  void fire(uint64_t) override {
    const Result<ResourceLimit> limit = group_.limits().get(RLIMIT_CPU);
    const bool over = limit.ok() && static_cast<uint64_t>(now() / kSecond) >= limit->hard;
    (void)send_to_group(group_, kernel_signal(over ? SIGKILL : SIGXCPU));
  }
  Nanos now() const override {
    const CpuTimes used = group_.cpu_times();
    return used.user + used.system;
  }
  size_t cpu_share() const override { return group_.task_count(); }

  ThreadGroup& group_;
};

ProcessTimers::ProcessTimers(ThreadGroup& group) : group_(group) {
  intervals_[ITIMER_REAL] = std::make_unique<IntervalTimer>(group, TimerClock::kMonotonic, SIGALRM);
  intervals_[ITIMER_VIRTUAL] =
      std::make_unique<IntervalTimer>(group, TimerClock::kProcessUser, SIGVTALRM);
  intervals_[ITIMER_PROF] =
      std::make_unique<IntervalTimer>(group, TimerClock::kProcessCpu, SIGPROF);
  cpu_limit_ = std::make_unique<CpuLimit>(group);
}

ProcessTimers::~ProcessTimers() { remove_all(); }

Result<TimerSetting> ProcessTimers::set_interval(int which, TimerSetting setting) {
  if (which < 0 || which > ITIMER_PROF) return Errno::kInval;
  return intervals_[static_cast<size_t>(which)]->set(setting, false);
}

Result<TimerSetting> ProcessTimers::get_interval(int which) const {
  if (which < 0 || which > ITIMER_PROF) return Errno::kInval;
  return intervals_[static_cast<size_t>(which)]->get();
}

Result<PosixTimer::ClockChoice> ProcessTimers::choose_clock(Task& task, clockid_t clock) {
  if (is_cpu_clock(clock)) {
    return PosixTimer::ClockChoice{TimerClock::kCpuClock, TRY(find_cpu_clock(task, clock))};
  }
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_TAI:
      return PosixTimer::ClockChoice{TimerClock::kRealtime, {}};
    case CLOCK_MONOTONIC:
      return PosixTimer::ClockChoice{TimerClock::kMonotonic, {}};
    case CLOCK_BOOTTIME:
      return PosixTimer::ClockChoice{TimerClock::kBoottime, {}};
    // What waking a sleeping machine takes (CAP_WAKE_ALARM) is no business of a sandbox.
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
      return Errno::kPerm;
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
      return Errno::kOpNotSupp;
    default:
      return Errno::kInval;
  }
}

Result<int> ProcessTimers::create(Task& task, clockid_t clock,
                                  std::optional<PosixTimer::Target> wanted) {
  PosixTimer::ClockChoice choice = TRY(choose_clock(task, clock));
  PosixTimer::Target target = wanted.value_or(PosixTimer::Target{});
  switch (target.notify) {
    case SIGEV_NONE:
      break;
    case SIGEV_THREAD_ID:
      if (!group_.find_task(target.tid)) return Errno::kInval;
      [[fallthrough]];
    case SIGEV_SIGNAL:
    case SIGEV_THREAD:
      if (!valid_signal(target.signo)) return Errno::kInval;
      break;
    default:
      return Errno::kInval;
  }
  Lock lock(mutex_);
  if (timers_.size() >= group_.limits().soft(RLIMIT_SIGPENDING)) return Errno::kAgain;
  while (timers_.contains(next_id_)) next_id_ = next_id_ == INT_MAX ? 0 : next_id_ + 1;
  const int id = next_id_++;
  if (next_id_ < 0) next_id_ = 0;
  if (!wanted) target.value.sival_int = id;
  timers_.emplace(id, make_ref<PosixTimer>(group_, id, std::move(choice), target));
  return id;
}

Result<Ref<PosixTimer>> ProcessTimers::find(int id) {
  Lock lock(mutex_);
  const auto at = timers_.find(id);
  if (at == timers_.end()) return Errno::kInval;
  return at->second;
}

Result<TimerSetting> ProcessTimers::set(int id, TimerSetting setting, bool absolute) {
  const Ref<PosixTimer> timer = TRY(find(id));
  // A signal of the former setting must not be taken for one of the new.
  const TimerSetting old = timer->set(setting, absolute);
  timer->forget_overruns();
  return old;
}

Result<TimerSetting> ProcessTimers::get(int id) { return TRY(find(id))->get(); }

Result<int> ProcessTimers::overrun(int id) { return TRY(find(id))->overrun(); }

void ProcessTimers::retire(PosixTimer& timer) {
  timer.retire();
  SignalLock lock(group_);
  group_.signals(lock).shared.remove_from(timer);
  for (Task* task : group_.signals(lock).tasks) task->signals(lock).pending.remove_from(timer);
}

Result<void> ProcessTimers::remove(int id) {
  Ref<PosixTimer> timer;
  {
    Lock lock(mutex_);
    const auto at = timers_.find(id);
    if (at == timers_.end()) return Errno::kInval;
    timer = std::move(at->second);
    timers_.erase(at);
  }
  retire(*timer);
  return {};
}

void ProcessTimers::remove_all() {
  std::map<int, Ref<PosixTimer>> gone;
  {
    Lock lock(mutex_);
    gone.swap(timers_);
  }
  for (const auto& [id, timer] : gone) retire(*timer);
}

void ProcessTimers::stop_intervals() {
  for (const auto& timer : intervals_) timer->retire();
  cpu_limit_->retire();
}

void ProcessTimers::watch_cpu_limit() { cpu_limit_->watch(); }

}  // namespace boxrun::kernel
