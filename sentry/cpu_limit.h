#pragma once
#include <functional>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/scheduling.h"

namespace boxrun::sentry {

// The limit on the CPU time of all processes of a sandbox together: RLIMIT_CPU bounds each process
// alone, and a program may start many. Owned by the sandbox; the kernel outlives it.
class CpuLimit final : public kernel::CountingTimer {
 public:
  // Calls `exceeded` once, on the timer thread with no lock held, when `limit` is used up.
  CpuLimit(kernel::Kernel& kernel, Nanos limit, std::function<void()> exceeded)
      : CountingTimer(kernel, kernel::TimerClock::kProcessCpu), exceeded_(std::move(exceeded)) {
    set({limit, 0}, true);
  }
  ~CpuLimit() override { retire(); }

 private:
  void fire(uint64_t) override { exceeded_(); }
  Nanos now() const override { return kernel_.cpu_time(); }
  // No more threads than CPUs use up time at once, however many there are.
  size_t cpu_share() const override { return kernel::sandbox_cpus().size(); }

  const std::function<void()> exceeded_;
};

}  // namespace boxrun::sentry
