#pragma once
#include <sys/types.h>

#include "sentry/kernel/fwd.h"
#include "sentry/time/clock.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::kernel {

// A clock of clock_gettime(2) that shows the CPU time of a process or of one thread.
struct CpuClock {
  CpuClock();
  CpuClock(const CpuClock&);
  CpuClock(CpuClock&&) noexcept;
  CpuClock& operator=(CpuClock&&) noexcept;
  ~CpuClock();

  Ref<ThreadGroup> process;
  Ref<Task> thread;  // null: the whole process
  bool user_only = false;

  // Takes the signal lock of the process.
  Nanos now() const;
};

bool is_cpu_clock(clockid_t id);

// The clock of a CPU clock's id, as `task` sees it. EINVAL: nobody has that id, or it is of a
// thread of another process.
Result<CpuClock> find_cpu_clock(Task& task, clockid_t id);

}  // namespace boxrun::kernel
