#pragma once
#include <linux/openat2.h>
#include <sys/time.h>
#include <utime.h>

#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

// --- open.cpp
Result<uint64_t> sys_open(Task& task, UserPath path, OpenFlags flags, Mode mode);
Result<uint64_t> sys_openat(Task& task, DirFd dirfd, UserPath path, OpenFlags flags, Mode mode);
Result<uint64_t> sys_openat2(Task& task, DirFd dirfd, UserPath path, UserIn<open_how> how,
                             Size size);
Result<uint64_t> sys_creat(Task& task, UserPath path, Mode mode);

// --- name.cpp: names that appear, move and go
Result<uint64_t> sys_truncate(Task& task, UserPath path, Offset size);
Result<uint64_t> sys_rename(Task& task, UserPath from, UserPath to);
Result<uint64_t> sys_renameat(Task& task, DirFd from_dir, UserPath from, DirFd to_dir, UserPath to);
Result<uint64_t> sys_renameat2(Task& task, DirFd from_dir, UserPath from, DirFd to_dir, UserPath to,
                               Unsigned flags);
Result<uint64_t> sys_link(Task& task, UserPath from, UserPath to);
Result<uint64_t> sys_linkat(Task& task, DirFd from_dir, UserPath from, DirFd to_dir, UserPath to,
                            AtFlags flags);
Result<uint64_t> sys_unlink(Task& task, UserPath path);
Result<uint64_t> sys_unlinkat(Task& task, DirFd dirfd, UserPath path, AtFlags flags);
Result<uint64_t> sys_symlink(Task& task, UserPath target, UserPath path);
Result<uint64_t> sys_symlinkat(Task& task, UserPath target, DirFd dirfd, UserPath path);
Result<uint64_t> sys_readlink(Task& task, UserPath path, UserOut<Bytes> buffer, Int size);
Result<uint64_t> sys_readlinkat(Task& task, DirFd dirfd, UserPath path, UserOut<Bytes> buffer,
                                Int size);
Result<uint64_t> sys_mknod(Task& task, UserPath path, Mode mode, ULong dev);
Result<uint64_t> sys_mknodat(Task& task, DirFd dirfd, UserPath path, Mode mode, ULong dev);

// --- attr.cpp: what a file's inode says
Result<uint64_t> sys_chmod(Task& task, UserPath path, Mode mode);
Result<uint64_t> sys_fchmod(Task& task, Fd fd, Mode mode);
Result<uint64_t> sys_fchmodat(Task& task, DirFd dirfd, UserPath path, Mode mode);
Result<uint64_t> sys_fchmodat2(Task& task, DirFd dirfd, UserPath path, Mode mode, AtFlags flags);
Result<uint64_t> sys_chown(Task& task, UserPath path, Uid uid, Gid gid);
Result<uint64_t> sys_lchown(Task& task, UserPath path, Uid uid, Gid gid);
Result<uint64_t> sys_fchown(Task& task, Fd fd, Uid uid, Gid gid);
Result<uint64_t> sys_fchownat(Task& task, DirFd dirfd, UserPath path, Uid uid, Gid gid,
                              AtFlags flags);
Result<uint64_t> sys_utime(Task& task, UserPath path, UserIn<utimbuf> times);
Result<uint64_t> sys_utimes(Task& task, UserPath path, UserIn<timeval> times);
Result<uint64_t> sys_futimesat(Task& task, DirFd dirfd, UserPath path, UserIn<timeval> times);
Result<uint64_t> sys_utimensat(Task& task, DirFd dirfd, UserPath path, UserIn<timespec> times,
                               AtFlags flags);
Result<uint64_t> sys_access(Task& task, UserPath path, Int mode);
Result<uint64_t> sys_faccessat(Task& task, DirFd dirfd, UserPath path, Int mode);
Result<uint64_t> sys_faccessat2(Task& task, DirFd dirfd, UserPath path, Int mode, AtFlags flags);
Result<uint64_t> sys_umask(Task& task, Mode mask);

// --- xattr.cpp
Result<uint64_t> sys_setxattr(Task& task, UserPath path, UserString name, UserIn<Bytes> value,
                              Size size, Int flags);
Result<uint64_t> sys_lsetxattr(Task& task, UserPath path, UserString name, UserIn<Bytes> value,
                               Size size, Int flags);
Result<uint64_t> sys_fsetxattr(Task& task, Fd fd, UserString name, UserIn<Bytes> value, Size size,
                               Int flags);
Result<uint64_t> sys_getxattr(Task& task, UserPath path, UserString name, UserOut<Bytes> value,
                              Size size);
Result<uint64_t> sys_lgetxattr(Task& task, UserPath path, UserString name, UserOut<Bytes> value,
                               Size size);
Result<uint64_t> sys_fgetxattr(Task& task, Fd fd, UserString name, UserOut<Bytes> value, Size size);
Result<uint64_t> sys_listxattr(Task& task, UserPath path, UserOut<Bytes> list, Size size);
Result<uint64_t> sys_llistxattr(Task& task, UserPath path, UserOut<Bytes> list, Size size);
Result<uint64_t> sys_flistxattr(Task& task, Fd fd, UserOut<Bytes> list, Size size);
Result<uint64_t> sys_removexattr(Task& task, UserPath path, UserString name);
Result<uint64_t> sys_lremovexattr(Task& task, UserPath path, UserString name);
Result<uint64_t> sys_fremovexattr(Task& task, Fd fd, UserString name);

}  // namespace boxrun::syscalls
