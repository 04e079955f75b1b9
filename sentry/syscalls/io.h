#pragma once
#include <sys/uio.h>

#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_read(Task& task, Fd fd, UserOut<Bytes> buffer, Size size);
Result<uint64_t> sys_write(Task& task, Fd fd, UserIn<Bytes> buffer, Size size);
Result<uint64_t> sys_pread64(Task& task, Fd fd, UserOut<Bytes> buffer, Size size, Offset offset);
Result<uint64_t> sys_pwrite64(Task& task, Fd fd, UserIn<Bytes> buffer, Size size, Offset offset);
Result<uint64_t> sys_readv(Task& task, Fd fd, UserIn<iovec> vector, ULong count);
Result<uint64_t> sys_writev(Task& task, Fd fd, UserIn<iovec> vector, ULong count);
Result<uint64_t> sys_preadv(Task& task, Fd fd, UserIn<iovec> vector, ULong count, Offset low,
                            ULong high);
Result<uint64_t> sys_pwritev(Task& task, Fd fd, UserIn<iovec> vector, ULong count, Offset low,
                             ULong high);
Result<uint64_t> sys_preadv2(Task& task, Fd fd, UserIn<iovec> vector, ULong count, Offset low,
                             ULong high, Int flags);
Result<uint64_t> sys_pwritev2(Task& task, Fd fd, UserIn<iovec> vector, ULong count, Offset low,
                              ULong high, Int flags);
Result<uint64_t> sys_lseek(Task& task, Fd fd, Offset offset, Unsigned whence);
Result<uint64_t> sys_ftruncate(Task& task, Fd fd, Offset size);
Result<uint64_t> sys_fallocate(Task& task, Fd fd, Int mode, Offset offset, Offset length);
Result<uint64_t> sys_fsync(Task& task, Fd fd);
Result<uint64_t> sys_fdatasync(Task& task, Fd fd);
Result<uint64_t> sys_sync_file_range(Task& task, Fd fd, Offset offset, Offset length,
                                     Unsigned flags);
Result<uint64_t> sys_syncfs(Task& task, Fd fd);
Result<uint64_t> sys_sync(Task& task);
Result<uint64_t> sys_fadvise64(Task& task, Fd fd, Offset offset, Offset length, Int advice);
Result<uint64_t> sys_readahead(Task& task, Fd fd, Offset offset, Size size);
Result<uint64_t> sys_sendfile(Task& task, Fd out, Fd in, UserInOut<int64_t> offset, Size size);
Result<uint64_t> sys_copy_file_range(Task& task, Fd in, UserInOut<int64_t> in_offset, Fd out,
                                     UserInOut<int64_t> out_offset, Size size, Unsigned flags);
Result<uint64_t> sys_splice(Task& task, Fd in, UserInOut<int64_t> in_offset, Fd out,
                            UserInOut<int64_t> out_offset, Size size, Unsigned flags);
Result<uint64_t> sys_tee(Task& task, Fd in, Fd out, Size size, Unsigned flags);
Result<uint64_t> sys_vmsplice(Task& task, Fd fd, UserIn<iovec> vector, ULong count, Unsigned flags);

}  // namespace boxrun::syscalls
