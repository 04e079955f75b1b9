#pragma once
#include <sys/stat.h>
#include <sys/statfs.h>

#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_stat(Task& task, UserPath path, UserOut<struct stat> out);
Result<uint64_t> sys_lstat(Task& task, UserPath path, UserOut<struct stat> out);
Result<uint64_t> sys_fstat(Task& task, Fd fd, UserOut<struct stat> out);
Result<uint64_t> sys_newfstatat(Task& task, DirFd dirfd, UserPath path, UserOut<struct stat> out,
                                AtFlags flags);
Result<uint64_t> sys_statx(Task& task, DirFd dirfd, UserPath path, AtFlags flags, Unsigned mask,
                           UserOut<struct statx> out);
Result<uint64_t> sys_statfs(Task& task, UserPath path, UserOut<struct statfs> out);
Result<uint64_t> sys_fstatfs(Task& task, Fd fd, UserOut<struct statfs> out);

}  // namespace boxrun::syscalls
