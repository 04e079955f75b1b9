#pragma once
#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_mkdir(Task& task, UserPath path, Mode mode);
Result<uint64_t> sys_mkdirat(Task& task, DirFd dirfd, UserPath path, Mode mode);
Result<uint64_t> sys_rmdir(Task& task, UserPath path);
Result<uint64_t> sys_getdents(Task& task, Fd fd, UserOut<Bytes> entries, Unsigned size);
Result<uint64_t> sys_getdents64(Task& task, Fd fd, UserOut<Bytes> entries, Unsigned size);
Result<uint64_t> sys_chdir(Task& task, UserPath path);
Result<uint64_t> sys_fchdir(Task& task, Fd fd);
Result<uint64_t> sys_getcwd(Task& task, UserOut<Bytes> buffer, ULong size);
Result<uint64_t> sys_chroot(Task& task, UserPath path);

}  // namespace boxrun::syscalls
