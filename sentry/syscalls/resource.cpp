#include <sys/resource.h>

#include <array>
#include <vector>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/process.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

Result<kernel::ResourceLimit> checked(const rlimit& raw) {
  if (raw.rlim_cur > raw.rlim_max) return Errno::kInval;
  return kernel::ResourceLimit{raw.rlim_cur, raw.rlim_max};
}

// kernel/sys.c: check_prlimit_permission.
bool may_change_limits(const Credentials& who, const Credentials& target) {
  return who.has_capability(CAP_SYS_RESOURCE) ||
         (who.ruid == target.euid && who.ruid == target.suid && who.ruid == target.ruid &&
          who.rgid == target.egid && who.rgid == target.sgid && who.rgid == target.rgid);
}

Result<void> apply_limit(Task& task, kernel::ThreadGroup& group, int resource,
                         const rlimit& wanted) {
  TRY(group.limits().set(resource, TRY(checked(wanted)),
                         task.cred().has_capability(CAP_SYS_RESOURCE)));
  if (resource == RLIMIT_CPU) group.timers().watch_cpu_limit();
  return {};
}

}  // namespace

Result<uint64_t> sys_getrlimit(Task& task, Int resource, UserOut<rlimit> out) {
  const auto limit = TRY(task.group().limits().get(resource.value));
  return zero(task.mm().write(out, rlimit{limit.soft, limit.hard}));
}
Result<uint64_t> sys_setrlimit(Task& task, Int resource, UserIn<rlimit> in) {
  return zero(apply_limit(task, task.group(), resource.value, TRY(task.mm().read(in))));
}

Result<uint64_t> sys_prlimit64(Task& task, Pid pid, Int resource, UserIn<rlimit> in,
                               UserOut<rlimit> out) {
  rlimit wanted{};
  if (in) wanted = TRY(task.mm().read(in));
  const Ref<Task> target = TRY(find_task(task, pid.value));
  if (target.get() != &task && !may_change_limits(task.cred(), *target->cred_ref())) {
    return Errno::kPerm;
  }
  const auto before = TRY(target->group().limits().get(resource.value));
  if (in) TRY(apply_limit(task, target->group(), resource.value, wanted));
  if (out) TRY(task.mm().write(out, rlimit{before.soft, before.hard}));
  return uint64_t{0};
}

Result<uint64_t> sys_getrusage(Task& task, Int who, UserOut<rusage> out) {
  kernel::Accounting sum;
  task.note_memory_use();
  if (who.value == RUSAGE_THREAD) {
    sum = task.accounting();
  } else {
    kernel::TreeLock tree(task.kernel().tree());
    if (who.value == RUSAGE_SELF) {
      sum = task.group().accounting(tree);
    } else if (who.value == RUSAGE_CHILDREN) {
      sum = task.group().links(tree).children_usage;
    } else {
      return Errno::kInval;
    }
  }
  return zero(task.mm().write(out, sum.to_rusage()));
}

Result<uint64_t> sys_times(Task& task, UserOut<tms> out) {
  constexpr Nanos kTick = kSecond / 100;  // USER_HZ
  if (out) {
    const kernel::CpuTimes own = task.group().cpu_times();
    kernel::CpuTimes children;
    {
      kernel::TreeLock tree(task.kernel().tree());
      children = task.group().links(tree).children_usage.cpu;
    }
    TRY(task.mm().write(out, tms{own.user / kTick, own.system / kTick, children.user / kTick,
                                 children.system / kTick}));
  }
  return static_cast<uint64_t>(task.kernel().clock().boottime() / kTick);
}

// Niceness is kept per process and has no effect: the CPU is shared with nobody inside who would
// not share it anyway.
Result<uint64_t> sys_getpriority(Task& task, Int which, Pid who) {
  if (which.value < PRIO_PROCESS || which.value > PRIO_USER) return Errno::kInval;
  Ref<Task> target(&task);
  if (which.value == PRIO_PROCESS) target = TRY(find_task(task, who.value));
  return static_cast<uint64_t>(20 - target->group().nice.load());
}
Result<uint64_t> sys_setpriority(Task& task, Int which, Pid who, Int value) {
  if (which.value < PRIO_PROCESS || which.value > PRIO_USER) return Errno::kInval;
  const int nice = std::clamp(value.value, -20, 19);
  Ref<Task> target(&task);
  if (which.value == PRIO_PROCESS) target = TRY(find_task(task, who.value));
  const bool lowers = nice >= target->group().nice.load();
  if (!lowers && !task.cred().has_capability(CAP_SYS_NICE)) return Errno::kAcces;
  target->group().nice = nice;
  return uint64_t{0};
}

}  // namespace boxrun::syscalls
