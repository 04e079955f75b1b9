#pragma once
#include <cstdint>

#include "sentry/time/clock.h"
#include "sentry/time/timer_queue.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/mount.h"

namespace boxrun::fs {

// A value and an interval, in nanoseconds (struct itimerspec).
struct TimerSetting {
  Nanos value = 0;  // 0: disarmed
  Nanos interval = 0;
};

// timerfd_create(2): `clock_id` of CLOCK_REALTIME, MONOTONIC, BOOTTIME and their _ALARM variants
// (which behave alike, as nothing here suspends); EINVAL otherwise. `timers` and `clock` outlive
// the file.
Result<Ref<vfs::FileDescription>> create_timer_fd(const Ref<vfs::Mount>& mount, int clock_id,
                                                  int flags, TimerQueue& timers, const Clock& clock,
                                                  Ref<Credentials> credentials);

// timerfd_settime(2), of TFD_TIMER_*: returns the old setting. EINVAL for other files.
Result<TimerSetting> set_timer_fd(vfs::FileDescription& file, int flags, TimerSetting setting);
Result<TimerSetting> get_timer_fd(vfs::FileDescription& file);

}  // namespace boxrun::fs
