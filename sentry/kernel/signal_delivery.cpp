// What signals do to a task: default actions, job-control stops, handlers. Runs on the task's own
// thread, between a system call or fault and the return to the guest.
#include <algorithm>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/signals.h"
#include "sentry/kernel/task.h"

namespace boxrun::kernel {

bool Task::must_exit(SignalLock& lock) { return group().signals(lock).exiting || signals_.die; }

bool Task::work_pending(SignalLock& lock) {
  auto& shared = group().signals(lock);
  const SignalSet deliverable =
      (signals_.pending.set() | shared.shared.set()) & ~(signals_.blocked & ~signals_.waiting_for);
  return must_exit(lock) || signals_.must_stop || shared.parent_notice != 0 || !deliverable.empty();
}

bool Task::handle_signals() {
  for (;;) {
    {
      SignalLock lock(group());
      sleeper_.take_interrupt();
      if (must_exit(lock)) return false;
    }
    tell_parent_of_stop();
    take_part_in_stop();
    if (const std::optional<SigInfo> info = next_signal()) {
      deliver(*info);
      continue;
    }
    // No handler runs, so the call restarts, and a temporary mask ends here.
    resolve_restart(nullptr);
    SignalLock lock(group());
    if (saved_mask_) signals_.blocked = *std::exchange(saved_mask_, {});
    if (!work_pending(lock)) return true;
  }
}

std::optional<SigInfo> Task::next_signal() {
  SignalLock lock(group());
  if (must_exit(lock)) return std::nullopt;
  std::optional<SigInfo> info = signals_.pending.take(~signals_.blocked);
  if (!info) info = group().signals(lock).shared.take(~signals_.blocked);
  if (info && kStopSignals.has(info->si_signo)) signals_.stop_dequeued = true;
  return info;
}

void Task::deliver(const SigInfo& info) {
  const int signo = info.si_signo;
  SignalAction action;
  {
    SignalLock lock(group());
    action = group().handlers(lock)->take_for_delivery(signo);
  }
  if (action.is_ignore()) return;
  if (!action.is_default()) return run_handler(info, action);
  switch (default_action(signo)) {
    case DefaultAction::kIgnore:
    case DefaultAction::kContinue:
      return;
    case DefaultAction::kStop:
      return begin_stop(signo);
    case DefaultAction::kTerminate:
    // No core is ever written, so WCOREDUMP stays clear, as with RLIMIT_CORE 0.
    case DefaultAction::kCore:
      return group().exit_all(signo);
  }
}

void Task::run_handler(const SigInfo& info, const SignalAction& action) {
  resolve_restart(&action);
  if (!push_signal_frame(info, action, saved_mask_.value_or(signal_mask())).ok()) {
    // kernel/signal.c: force_sigsegv. A SIGSEGV whose own frame cannot be built is final.
    if (info.si_signo == SIGSEGV) {
      group().exit_all(SIGSEGV);
    } else {
      force_signal(kernel_signal(SIGSEGV));
    }
    return;
  }
  saved_mask_ = std::nullopt;
  SignalLock lock(group());
  SignalSet blocked = signals_.blocked | action.mask;
  if ((action.flags & SA_NODEFER) == 0) blocked = blocked | SignalSet::of(info.si_signo);
  signals_.blocked = blocked & ~kUnblockable;
}

void Task::begin_stop(int signo) {
  if (signo != SIGSTOP) {
    // A group that nobody could ever continue does not stop (POSIX, orphaned process groups).
    TreeLock tree(kernel_.tree());
    if (group().links(tree).process_group->orphaned(tree)) return;
  }
  SignalLock lock(group());
  auto& shared = group().signals(lock);
  if (!std::exchange(signals_.stop_dequeued, false) || shared.exiting) return;
  if (shared.stop_signal == 0) shared.stop_signal = signo;
  for (Task* task : shared.tasks) {
    task->signals_.must_stop = true;
    if (task != this) task->interrupt();
  }
}

void Task::take_part_in_stop() {
  while (stopped_now()) {
    tell_parent_of_stop();
    (void)sleeper_.sleep({});  // until SIGCONT or SIGKILL interrupts
  }
}

bool Task::stopped_now() {
  SignalLock lock(group());
  signals_.stopped = signals_.must_stop && !must_exit(lock);
  if (!signals_.stopped) return false;
  sleeper_.take_interrupt();
  group().complete_stop(lock);
  return true;
}

void Task::tell_parent_of_stop() {
  int code = 0;
  int status = 0;
  {
    SignalLock lock(group());
    code = std::exchange(group().signals(lock).parent_notice, 0);
    status = group().signals(lock).notice_status;
  }
  if (code == 0) return;
  bool from_outside = false;
  {
    TreeLock tree(kernel_.tree());
    from_outside = group().links(tree).from_outside;
    notify_parent(tree, group(), code, status);
  }
  if (!from_outside) return;
  if (code == CLD_CONTINUED) {
    kernel_.events().continued(group());
  } else {
    kernel_.events().stopped(group(), status);
  }
}

}  // namespace boxrun::kernel
