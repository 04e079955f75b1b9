#include <linux/ioprio.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/process.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

// The task with this tid, the caller for 0. ESRCH.
Result<Ref<Task>> find(Task& task, pid_t tid) {
  if (tid < 0) return Errno::kInval;
  if (tid == 0 || tid == task.tid()) return Ref<Task>(&task);
  Ref<Task> other = task.kernel().find_task(tid);
  if (!other) return Errno::kSrch;
  return other;
}

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

// Every task is SCHED_OTHER: the host's scheduler is not the guest's to steer. The batch and idle
// classes, which promise nothing, are accepted.
bool is_plain_policy(int policy) {
  const int plain = policy & ~SCHED_RESET_ON_FORK;
  return plain == SCHED_OTHER || plain == SCHED_BATCH || plain == SCHED_IDLE;
}
bool is_realtime_policy(int policy) {
  const int plain = policy & ~SCHED_RESET_ON_FORK;
  return plain == SCHED_FIFO || plain == SCHED_RR;
}

// CPUs that the sandbox may use. Asked of the Sentry's first thread: task threads are moved beside
// their stubs. Not sysconf, which opens files.
cpu_set_t sandbox_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(::getpid(), sizeof set, &set) != 0) CPU_SET(0, &set);
  return set;
}

// Bytes of a mask that covers every CPU of the sandbox, in whole words as Linux counts them.
size_t mask_bytes(const cpu_set_t& set) {
  size_t last = 0;
  for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &set)) last = cpu;
  }
  return (last / 64 + 1) * 8;
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
  const Ref<Task> target = TRY(find(task, pid.value));
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
  if (which.value == PRIO_PROCESS) target = TRY(find(task, who.value));
  return static_cast<uint64_t>(20 - target->group().nice.load());
}
Result<uint64_t> sys_setpriority(Task& task, Int which, Pid who, Int value) {
  if (which.value < PRIO_PROCESS || which.value > PRIO_USER) return Errno::kInval;
  const int nice = std::clamp(value.value, -20, 19);
  Ref<Task> target(&task);
  if (which.value == PRIO_PROCESS) target = TRY(find(task, who.value));
  const bool lowers = nice >= target->group().nice.load();
  if (!lowers && !task.cred().has_capability(CAP_SYS_NICE)) return Errno::kAcces;
  target->group().nice = nice;
  return uint64_t{0};
}

Result<uint64_t> sys_sched_yield(Task&) {
  sched_yield();
  return uint64_t{0};
}

Result<uint64_t> sys_sched_getparam(Task& task, Pid pid, UserOut<int> param) {
  TRY(find(task, pid.value));
  return zero(task.mm().write(param, 0));
}
Result<uint64_t> sys_sched_setparam(Task& task, Pid pid, UserIn<int> param) {
  TRY(find(task, pid.value));
  if (TRY(task.mm().read(param)) != 0) return Errno::kInval;
  return uint64_t{0};
}
Result<uint64_t> sys_sched_getscheduler(Task& task, Pid pid) {
  TRY(find(task, pid.value));
  return uint64_t{SCHED_OTHER};
}
Result<uint64_t> sys_sched_setscheduler(Task& task, Pid pid, Int policy, UserIn<int> param) {
  TRY(find(task, pid.value));
  const int priority = TRY(task.mm().read(param));
  if (is_realtime_policy(policy.value)) {
    return priority < 1 || priority > 99 ? Errno::kInval : Errno::kPerm;
  }
  if (!is_plain_policy(policy.value) || priority != 0) return Errno::kInval;
  return uint64_t{0};
}
Result<uint64_t> sys_sched_get_priority_max(Task&, Int policy) {
  if (policy.value == SCHED_FIFO || policy.value == SCHED_RR) return uint64_t{99};
  if (!is_plain_policy(policy.value) && policy.value != SCHED_DEADLINE) return Errno::kInval;
  return uint64_t{0};
}
Result<uint64_t> sys_sched_get_priority_min(Task&, Int policy) {
  if (policy.value == SCHED_FIFO || policy.value == SCHED_RR) return uint64_t{1};
  if (!is_plain_policy(policy.value) && policy.value != SCHED_DEADLINE) return Errno::kInval;
  return uint64_t{0};
}
Result<uint64_t> sys_sched_rr_get_interval(Task& task, Pid pid, UserOut<timespec> out) {
  TRY(find(task, pid.value));
  // The slice of a SCHED_OTHER task is the scheduler's affair; Linux shows a few milliseconds.
  return zero(task.mm().write(out, timespec{0, 4'000'000}));
}

Result<uint64_t> sys_sched_getaffinity(Task& task, Pid pid, Unsigned size, UserOut<Bytes> mask) {
  TRY(find(task, pid.value));
  // A multiple of 8 that covers every possible CPU; more than that is not written.
  const cpu_set_t set = sandbox_cpus();
  const size_t bytes = mask_bytes(set);
  if (size.value % 8 != 0 || size.value < bytes) return Errno::kInval;
  TRY(task.mm().copy_out(mask.addr, as_bytes_of(&set, bytes)));
  return bytes;
}
// Checked and then left to the host, which places threads beside the stubs they serve.
Result<uint64_t> sys_sched_setaffinity(Task& task, Pid pid, Unsigned size, UserIn<Bytes> mask) {
  TRY(find(task, pid.value));
  cpu_set_t wanted{};
  const size_t bytes = std::min<size_t>(size.value, sizeof wanted);
  TRY(task.mm().copy_in(mask.addr, std::span(reinterpret_cast<std::byte*>(&wanted), bytes)));
  const cpu_set_t allowed = sandbox_cpus();
  cpu_set_t both;
  CPU_AND(&both, &wanted, &allowed);
  if (CPU_COUNT(&both) == 0) return Errno::kInval;
  return uint64_t{0};
}

Result<uint64_t> sys_ioprio_get(Task& task, Int which, Pid who) {
  if (which.value < IOPRIO_WHO_PROCESS || which.value > IOPRIO_WHO_USER) return Errno::kInval;
  if (which.value == IOPRIO_WHO_PROCESS) TRY(find(task, who.value));
  return uint64_t{IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 0)};
}
Result<uint64_t> sys_ioprio_set(Task& task, Int which, Pid who, Int value) {
  if (which.value < IOPRIO_WHO_PROCESS || which.value > IOPRIO_WHO_USER) return Errno::kInval;
  const int io_class = IOPRIO_PRIO_CLASS(value.value);
  if (io_class > IOPRIO_CLASS_IDLE) return Errno::kInval;
  if (io_class == IOPRIO_CLASS_RT && !task.cred().has_capability(CAP_SYS_NICE)) return Errno::kPerm;
  if (which.value == IOPRIO_WHO_PROCESS) TRY(find(task, who.value));
  return uint64_t{0};
}

}  // namespace boxrun::syscalls
