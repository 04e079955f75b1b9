#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/file.h"
#include "sentry/syscalls/support.h"
#include "sentry/syscalls/transfer.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_truncate(Task& task, UserPath path, Offset size) {
  if (size.value < 0) return Errno::kInval;
  const vfs::Path place = TRY(place_of(task, DirFd{AT_FDCWD}, path, 0));
  const auto wanted = static_cast<uint64_t>(size.value);
  if (wanted > task.group().limits().soft(RLIMIT_FSIZE) &&
      wanted > TRY(place.dentry->inode()->attributes()).size) {
    return file_too_big(task);
  }
  FileCaller caller(task);
  return zero(vfs::truncate_place(caller, place, wanted));
}

Result<uint64_t> sys_renameat2(Task& task, DirFd from_dir, UserPath from, DirFd to_dir, UserPath to,
                               Unsigned flags) {
  const PathArgument source = TRY(path_argument(task, from_dir, from));
  const PathArgument target = TRY(path_argument(task, to_dir, to));
  FileCaller caller(task);
  return zero(vfs::rename_at(caller, source.at(), target.at(), flags.value));
}
Result<uint64_t> sys_renameat(Task& task, DirFd from_dir, UserPath from, DirFd to_dir,
                              UserPath to) {
  return sys_renameat2(task, from_dir, from, to_dir, to, Unsigned{0});
}
Result<uint64_t> sys_rename(Task& task, UserPath from, UserPath to) {
  return sys_renameat2(task, DirFd{AT_FDCWD}, from, DirFd{AT_FDCWD}, to, Unsigned{0});
}

Result<uint64_t> sys_linkat(Task& task, DirFd from_dir, UserPath from, DirFd to_dir, UserPath to,
                            AtFlags flags) {
  if ((flags.value & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0) return Errno::kInval;
  const PathArgument source = TRY(path_argument(task, from_dir, from, flags.value));
  const PathArgument target = TRY(path_argument(task, to_dir, to));
  FileCaller caller(task);
  return zero(vfs::link_at(caller, source.at(), target.at(), flags.value));
}
Result<uint64_t> sys_link(Task& task, UserPath from, UserPath to) {
  return sys_linkat(task, DirFd{AT_FDCWD}, from, DirFd{AT_FDCWD}, to, AtFlags{0});
}

Result<uint64_t> sys_unlinkat(Task& task, DirFd dirfd, UserPath path, AtFlags flags) {
  if ((flags.value & ~AT_REMOVEDIR) != 0) return Errno::kInval;
  const PathArgument argument = TRY(path_argument(task, dirfd, path));
  FileCaller caller(task);
  return zero((flags.value & AT_REMOVEDIR) != 0 ? vfs::remove_directory(caller, argument.at())
                                                : vfs::unlink_file(caller, argument.at()));
}
Result<uint64_t> sys_unlink(Task& task, UserPath path) {
  return sys_unlinkat(task, DirFd{AT_FDCWD}, path, AtFlags{0});
}

Result<uint64_t> sys_symlinkat(Task& task, UserPath target, DirFd dirfd, UserPath path) {
  const std::string text = TRY(task.mm().copy_in_path(target));
  if (text.empty()) return Errno::kNoEnt;
  const PathArgument argument = TRY(path_argument(task, dirfd, path));
  FileCaller caller(task);
  return zero(vfs::make_symlink(caller, argument.at(), text));
}
Result<uint64_t> sys_symlink(Task& task, UserPath target, UserPath path) {
  return sys_symlinkat(task, target, DirFd{AT_FDCWD}, path);
}

Result<uint64_t> sys_readlinkat(Task& task, DirFd dirfd, UserPath path, UserOut<Bytes> buffer,
                                Int size) {
  if (size.value <= 0) return Errno::kInval;
  // The link may have been opened with O_PATH (fs/stat.c: do_readlinkat).
  const PathArgument argument = TRY(path_argument(task, dirfd, path, AT_EMPTY_PATH));
  FileCaller caller(task);
  const std::string text = TRY(vfs::read_link_at(caller, argument.at()));
  const size_t n = std::min(text.size(), static_cast<size_t>(size.value));
  TRY(task.mm().copy_out(buffer.addr, as_bytes_of(text.data(), n)));
  return n;
}
Result<uint64_t> sys_readlink(Task& task, UserPath path, UserOut<Bytes> buffer, Int size) {
  return sys_readlinkat(task, DirFd{AT_FDCWD}, path, buffer, size);
}

Result<uint64_t> sys_mknodat(Task& task, DirFd dirfd, UserPath path, Mode mode, ULong dev) {
  // A mode without a type makes a regular file (fs/namei.c: may_mknod).
  const auto type =
      (mode.value & S_IFMT) == 0 ? vfs::FileType::kRegular : vfs::file_type_of(mode.value);
  switch (type) {
    case vfs::FileType::kRegular:
    case vfs::FileType::kFifo:
    case vfs::FileType::kSocket:
    case vfs::FileType::kCharDevice:
    case vfs::FileType::kBlockDevice:
      break;
    case vfs::FileType::kDirectory:
      return Errno::kPerm;
    default:
      return Errno::kInval;
  }
  const PathArgument argument = TRY(path_argument(task, dirfd, path));
  FileCaller caller(task);
  // The system call's 32-bit encoding (include/linux/kdev_t.h: new_decode_dev).
  const auto encoded = static_cast<uint32_t>(dev.value);
  const uint64_t rdev =
      makedev((encoded & 0xfff00) >> 8, (encoded & 0xff) | (encoded >> 12 & 0xfff00));
  return zero(vfs::make_node(caller, argument.at(), type, mode.value & vfs::kPermissionBits, rdev));
}
Result<uint64_t> sys_mknod(Task& task, UserPath path, Mode mode, ULong dev) {
  return sys_mknodat(task, DirFd{AT_FDCWD}, path, mode, dev);
}

}  // namespace boxrun::syscalls
