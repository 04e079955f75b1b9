// xattr(7): each call in three forms, by path, by path without following, by descriptor.
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/xattr.h>

#include "sentry/syscalls/file.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

Result<vfs::Path> path_place(Task& task, UserPath path, int flags) {
  return place_of(task, DirFd{AT_FDCWD}, path, flags);
}
Result<vfs::Path> fd_place(Task& task, Fd fd) { return TRY(task.fds().get(fd.value))->path(); }

// ERANGE also for an empty name (fs/xattr.c: import_xattr_name).
Result<std::string> copy_name(Task& task, UserString name) {
  auto text = task.mm().copy_in_string(name.addr, XATTR_NAME_MAX);
  if (text.error() == Errno::kNameTooLong) return Errno::kRange;
  if (text.ok() && text->empty()) return Errno::kRange;
  return text;
}

// Copies out what fits the rules of getxattr and listxattr: size 0 asks how much there is.
Result<uint64_t> give(Task& task, UserOut<Bytes> to, uint64_t size, std::string_view bytes) {
  if (size == 0) return bytes.size();
  if (bytes.size() > size) return Errno::kRange;
  TRY(task.mm().copy_out(to.addr, as_bytes_of(bytes.data(), bytes.size())));
  return bytes.size();
}

Result<uint64_t> set(Task& task, const vfs::Path& place, UserString name, UserIn<Bytes> value,
                     Size size, Int flags) {
  if ((flags.value & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) return Errno::kInval;
  const std::string key = TRY(copy_name(task, name));
  if (size.value > XATTR_SIZE_MAX) return Errno::k2Big;
  std::string bytes(size.value, '\0');
  TRY(task.mm().copy_in(value.addr, std::as_writable_bytes(std::span(bytes))));
  vfs::XattrCreate how = vfs::XattrCreate::kAny;
  if ((flags.value & XATTR_CREATE) != 0) how = vfs::XattrCreate::kMustCreate;
  if ((flags.value & XATTR_REPLACE) != 0) how = vfs::XattrCreate::kMustReplace;
  FileCaller caller(task);
  return zero(vfs::set_xattr(caller, place, key, bytes, how));
}

Result<uint64_t> get(Task& task, const vfs::Path& place, UserString name, UserOut<Bytes> value,
                     Size size) {
  const std::string key = TRY(copy_name(task, name));
  FileCaller caller(task);
  const std::string bytes = TRY(vfs::get_xattr(caller, place, key));
  return give(task, value, size.value, bytes);
}

Result<uint64_t> list(Task& task, const vfs::Path& place, UserOut<Bytes> to, Size size) {
  FileCaller caller(task);
  std::string names;
  for (const std::string& name : TRY(vfs::list_xattr(caller, place))) {
    names += name;
    names += '\0';
  }
  return give(task, to, size.value, names);
}

Result<uint64_t> remove(Task& task, const vfs::Path& place, UserString name) {
  const std::string key = TRY(copy_name(task, name));
  FileCaller caller(task);
  return zero(vfs::remove_xattr(caller, place, key));
}

}  // namespace

Result<uint64_t> sys_setxattr(Task& task, UserPath path, UserString name, UserIn<Bytes> value,
                              Size size, Int flags) {
  return set(task, TRY(path_place(task, path, 0)), name, value, size, flags);
}
Result<uint64_t> sys_lsetxattr(Task& task, UserPath path, UserString name, UserIn<Bytes> value,
                               Size size, Int flags) {
  return set(task, TRY(path_place(task, path, AT_SYMLINK_NOFOLLOW)), name, value, size, flags);
}
Result<uint64_t> sys_fsetxattr(Task& task, Fd fd, UserString name, UserIn<Bytes> value, Size size,
                               Int flags) {
  return set(task, TRY(fd_place(task, fd)), name, value, size, flags);
}

Result<uint64_t> sys_getxattr(Task& task, UserPath path, UserString name, UserOut<Bytes> value,
                              Size size) {
  return get(task, TRY(path_place(task, path, 0)), name, value, size);
}
Result<uint64_t> sys_lgetxattr(Task& task, UserPath path, UserString name, UserOut<Bytes> value,
                               Size size) {
  return get(task, TRY(path_place(task, path, AT_SYMLINK_NOFOLLOW)), name, value, size);
}
Result<uint64_t> sys_fgetxattr(Task& task, Fd fd, UserString name, UserOut<Bytes> value,
                               Size size) {
  return get(task, TRY(fd_place(task, fd)), name, value, size);
}

Result<uint64_t> sys_listxattr(Task& task, UserPath path, UserOut<Bytes> to, Size size) {
  return list(task, TRY(path_place(task, path, 0)), to, size);
}
Result<uint64_t> sys_llistxattr(Task& task, UserPath path, UserOut<Bytes> to, Size size) {
  return list(task, TRY(path_place(task, path, AT_SYMLINK_NOFOLLOW)), to, size);
}
Result<uint64_t> sys_flistxattr(Task& task, Fd fd, UserOut<Bytes> to, Size size) {
  return list(task, TRY(fd_place(task, fd)), to, size);
}

Result<uint64_t> sys_removexattr(Task& task, UserPath path, UserString name) {
  return remove(task, TRY(path_place(task, path, 0)), name);
}
Result<uint64_t> sys_lremovexattr(Task& task, UserPath path, UserString name) {
  return remove(task, TRY(path_place(task, path, AT_SYMLINK_NOFOLLOW)), name);
}
Result<uint64_t> sys_fremovexattr(Task& task, Fd fd, UserString name) {
  return remove(task, TRY(fd_place(task, fd)), name);
}

}  // namespace boxrun::syscalls
