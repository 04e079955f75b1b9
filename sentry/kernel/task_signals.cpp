// The system calls by which a task looks after its own signals: actions, masks, waiting, stacks.
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/signals.h"
#include "sentry/kernel/task.h"

namespace boxrun::kernel {
namespace {

// Flags that x86-64 keeps; others are cleared silently (SA_UNSUPPORTED tells programs so).
constexpr uint64_t kRestorer = 0x04000000;
constexpr uint64_t kKnownFlags = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK |
                                 SA_RESTART | SA_NODEFER | uint64_t{SA_RESETHAND} | kRestorer;

}  // namespace

Result<SignalAction> Task::sigaction(int signo, const SignalAction* wanted) {
  if (!valid_signal(signo) || (wanted != nullptr && kUnblockable.has(signo))) return Errno::kInval;
  SignalLock lock(group());
  const Ref<SignalHandlers> handlers = group().handlers(lock);
  if (wanted == nullptr) return handlers->get(signo);
  SignalAction action = *wanted;
  action.flags &= kKnownFlags;
  action.mask = action.mask & ~kUnblockable;
  const SignalAction old = handlers->set(signo, action);
  // POSIX 3.3.1.3: an ignored signal does not stay pending, blocked or not.
  if (handlers->ignored(signo)) {
    group().signals(lock).shared.discard(SignalSet::of(signo));
    for (Task* task : group().signals(lock).tasks) {
      task->signals_.pending.discard(SignalSet::of(signo));
    }
  }
  return old;
}

SignalSet Task::signal_mask() {
  SignalLock lock(group());
  return signals_.blocked;
}

void Task::set_signal_mask(SignalSet mask) {
  SignalLock lock(group());
  const SignalSet newly_blocked = mask & ~signals_.blocked;
  signals_.blocked = mask & ~kUnblockable;
  // Shared signals that were meant for this thread are another's now.
  const SignalSet shared = group().signals(lock).shared.set() & newly_blocked;
  for (Task* task : group().signals(lock).tasks) {
    if (task != this && !(shared & ~task->signals_.blocked).empty()) task->interrupt();
  }
  if (work_pending(lock)) sleeper_.interrupt();
}

SignalSet Task::pending_signals() {
  SignalLock lock(group());
  return (signals_.pending.set() | group().signals(lock).shared.set()) & signals_.blocked;
}

void Task::set_temporary_mask(SignalSet mask) {
  SignalLock lock(group());
  if (!saved_mask_) saved_mask_ = signals_.blocked;
  signals_.blocked = mask & ~kUnblockable;
  if (work_pending(lock)) sleeper_.interrupt();
}

Result<void> Task::sigsuspend(SignalSet mask) {
  set_temporary_mask(mask);
  sleeper_.reset();
  while (sleep({}).ok()) {
  }
  return Errno::kRestartNoHand;
}

std::optional<SigInfo> Task::take_waited(SignalSet wanted) {
  SignalLock lock(group());
  std::optional<SigInfo> info = signals_.pending.take(wanted);
  if (!info) info = group().signals(lock).shared.take(wanted);
  signals_.waiting_for = info ? SignalSet{} : wanted;
  return info;
}

Result<SigInfo> Task::sigtimedwait(SignalSet wanted, Deadline deadline) {
  wanted = wanted & ~kUnblockable;
  std::optional<SigInfo> info = take_waited(wanted);
  Result<void> slept;
  sleeper_.reset();
  // A wanted signal wakes like an interruption, because waiting_for makes it deliverable.
  while (!info && slept.ok()) {
    slept = sleep(deadline);
    info = take_waited(wanted);
  }
  {
    SignalLock lock(group());
    signals_.waiting_for = {};
  }
  if (info) return *info;
  return slept.error() == Errno::kTimedOut ? Errno::kAgain : slept.error();
}

Result<AltStack> Task::sigaltstack(const AltStack* wanted) {
  const uint64_t sp = cpu_.sp();
  AltStack old = alt_stack_;
  old.flags = alt_stack_.reported_flags(sp);
  if (wanted != nullptr) TRY(set_alt_stack(*wanted, sp));
  return old;
}

Result<void> Task::set_alt_stack(const AltStack& wanted, uint64_t sp) {
  if (alt_stack_.active(sp)) return Errno::kPerm;
  const uint32_t mode = wanted.flags & ~kAutoDisarm;
  if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0) return Errno::kInval;
  if (mode == SS_DISABLE) {
    alt_stack_ = {.base = 0, .size = 0, .flags = wanted.flags};
    return {};
  }
  constexpr uint64_t kMinimum = 2048;  // MINSIGSTKSZ of x86-64
  if (wanted.size < kMinimum) return Errno::kNoMem;
  alt_stack_ = wanted;
  return {};
}

void Task::force_signal(const SigInfo& info) {
  const int signo = info.si_signo;
  SignalLock lock(group());
  if (group().signals(lock).exiting) return;
  const Ref<SignalHandlers> handlers = group().handlers(lock);
  SignalAction action = handlers->get(signo);
  const bool blocked = signals_.blocked.has(signo);
  if (blocked || action.is_ignore()) {
    // The instruction cannot go on, so there is nothing to wait for (force_sig_info_to_task).
    action.handler = 0;
    handlers->set(signo, action);
    signals_.blocked = signals_.blocked & ~SignalSet::of(signo);
  }
  (void)signals_.pending.add(info, UINT64_MAX);
  sleeper_.interrupt();
}

}  // namespace boxrun::kernel
