#include <fcntl.h>

#include <cstring>

#include "sentry/syscalls/file.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

Result<uint64_t> open_path(Task& task, DirFd dirfd, UserPath path, const vfs::OpenHow& how) {
  PathArgument argument = TRY(path_argument(task, dirfd, path));
  // There an absolute path begins at the directory, too.
  if ((how.resolve & RESOLVE_IN_ROOT) != 0) argument.start = TRY(at_of(task, dirfd, ".", 0)).start;
  FileCaller caller(task);
  Ref<FileDescription> file = TRY(vfs::open_at(caller, argument.at(), how));
  // A FIFO waits for its other end; O_NONBLOCK has been dealt with by finish_open itself.
  TRY(wait_for(task, *file, kReadable | kWritable, [&] { return file->finish_open(); }));
  return install(task, std::move(file), how.flags);
}

// open(2) ignores what openat2(2) refuses, and knows no large-file flag on x86-64.
Result<uint64_t> open_loosely(Task& task, DirFd dirfd, UserPath path, OpenFlags flags, Mode mode) {
  const bool makes_file = (flags.value & O_CREAT) != 0 || (flags.value & O_TMPFILE) == O_TMPFILE;
  vfs::OpenHow how;
  how.flags = flags.value;
  how.mode = makes_file ? mode.value & vfs::kPermissionBits : 0;
  return open_path(task, dirfd, path, TRY(vfs::check_open_flags(how, false)));
}

// struct open_how grows with new kernels: known fields are copied, what comes after must be zero
// (lib/usercopy.c: copy_struct_from_user).
Result<open_how> read_how(Task& task, UserIn<open_how> from, uint64_t size) {
  open_how how{};
  if (size < sizeof how) return Errno::kInval;
  if (size > kPageSize) return Errno::k2Big;
  std::vector<std::byte> bytes(size);
  TRY(task.mm().copy_in(from.addr, bytes));
  memcpy(&how, bytes.data(), sizeof how);
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  if (!std::all_of(bytes.begin() + sizeof how, bytes.end(), is_zero)) return Errno::k2Big;
  return how;
}

}  // namespace

Result<uint64_t> sys_open(Task& task, UserPath path, OpenFlags flags, Mode mode) {
  return open_loosely(task, DirFd{AT_FDCWD}, path, flags, mode);
}
Result<uint64_t> sys_openat(Task& task, DirFd dirfd, UserPath path, OpenFlags flags, Mode mode) {
  return open_loosely(task, dirfd, path, flags, mode);
}
Result<uint64_t> sys_creat(Task& task, UserPath path, Mode mode) {
  return open_loosely(task, DirFd{AT_FDCWD}, path, OpenFlags{O_CREAT | O_WRONLY | O_TRUNC}, mode);
}

Result<uint64_t> sys_openat2(Task& task, DirFd dirfd, UserPath path, UserIn<open_how> from,
                             Size size) {
  const open_how raw = TRY(read_how(task, from, size.value));
  if (raw.flags > INT32_MAX || (raw.mode & ~uint64_t{vfs::kPermissionBits}) != 0) {
    return Errno::kInval;
  }
  vfs::OpenHow how;
  how.flags = static_cast<int>(raw.flags);
  how.mode = static_cast<mode_t>(raw.mode);
  how.resolve = raw.resolve;
  return open_path(task, dirfd, path, TRY(vfs::check_open_flags(how, true)));
}

}  // namespace boxrun::syscalls
