#pragma once
#include <linux/ioprio.h>
#include <sched.h>

#include <cstdint>
#include <vector>

namespace boxrun::kernel {

// What a task has asked of the schedulers (sched(7), ioprio_set(2)): checked, inherited and told
// again. The host's scheduler is not the guest's to steer, so nothing of it has an effect.
struct Scheduling {
  int policy = SCHED_OTHER;
  bool reset_on_fork = false;  // SCHED_RESET_ON_FORK
  uint16_t io_priority = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 0);
  bool has_affinity = false;  // false: every CPU of the sandbox
  cpu_set_t affinity{};

  // What a child of fork(2) or clone(2) gets (kernel/sched/core.c: sched_fork).
  Scheduling for_child() const {
    Scheduling child = *this;
    child.reset_on_fork = false;
    return child;
  }
};

// The CPUs that the sandbox may use, ascending; never empty. Those of the Sentry's first thread:
// task threads are moved beside their stubs.
std::vector<unsigned> sandbox_cpus();

}  // namespace boxrun::kernel
