#include "sentry/syscalls/futex.h"

#include <linux/futex.h>

#include "sentry/kernel/futex.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

constexpr uint64_t kRobustListHeadSize = 24;  // sizeof(struct robust_list_head)

// The part of futex(2) that says what to wait for, kept for a restart after a signal.
struct WaitArgs {
  uint64_t word;
  bool shared;
  uint32_t value;
  uint32_t bitset;
  Deadline deadline;
  bool relative;  // FUTEX_WAIT's timeout: restarts with what is left of it
};

Result<uint64_t> wait(Task& task, const WaitArgs& args) {
  const auto waited = task.kernel().futexes().wait(task, args.word, args.shared, args.value,
                                                   args.bitset, args.deadline);
  if (waited.error() != Errno::kIntr) return zero(waited.ok() ? Result<void>() : waited.error());
  // kernel/futex/waitwake.c: futex_wait. Without a timeout the call is simply made again.
  if (!args.deadline || !args.relative) return Errno::kRestartSys;
  task.set_restart([args](Task& restarted) { return wait(restarted, args); });
  return Errno::kRestartBlock;
}

// The timeout of FUTEX_WAIT counts from now, that of FUTEX_WAIT_BITSET is a point in time on
// CLOCK_MONOTONIC or, with FUTEX_CLOCK_REALTIME, on CLOCK_REALTIME.
Result<Deadline> deadline(Task& task, uint64_t timeout, bool absolute, bool realtime) {
  if (!absolute) return deadline_of(task, {timeout});
  if (timeout == 0) return Deadline{};
  const timespec until = TRY(task.mm().read(UserIn<timespec>{timeout}));
  if (!valid_timespec(until)) return Errno::kInval;
  const Clock& clock = task.kernel().clock();
  return deadline_in(from_timespec(until) - (realtime ? clock.realtime() : clock.monotonic()));
}

}  // namespace

Result<uint64_t> sys_futex(Task& task, Address word, Command operation, Unsigned value,
                           ULong timeout_or_value2, Address word2, Unsigned value3) {
  const bool shared = (operation.value & FUTEX_PRIVATE_FLAG) == 0;
  const bool realtime = (operation.value & FUTEX_CLOCK_REALTIME) != 0;
  const auto command = operation.value & FUTEX_CMD_MASK;
  if (realtime && command != FUTEX_WAIT_BITSET && command != FUTEX_WAIT_REQUEUE_PI &&
      command != FUTEX_LOCK_PI2) {
    return Errno::kNoSys;
  }
  kernel::FutexTable& futexes = task.kernel().futexes();
  const auto value2 = static_cast<uint32_t>(timeout_or_value2.value);
  constexpr uint32_t kAnyBit = kernel::FutexTable::kAnyBit;
  switch (command) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET: {
      const bool absolute = command == FUTEX_WAIT_BITSET;
      return wait(task,
                  {word.value, shared, value.value, absolute ? value3.value : kAnyBit,
                   TRY(deadline(task, timeout_or_value2.value, absolute, realtime)), !absolute});
    }
    case FUTEX_WAKE:
      return uint64_t{TRY(futexes.wake(task.mm(), word.value, shared, value.value, kAnyBit))};
    case FUTEX_WAKE_BITSET:
      if (value3.value == 0) return Errno::kInval;
      return uint64_t{TRY(futexes.wake(task.mm(), word.value, shared, value.value, value3.value))};
    case FUTEX_REQUEUE:
      return uint64_t{TRY(futexes.requeue(task.mm(), word.value, word2.value, shared, value.value,
                                          value2, nullptr))};
    case FUTEX_CMP_REQUEUE:
      return uint64_t{TRY(futexes.requeue(task.mm(), word.value, word2.value, shared, value.value,
                                          value2, &value3.value))};
    case FUTEX_WAKE_OP:
      return uint64_t{TRY(futexes.wake_op(task.mm(), word.value, word2.value, shared, value.value,
                                          value2, value3.value))};
    // Priority inheritance comes with issue 4; FUTEX_FD is gone from Linux.
    default:
      return Errno::kNoSys;
  }
}

Result<uint64_t> sys_set_robust_list(Task& task, Address head, Size size) {
  if (size.value != kRobustListHeadSize) return Errno::kInval;
  task.robust_list = head.value;
  return uint64_t{0};
}

Result<uint64_t> sys_get_robust_list(Task& task, Pid pid, UserOut<uint64_t> head,
                                     UserOut<uint64_t> size) {
  // The list of another task is for debuggers, which come with ptrace(2).
  if (pid.value != 0 && pid.value != task.tid()) {
    return task.kernel().find_task(pid.value) ? Errno::kPerm : Errno::kSrch;
  }
  TRY(task.mm().write(size, kRobustListHeadSize));
  return zero(task.mm().write(head, task.robust_list));
}

}  // namespace boxrun::syscalls
