#include "sentry/syscalls/time.h"

#include <chrono>

#include "sentry/kernel/cpu_clock.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

// A CPU clock does not tell when it will show a time: how often it is looked at, at most.
constexpr Nanos kShortestNap = kSecond / 1000;

Result<Nanos> now_on(Task& task, clockid_t id) {
  const Clock& clock = task.kernel().clock();
  if (kernel::is_cpu_clock(id)) return TRY(kernel::find_cpu_clock(task, id)).now();
  switch (id) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_TAI:
      return clock.realtime();
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW:
      return clock.monotonic();
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
      return clock.boottime();
    default:
      return Errno::kInval;
  }
}

// Sleeps until `clock` shows `until`; the host's steady clock is what is waited on, so a sleep on
// another clock looks again when it wakes.
Result<void> sleep_on(Task& task, clockid_t clock, Nanos until) {
  for (;;) {
    const Nanos left = until - TRY(now_on(task, clock));
    if (left <= 0) return {};
    const Nanos nap = kernel::is_cpu_clock(clock) ? std::max(left, kShortestNap) : left;
    TRY(task.sleep_until(deadline_in(nap)));
  }
}

Result<uint64_t> sleep_for(Task& task, clockid_t clock, Nanos until, UserOut<timespec> left_out) {
  const auto slept = sleep_on(task, clock, until);
  if (slept.ok()) return uint64_t{0};
  if (slept.error() != Errno::kIntr) return slept.error();
  const Nanos left = std::max<Nanos>(until - TRY(now_on(task, clock)), 0);
  if (left_out) TRY(task.mm().write(left_out, to_timespec(left)));
  task.set_restart([clock, until, left_out](Task& restarted) {
    return sleep_for(restarted, clock, until, left_out);
  });
  return Errno::kRestartBlock;
}

bool can_sleep_on(clockid_t clock) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_TAI:
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
      return true;
    default:
      return kernel::is_cpu_clock(clock);
  }
}

kernel::TimerSetting to_setting(const itimerval& v) {
  const auto nanos = [](const timeval& t) { return from_timespec({t.tv_sec, t.tv_usec * 1000}); };
  return {nanos(v.it_value), nanos(v.it_interval)};
}
itimerval to_itimerval(const kernel::TimerSetting& s) {
  const auto micros = [](Nanos t) {
    // Rounded up, so that an armed timer never reads as zero (kernel/time/itimer.c).
    const timespec ts = to_timespec(t + 999);
    return timeval{ts.tv_sec, ts.tv_nsec / 1000};
  };
  return {micros(s.interval), micros(s.value)};
}
itimerspec to_itimerspec(const kernel::TimerSetting& s) {
  return {to_timespec(s.interval), to_timespec(s.value)};
}

bool valid(const timeval& t) { return t.tv_sec >= 0 && t.tv_usec >= 0 && t.tv_usec < 1'000'000; }

}  // namespace

Result<uint64_t> sys_time(Task& task, UserOut<time_t> out) {
  const time_t now = to_timespec(task.kernel().clock().realtime()).tv_sec;
  if (out) TRY(task.mm().write(out, now));
  return static_cast<uint64_t>(now);
}

Result<uint64_t> sys_gettimeofday(Task& task, UserOut<timeval> out, UserOut<struct timezone> zone) {
  if (out) {
    const timespec now = to_timespec(task.kernel().clock().realtime());
    TRY(task.mm().write(out, timeval{now.tv_sec, now.tv_nsec / 1000}));
  }
  if (zone) TRY(task.mm().write(zone, {}));
  return uint64_t{0};
}

Result<uint64_t> sys_clock_gettime(Task& task, ClockId clock, UserOut<timespec> out) {
  return zero(task.mm().write(out, to_timespec(TRY(now_on(task, clock.value)))));
}

Result<uint64_t> sys_clock_getres(Task& task, ClockId clock, UserOut<timespec> out) {
  TRY(now_on(task, clock.value));
  const bool coarse = clock.value == CLOCK_REALTIME_COARSE || clock.value == CLOCK_MONOTONIC_COARSE;
  if (out) TRY(task.mm().write(out, timespec{0, coarse ? 4'000'000 : 1}));
  return uint64_t{0};
}

Result<uint64_t> sys_nanosleep(Task& task, UserIn<timespec> duration, UserOut<timespec> left) {
  const timespec wanted = TRY(task.mm().read(duration));
  if (!valid_timespec(wanted)) return Errno::kInval;
  const Nanos now = task.kernel().clock().monotonic();
  const Nanos length = std::min(from_timespec(wanted), INT64_MAX - now);
  return sleep_for(task, CLOCK_MONOTONIC, now + length, left);
}

Result<uint64_t> sys_clock_nanosleep(Task& task, ClockId clock, Int flags, UserIn<timespec> time,
                                     UserOut<timespec> left) {
  if (kernel::is_cpu_clock(clock.value)) {
    // A thread that sleeps would wait for itself.
    if (TRY(kernel::find_cpu_clock(task, clock.value)).thread.get() == &task) return Errno::kInval;
  }
  const Nanos now = TRY(now_on(task, clock.value));
  if (!can_sleep_on(clock.value)) return Errno::kOpNotSupp;
  const timespec wanted = TRY(task.mm().read(time));
  if (!valid_timespec(wanted)) return Errno::kInval;
  if ((flags.value & TIMER_ABSTIME) != 0) {
    const auto slept = sleep_on(task, clock.value, from_timespec(wanted));
    if (slept.error() == Errno::kIntr) return Errno::kRestartNoHand;
    return zero(slept.error() == Errno::kOk ? Result<void>() : Result<void>(slept.error()));
  }
  const Nanos length = std::min(from_timespec(wanted), INT64_MAX - now);
  // A relative sleep on CLOCK_REALTIME is not affected by setting that clock.
  if (clock.value == CLOCK_REALTIME) {
    return sleep_for(task, CLOCK_MONOTONIC, task.kernel().clock().monotonic() + length, left);
  }
  return sleep_for(task, clock.value, now + length, left);
}

Result<uint64_t> sys_getitimer(Task& task, Int which, UserOut<itimerval> out) {
  const auto setting = TRY(task.group().timers().get_interval(which.value));
  return zero(task.mm().write(out, to_itimerval(setting)));
}

Result<uint64_t> sys_setitimer(Task& task, Int which, UserIn<itimerval> in,
                               UserOut<itimerval> old) {
  itimerval wanted{};
  if (in) wanted = TRY(task.mm().read(in));
  if (!valid(wanted.it_value) || !valid(wanted.it_interval)) return Errno::kInval;
  const auto before = TRY(task.group().timers().set_interval(which.value, to_setting(wanted)));
  if (old) TRY(task.mm().write(old, to_itimerval(before)));
  return uint64_t{0};
}

Result<uint64_t> sys_alarm(Task& task, Unsigned seconds) {
  const auto before = TRY(task.group().timers().set_interval(
      ITIMER_REAL, {from_timespec({static_cast<time_t>(seconds.value), 0}), 0}));
  // Rounded to the nearest second, and never to "none" (kernel/time/itimer.c: alarm_setitimer).
  const timespec left = to_timespec(before.value);
  const bool up = (left.tv_sec == 0 && left.tv_nsec > 0) || left.tv_nsec >= kSecond / 2;
  return static_cast<uint64_t>(left.tv_sec + (up ? 1 : 0));
}

Result<uint64_t> sys_timer_create(Task& task, ClockId clock, UserIn<sigevent> event,
                                  UserOut<int> id_out) {
  std::optional<kernel::PosixTimer::Target> target;
  if (event) {
    const sigevent raw = TRY(task.mm().read(event));
    target = {raw.sigev_notify, raw.sigev_signo, raw.sigev_value, raw._sigev_un._tid};
  }
  const int id = TRY(task.group().timers().create(task, clock.value, target));
  if (const auto told = task.mm().write(id_out, id); !told.ok()) {
    (void)task.group().timers().remove(id);
    return told.error();
  }
  return uint64_t{0};
}

Result<uint64_t> sys_timer_settime(Task& task, Int id, Int flags, UserIn<itimerspec> in,
                                   UserOut<itimerspec> old) {
  if (!in) return Errno::kInval;
  const itimerspec wanted = TRY(task.mm().read(in));
  if (!valid_timespec(wanted.it_value) || !valid_timespec(wanted.it_interval)) {
    return Errno::kInval;
  }
  const auto before = TRY(task.group().timers().set(
      id.value, {from_timespec(wanted.it_value), from_timespec(wanted.it_interval)},
      (flags.value & TIMER_ABSTIME) != 0));
  if (old) TRY(task.mm().write(old, to_itimerspec(before)));
  return uint64_t{0};
}

Result<uint64_t> sys_timer_gettime(Task& task, Int id, UserOut<itimerspec> out) {
  return zero(task.mm().write(out, to_itimerspec(TRY(task.group().timers().get(id.value)))));
}
Result<uint64_t> sys_timer_getoverrun(Task& task, Int id) {
  return static_cast<uint64_t>(TRY(task.group().timers().overrun(id.value)));
}
Result<uint64_t> sys_timer_delete(Task& task, Int id) {
  return zero(task.group().timers().remove(id.value));
}

// Nobody in the sandbox sets the time of the machine; what is senseless is refused first
// (kernel/time/time.c: do_sys_settimeofday64).
Result<uint64_t> sys_clock_settime(Task& task, ClockId clock, UserIn<timespec> in) {
  const bool of_cpu = clock.value < 0;
  if (clock.value != CLOCK_REALTIME && !of_cpu) return Errno::kInval;
  const timespec wanted = TRY(task.mm().read(in));
  if (of_cpu) {
    TRY(now_on(task, clock.value));
  } else if (!valid_timespec(wanted)) {
    return Errno::kInval;
  }
  return Errno::kPerm;
}

namespace {

// A clock that nothing disciplines, as Linux has it before the first adjustment
// (kernel/time/ntp.c: ntp_clear).
timex undisciplined(Nanos now) {
  constexpr long kMaxError = 16'000'000;  // microseconds
  timex state{};
  state.status = STA_UNSYNC;
  state.maxerror = state.esterror = kMaxError;
  state.constant = 2;
  state.precision = 1;
  state.tolerance = 500L << 16;  // ppm with a 16-bit fraction
  state.tick = 10'000;           // microseconds
  const timespec at = to_timespec(now);
  state.time = {at.tv_sec, at.tv_nsec / 1000};
  return state;
}

}  // namespace

// kernel/time/timekeeping.c: timekeeping_validate_timex.
Result<uint64_t> sys_adjtimex(Task& task, UserInOut<timex> address) {
  const timex asked = TRY(task.mm().read(address.in()));
  constexpr unsigned kAdjtime = 0x8000, kReadOnly = 0x2000;  // ADJ_ADJTIME, ADJ_OFFSET_READONLY
  const bool old_style = (asked.modes & kAdjtime) != 0;
  if (old_style && (asked.modes & ADJ_OFFSET) == 0) return Errno::kInval;
  const bool reads = old_style ? (asked.modes & kReadOnly) != 0 : asked.modes == 0;
  if (!reads) return Errno::kPerm;
  timex state = undisciplined(task.kernel().clock().realtime());
  state.modes = asked.modes;
  TRY(task.mm().write(address.out(), state));
  return uint64_t{TIME_ERROR};
}

Result<uint64_t> sys_clock_adjtime(Task& task, ClockId clock, UserInOut<timex> address) {
  if (clock.value == CLOCK_REALTIME) return sys_adjtimex(task, address);
  TRY(now_on(task, clock.value));
  return Errno::kOpNotSupp;
}

}  // namespace boxrun::syscalls
