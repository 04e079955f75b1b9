#pragma once
#include <signal.h>

#include "sentry/kernel/signal_state.h"
#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_rt_sigaction(Task& task, Signal signo, UserIn<kernel::SignalAction> action,
                                  UserOut<kernel::SignalAction> old, Size set_size);
Result<uint64_t> sys_rt_sigprocmask(Task& task, Int how, UserIn<kernel::SignalSet> set,
                                    UserOut<kernel::SignalSet> old, Size set_size);
Result<uint64_t> sys_rt_sigreturn(Task& task);
Result<uint64_t> sys_rt_sigpending(Task& task, UserOut<kernel::SignalSet> set, Size set_size);
Result<uint64_t> sys_rt_sigtimedwait(Task& task, UserIn<kernel::SignalSet> set,
                                     UserOut<siginfo_t> info, UserIn<timespec> timeout,
                                     Size set_size);
Result<uint64_t> sys_rt_sigqueueinfo(Task& task, Pid pid, Signal signo, UserIn<siginfo_t> info);
Result<uint64_t> sys_rt_tgsigqueueinfo(Task& task, Pid tgid, Pid tid, Signal signo,
                                       UserIn<siginfo_t> info);
Result<uint64_t> sys_rt_sigsuspend(Task& task, UserIn<kernel::SignalSet> set, Size set_size);
Result<uint64_t> sys_sigaltstack(Task& task, UserIn<stack_t> stack, UserOut<stack_t> old);
Result<uint64_t> sys_kill(Task& task, Pid pid, Signal signo);
Result<uint64_t> sys_tkill(Task& task, Pid tid, Signal signo);
Result<uint64_t> sys_tgkill(Task& task, Pid tgid, Pid tid, Signal signo);
Result<uint64_t> sys_pause(Task& task);
Result<uint64_t> sys_restart_syscall(Task& task);

// The signal set argument of ppoll and its like: a set or none; EINVAL for a wrong size.
Result<void> set_temporary_mask(Task& task, UserIn<kernel::SignalSet> set, uint64_t set_size);

}  // namespace boxrun::syscalls
