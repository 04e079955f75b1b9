// The ids of CPU clocks that are not CLOCK_*_CPUTIME_ID carry a number (include/linux/
// posix-timers.h): ~id << 3, plus 4 for a thread, plus 0 for all CPU time, 1 for user time, 2 for
// what the scheduler counted. glibc passes these even for the caller's own clocks, with number 0.
#include "sentry/kernel/cpu_clock.h"

#include <time.h>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"

namespace boxrun::kernel {
namespace {

constexpr int kPerThread = 4;
constexpr int kKindMask = 3;
constexpr int kUserTime = 1;
constexpr int kDescriptor = 3;  // the clock of a device: there are none

}  // namespace

CpuClock::CpuClock() = default;
CpuClock::CpuClock(const CpuClock&) = default;
CpuClock::CpuClock(CpuClock&&) noexcept = default;
CpuClock& CpuClock::operator=(CpuClock&&) noexcept = default;
CpuClock::~CpuClock() = default;

Nanos CpuClock::now() const {
  const CpuTimes used = thread ? thread->cpu_times() : process->cpu_times();
  return user_only ? used.user : used.user + used.system;
}

bool is_cpu_clock(clockid_t id) {
  return id == CLOCK_PROCESS_CPUTIME_ID || id == CLOCK_THREAD_CPUTIME_ID ||
         (id < 0 && (id & kKindMask) != kDescriptor);
}

Result<CpuClock> find_cpu_clock(Task& task, clockid_t id) {
  if (!is_cpu_clock(id)) return Errno::kInval;
  const pid_t number = id < 0 ? ~(id >> 3) : 0;
  const bool of_thread = id < 0 ? (id & kPerThread) != 0 : id == CLOCK_THREAD_CPUTIME_ID;
  CpuClock clock;
  clock.user_only = id < 0 && (id & kKindMask) == kUserTime;
  clock.process = Ref<ThreadGroup>(&task.group());
  if (of_thread) {
    clock.thread = number == 0 ? Ref<Task>(&task) : clock.process->find_task(number);
    if (!clock.thread) return Errno::kInval;
  } else if (number != 0) {
    clock.process = task.kernel().find_group(number);
    if (!clock.process) return Errno::kInval;
  }
  return clock;
}

}  // namespace boxrun::kernel
