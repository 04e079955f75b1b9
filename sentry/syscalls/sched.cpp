// Scheduling policies, CPU affinity and I/O priorities: kept per task, told again, without effect
// (kernel::Scheduling).
#include <sched.h>
#include <sys/resource.h>

#include <vector>

#include "sentry/kernel/scheduling.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/process.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

bool is_plain_policy(int policy) {
  return policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE;
}
bool is_realtime_policy(int policy) { return policy == SCHED_FIFO || policy == SCHED_RR; }

bool may_raise_priority(Task& task) { return task.cred().has_capability(CAP_SYS_NICE); }

// kernel/sched/syscalls.c: check_same_owner.
bool owns(Task& task, Task& target) {
  const Ref<Credentials> theirs = target.cred_ref();
  return task.cred().euid == theirs->euid || task.cred().euid == theirs->ruid;
}

// What CAP_SYS_NICE permits and others may not (user_check_sched_setscheduler).
Result<void> may_change_policy(Task& task, Task& target, const kernel::Scheduling& now, int policy,
                               bool reset_on_fork) {
  if (may_raise_priority(task)) return {};
  const auto& limits = target.group().limits();
  if (now.policy == SCHED_IDLE && policy != SCHED_IDLE) {
    // From the lowest priority back to that of the nice value: 1 to 40 of RLIMIT_NICE.
    const auto needed = static_cast<uint64_t>(20 - target.group().nice.load());
    if (needed > limits.soft(RLIMIT_NICE)) return Errno::kPerm;
  }
  if (!owns(task, target)) return Errno::kPerm;
  if (now.reset_on_fork && !reset_on_fork) return Errno::kPerm;
  return {};
}

// kernel/sched/syscalls.c: only the calls about affinity look for a negative tid, too.
Result<Ref<Task>> scheduled(Task& task, Pid pid) {
  if (pid.value < 0) return Errno::kInval;
  return find_task(task, pid.value);
}

// do_sched_setscheduler: the arguments are looked at before the task is.
Result<int> read_priority(Task& task, Pid pid, UserIn<int> param) {
  if (!param || pid.value < 0) return Errno::kInval;
  return task.mm().read(param);
}

cpu_set_t set_of(const std::vector<unsigned>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const unsigned cpu : cpus) CPU_SET(cpu, &set);
  return set;
}

// Whose I/O priority is meant: of a process group or a user, the caller's stands for all.
Result<Ref<Task>> io_target(Task& task, int which, pid_t who) {
  if (which < IOPRIO_WHO_PROCESS || which > IOPRIO_WHO_USER) return Errno::kInval;
  return which == IOPRIO_WHO_PROCESS ? find_task(task, who) : Ref<Task>(&task);
}

// block/ioprio.c: ioprio_check_cap.
Result<void> check_io_priority(Task& task, int value) {
  constexpr int kLevels = 8;
  const int level = value & (kLevels - 1);
  switch (IOPRIO_PRIO_CLASS(value)) {
    case IOPRIO_CLASS_RT:
      return may_raise_priority(task) ? Errno::kOk : Errno::kPerm;
    case IOPRIO_CLASS_BE:
    case IOPRIO_CLASS_IDLE:
      return {};
    case IOPRIO_CLASS_NONE:
      return level == 0 ? Errno::kOk : Errno::kInval;
    default:
      return Errno::kInval;
  }
}

}  // namespace

Result<uint64_t> sys_sched_yield(Task&) {
  sched_yield();
  return uint64_t{0};
}

Result<uint64_t> sys_sched_getparam(Task& task, Pid pid, UserOut<int> param) {
  if (!param) return Errno::kInval;
  TRY(scheduled(task, pid));
  return zero(task.mm().write(param, 0));
}
Result<uint64_t> sys_sched_setparam(Task& task, Pid pid, UserIn<int> param) {
  const int priority = TRY(read_priority(task, pid, param));
  TRY(scheduled(task, pid));
  if (priority != 0) return Errno::kInval;
  return uint64_t{0};
}

Result<uint64_t> sys_sched_getscheduler(Task& task, Pid pid) {
  const auto scheduling = TRY(scheduled(task, pid))->scheduling();
  return static_cast<uint64_t>(scheduling.policy |
                               (scheduling.reset_on_fork ? SCHED_RESET_ON_FORK : 0));
}
Result<uint64_t> sys_sched_setscheduler(Task& task, Pid pid, Int policy, UserIn<int> param) {
  const int priority = TRY(read_priority(task, pid, param));
  const Ref<Task> target = TRY(scheduled(task, pid));
  const int wanted = policy.value & ~SCHED_RESET_ON_FORK;
  const bool reset_on_fork = (policy.value & SCHED_RESET_ON_FORK) != 0;
  if (is_realtime_policy(wanted)) {
    return priority < 1 || priority > 99 ? Errno::kInval : Errno::kPerm;
  }
  if (!is_plain_policy(wanted) || priority != 0) return Errno::kInval;
  kernel::Scheduling scheduling = target->scheduling();
  TRY(may_change_policy(task, *target, scheduling, wanted, reset_on_fork));
  scheduling.policy = wanted;
  scheduling.reset_on_fork = reset_on_fork;
  target->set_scheduling(scheduling);
  return uint64_t{0};
}

Result<uint64_t> sys_sched_get_priority_max(Task&, Int policy) {
  if (is_realtime_policy(policy.value)) return uint64_t{99};
  if (!is_plain_policy(policy.value) && policy.value != SCHED_DEADLINE) return Errno::kInval;
  return uint64_t{0};
}
Result<uint64_t> sys_sched_get_priority_min(Task&, Int policy) {
  if (is_realtime_policy(policy.value)) return uint64_t{1};
  if (!is_plain_policy(policy.value) && policy.value != SCHED_DEADLINE) return Errno::kInval;
  return uint64_t{0};
}
Result<uint64_t> sys_sched_rr_get_interval(Task& task, Pid pid, UserOut<timespec> out) {
  TRY(scheduled(task, pid));
  // The slice of a SCHED_OTHER task is the scheduler's affair; Linux shows a few milliseconds.
  return zero(task.mm().write(out, timespec{0, 4'000'000}));
}

Result<uint64_t> sys_sched_getaffinity(Task& task, Pid pid, Unsigned size, UserOut<Bytes> mask) {
  // A multiple of 8 that covers every possible CPU; more than that is not written.
  const std::vector<unsigned> cpus = kernel::sandbox_cpus();
  const size_t bytes = (cpus.back() / 64 + 1) * 8;
  cpu_set_t set = set_of(cpus);
  if (size.value % 8 != 0 || size.value < bytes) return Errno::kInval;
  const auto scheduling = TRY(find_task(task, pid.value))->scheduling();
  if (scheduling.has_affinity) CPU_AND(&set, &set, &scheduling.affinity);
  TRY(task.mm().copy_out(mask.addr, as_bytes_of(&set, bytes)));
  return bytes;
}
Result<uint64_t> sys_sched_setaffinity(Task& task, Pid pid, Unsigned size, UserIn<Bytes> mask) {
  cpu_set_t wanted{};
  const size_t bytes = std::min<size_t>(size.value, sizeof wanted);
  TRY(task.mm().copy_in(mask.addr, std::span(reinterpret_cast<std::byte*>(&wanted), bytes)));
  const Ref<Task> target = TRY(find_task(task, pid.value));
  if (!owns(task, *target) && !may_raise_priority(task)) return Errno::kPerm;
  const cpu_set_t allowed = set_of(kernel::sandbox_cpus());
  kernel::Scheduling scheduling = target->scheduling();
  CPU_AND(&scheduling.affinity, &wanted, &allowed);
  if (CPU_COUNT(&scheduling.affinity) == 0) return Errno::kInval;
  scheduling.has_affinity = true;
  target->set_scheduling(scheduling);
  return uint64_t{0};
}

Result<uint64_t> sys_ioprio_get(Task& task, Int which, Pid who) {
  return uint64_t{TRY(io_target(task, which.value, who.value))->scheduling().io_priority};
}
Result<uint64_t> sys_ioprio_set(Task& task, Int which, Pid who, Int value) {
  TRY(check_io_priority(task, value.value));
  const Ref<Task> target = TRY(io_target(task, which.value, who.value));
  // block/ioprio.c: set_task_ioprio looks at the target's real user.
  const uid_t owner = target->cred_ref()->ruid;
  if (owner != task.cred().euid && owner != task.cred().ruid && !may_raise_priority(task)) {
    return Errno::kPerm;
  }
  kernel::Scheduling scheduling = target->scheduling();
  scheduling.io_priority = static_cast<uint16_t>(value.value);
  target->set_scheduling(scheduling);
  return uint64_t{0};
}

}  // namespace boxrun::syscalls
