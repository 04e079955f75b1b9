#pragma once
#include <fcntl.h>

#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_close(Task& task, Fd fd);
Result<uint64_t> sys_close_range(Task& task, Unsigned first, Unsigned last, Unsigned flags);
Result<uint64_t> sys_dup(Task& task, Fd fd);
Result<uint64_t> sys_dup2(Task& task, Fd from, Fd to);
Result<uint64_t> sys_dup3(Task& task, Fd from, Fd to, OpenFlags flags);
Result<uint64_t> sys_fcntl(Task& task, Fd fd, Command command, ULong arg);
Result<uint64_t> sys_ioctl(Task& task, Fd fd, Command command, ULong arg);
Result<uint64_t> sys_flock(Task& task, Fd fd, Int operation);

// The record lock commands of fcntl(2) (lock.cpp).
Result<uint64_t> record_lock(Task& task, int fd, int command, UserInOut<struct flock> lock);

}  // namespace boxrun::syscalls
