#pragma once
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>

#include "sentry/kernel/signal_state.h"
#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

// The pair that pselect6 passes by pointer, having run out of registers.
struct SelectMask {
  uint64_t set;
  uint64_t size;
};

// --- poll.cpp
Result<uint64_t> sys_poll(Task& task, UserInOut<pollfd> fds, Unsigned count, Int timeout_ms);
Result<uint64_t> sys_ppoll(Task& task, UserInOut<pollfd> fds, Unsigned count,
                           UserInOut<timespec> timeout, UserIn<kernel::SignalSet> mask,
                           Size mask_size);
Result<uint64_t> sys_select(Task& task, Int count, UserInOut<fd_set> read, UserInOut<fd_set> write,
                            UserInOut<fd_set> except, UserInOut<timeval> timeout);
Result<uint64_t> sys_pselect6(Task& task, Int count, UserInOut<fd_set> read,
                              UserInOut<fd_set> write, UserInOut<fd_set> except,
                              UserInOut<timespec> timeout, UserIn<SelectMask> mask);

// --- epoll.cpp
Result<uint64_t> sys_epoll_create(Task& task, Int size);
Result<uint64_t> sys_epoll_create1(Task& task, Int flags);
Result<uint64_t> sys_epoll_ctl(Task& task, Fd epoll, Int operation, Fd fd,
                               UserIn<epoll_event> event);
Result<uint64_t> sys_epoll_wait(Task& task, Fd epoll, UserOut<epoll_event> events, Int max,
                                Int timeout_ms);
Result<uint64_t> sys_epoll_pwait(Task& task, Fd epoll, UserOut<epoll_event> events, Int max,
                                 Int timeout_ms, UserIn<kernel::SignalSet> mask, Size mask_size);
Result<uint64_t> sys_epoll_pwait2(Task& task, Fd epoll, UserOut<epoll_event> events, Int max,
                                  UserIn<timespec> timeout, UserIn<kernel::SignalSet> mask,
                                  Size mask_size);

}  // namespace boxrun::syscalls
