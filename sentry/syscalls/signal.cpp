#include "sentry/syscalls/signal.h"

#include "sentry/kernel/signals.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

using kernel::SignalAction;
using kernel::SignalSet;

// The kernel's sigset_t has 64 bits and every call says so.
Result<void> check_set_size(Size size) {
  if (size.value != sizeof(SignalSet)) return Errno::kInval;
  return {};
}

}  // namespace

Result<uint64_t> sys_rt_sigaction(Task& task, Signal signo, UserIn<SignalAction> action,
                                  UserOut<SignalAction> old, Size set_size) {
  TRY(check_set_size(set_size));
  SignalAction wanted;
  if (action) wanted = TRY(task.mm().read(action));
  const SignalAction before = TRY(task.sigaction(signo.value, action ? &wanted : nullptr));
  if (old) TRY(task.mm().write(old, before));
  return uint64_t{0};
}

Result<uint64_t> sys_rt_sigprocmask(Task& task, Int how, UserIn<SignalSet> set,
                                    UserOut<SignalSet> old, Size set_size) {
  TRY(check_set_size(set_size));
  const SignalSet before = task.signal_mask();
  if (set) {
    const SignalSet change = TRY(task.mm().read(set));
    switch (how.value) {
      case SIG_BLOCK:
        task.set_signal_mask(before | change);
        break;
      case SIG_UNBLOCK:
        task.set_signal_mask(before & ~change);
        break;
      case SIG_SETMASK:
        task.set_signal_mask(change);
        break;
      default:
        return Errno::kInval;
    }
  }
  if (old) TRY(task.mm().write(old, before));
  return uint64_t{0};
}

Result<uint64_t> sys_rt_sigreturn(Task& task) {
  task.sigreturn();
  return uint64_t{0};
}

Result<uint64_t> sys_rt_sigpending(Task& task, UserOut<SignalSet> set, Size set_size) {
  // Older callers may pass a smaller set (kernel/signal.c).
  if (set_size.value > sizeof(SignalSet)) return Errno::kInval;
  const SignalSet pending = task.pending_signals();
  return zero(task.mm().copy_out(set.addr, bytes_of(pending).first(set_size.value)));
}

Result<uint64_t> sys_rt_sigtimedwait(Task& task, UserIn<SignalSet> set, UserOut<siginfo_t> info,
                                     UserIn<timespec> timeout, Size set_size) {
  TRY(check_set_size(set_size));
  const SignalSet wanted = TRY(task.mm().read(set));
  const Deadline deadline = TRY(deadline_of(task, timeout));
  const siginfo_t taken = TRY(task.sigtimedwait(wanted, deadline));
  if (info) TRY(task.mm().write(info, taken));
  return static_cast<uint64_t>(taken.si_signo);
}

Result<uint64_t> sys_rt_sigqueueinfo(Task& task, Pid pid, Signal signo, UserIn<siginfo_t> info) {
  siginfo_t sent = TRY(task.mm().read(info));
  sent.si_signo = signo.value;
  return zero(kernel::sigqueue(task, pid.value, sent));
}

Result<uint64_t> sys_rt_tgsigqueueinfo(Task& task, Pid tgid, Pid tid, Signal signo,
                                       UserIn<siginfo_t> info) {
  if (tgid.value <= 0 || tid.value <= 0) return Errno::kInval;
  siginfo_t sent = TRY(task.mm().read(info));
  sent.si_signo = signo.value;
  return zero(kernel::tgsigqueue(task, tgid.value, tid.value, sent));
}

Result<uint64_t> sys_rt_sigsuspend(Task& task, UserIn<SignalSet> set, Size set_size) {
  TRY(check_set_size(set_size));
  return zero(task.sigsuspend(TRY(task.mm().read(set))));
}

Result<uint64_t> sys_sigaltstack(Task& task, UserIn<stack_t> stack, UserOut<stack_t> old) {
  kernel::AltStack wanted;
  if (stack) {
    const stack_t raw = TRY(task.mm().read(stack));
    wanted = {reinterpret_cast<uint64_t>(raw.ss_sp), raw.ss_size,
              static_cast<uint32_t>(raw.ss_flags)};
  }
  const kernel::AltStack before = TRY(task.sigaltstack(stack ? &wanted : nullptr));
  if (!old) return uint64_t{0};
  stack_t raw{};
  raw.ss_sp = reinterpret_cast<void*>(before.base);
  raw.ss_flags = static_cast<int>(before.flags);
  raw.ss_size = before.size;
  return zero(task.mm().write(old, raw));
}

Result<uint64_t> sys_kill(Task& task, Pid pid, Signal signo) {
  return zero(kernel::kill(task, pid.value, signo.value));
}
Result<uint64_t> sys_tkill(Task& task, Pid tid, Signal signo) {
  if (tid.value <= 0) return Errno::kInval;
  return zero(kernel::tkill(task, tid.value, signo.value));
}
Result<uint64_t> sys_tgkill(Task& task, Pid tgid, Pid tid, Signal signo) {
  if (tgid.value <= 0 || tid.value <= 0) return Errno::kInval;
  return zero(kernel::tgkill(task, tgid.value, tid.value, signo.value));
}

Result<uint64_t> sys_pause(Task& task) {
  // Nothing ever wakes it but a signal, after whose handler it returns EINTR.
  while (task.sleep_until({}).ok()) {
  }
  return Errno::kRestartNoHand;
}

Result<uint64_t> sys_restart_syscall(Task& task) { return task.restart(); }

Result<void> set_temporary_mask(Task& task, UserIn<SignalSet> set, uint64_t set_size) {
  if (!set) return {};
  TRY(check_set_size(Size{set_size}));
  task.set_temporary_mask(TRY(task.mm().read(set)));
  return {};
}

}  // namespace boxrun::syscalls
