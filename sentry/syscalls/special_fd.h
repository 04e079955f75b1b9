#pragma once
#include <sys/timerfd.h>

#include <array>

#include "sentry/kernel/signal_state.h"
#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

// Files that are made by a system call instead of a path.
Result<uint64_t> sys_pipe(Task& task, UserOut<std::array<int, 2>> fds);
Result<uint64_t> sys_pipe2(Task& task, UserOut<std::array<int, 2>> fds, OpenFlags flags);
Result<uint64_t> sys_eventfd(Task& task, Unsigned initial);
Result<uint64_t> sys_eventfd2(Task& task, Unsigned initial, Int flags);
Result<uint64_t> sys_memfd_create(Task& task, UserString name, Unsigned flags);
Result<uint64_t> sys_signalfd(Task& task, Int fd, UserIn<kernel::SignalSet> mask, Size size);
Result<uint64_t> sys_signalfd4(Task& task, Int fd, UserIn<kernel::SignalSet> mask, Size size,
                               Int flags);
Result<uint64_t> sys_timerfd_create(Task& task, ClockId clock, Int flags);
Result<uint64_t> sys_timerfd_settime(Task& task, Fd fd, Int flags, UserIn<itimerspec> in,
                                     UserOut<itimerspec> old);
Result<uint64_t> sys_timerfd_gettime(Task& task, Fd fd, UserOut<itimerspec> out);

}  // namespace boxrun::syscalls
