#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "sentry/syscalls/file.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

constexpr int kPlaceFlags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;

Result<uint64_t> change_times(Task& task, DirFd dirfd, UserPath path, const vfs::NewTimes& times,
                              int flags) {
  FileCaller caller(task);
  // futimens(3): no path, the descriptor itself.
  if (!path && dirfd.value != AT_FDCWD) {
    if (flags != 0) return Errno::kInval;
    return zero(vfs::change_times(caller, TRY(task.fds().get(dirfd.value))->path(), times));
  }
  return zero(vfs::change_times(caller, TRY(place_of(task, dirfd, path, flags)), times));
}

vfs::NewTimes both_now() { return {vfs::TimeChange{.now = true}, vfs::TimeChange{.now = true}}; }

Result<vfs::NewTimes> times_of(Task& task, UserIn<timeval> from) {
  if (!from) return both_now();
  const auto [atime, mtime] = TRY(task.mm().read(UserIn<std::array<timeval, 2>>{from.addr}));
  for (const timeval& t : {atime, mtime}) {
    if (t.tv_usec < 0 || t.tv_usec >= 1'000'000) return Errno::kInval;
  }
  const auto nanos = [](const timeval& t) {
    return vfs::TimeChange{false, from_timespec({t.tv_sec, t.tv_usec * 1000})};
  };
  return vfs::NewTimes{nanos(atime), nanos(mtime)};
}

// UTIME_NOW and UTIME_OMIT (utimensat(2)).
Result<std::optional<vfs::TimeChange>> time_of(const timespec& t) {
  using Change = std::optional<vfs::TimeChange>;
  if (t.tv_nsec == UTIME_OMIT) return Change{};
  if (t.tv_nsec == UTIME_NOW) return Change{vfs::TimeChange{.now = true}};
  if (t.tv_nsec < 0 || t.tv_nsec >= kSecond) return Errno::kInval;
  return Change{vfs::TimeChange{false, from_timespec(t)}};
}

}  // namespace

Result<uint64_t> sys_fchmodat2(Task& task, DirFd dirfd, UserPath path, Mode mode, AtFlags flags) {
  if ((flags.value & ~kPlaceFlags) != 0) return Errno::kInval;
  const vfs::Path place = TRY(place_of(task, dirfd, path, flags.value));
  FileCaller caller(task);
  return zero(vfs::change_mode(caller, place, mode.value & vfs::kPermissionBits));
}
Result<uint64_t> sys_fchmodat(Task& task, DirFd dirfd, UserPath path, Mode mode) {
  return sys_fchmodat2(task, dirfd, path, mode, AtFlags{0});
}
Result<uint64_t> sys_chmod(Task& task, UserPath path, Mode mode) {
  return sys_fchmodat2(task, DirFd{AT_FDCWD}, path, mode, AtFlags{0});
}
Result<uint64_t> sys_fchmod(Task& task, Fd fd, Mode mode) {
  const auto file = TRY(task.fds().get(fd.value));
  FileCaller caller(task);
  return zero(vfs::change_mode(caller, file->path(), mode.value & vfs::kPermissionBits));
}

Result<uint64_t> sys_fchownat(Task& task, DirFd dirfd, UserPath path, Uid uid, Gid gid,
                              AtFlags flags) {
  if ((flags.value & ~kPlaceFlags) != 0) return Errno::kInval;
  const vfs::Path place = TRY(place_of(task, dirfd, path, flags.value));
  FileCaller caller(task);
  return zero(vfs::change_owner(caller, place, uid.value, gid.value));
}
Result<uint64_t> sys_chown(Task& task, UserPath path, Uid uid, Gid gid) {
  return sys_fchownat(task, DirFd{AT_FDCWD}, path, uid, gid, AtFlags{0});
}
Result<uint64_t> sys_lchown(Task& task, UserPath path, Uid uid, Gid gid) {
  return sys_fchownat(task, DirFd{AT_FDCWD}, path, uid, gid, AtFlags{AT_SYMLINK_NOFOLLOW});
}
Result<uint64_t> sys_fchown(Task& task, Fd fd, Uid uid, Gid gid) {
  const auto file = TRY(task.fds().get(fd.value));
  FileCaller caller(task);
  return zero(vfs::change_owner(caller, file->path(), uid.value, gid.value));
}

Result<uint64_t> sys_utime(Task& task, UserPath path, UserIn<utimbuf> from) {
  vfs::NewTimes times = both_now();
  if (from) {
    const utimbuf raw = TRY(task.mm().read(from));
    times = {vfs::TimeChange{false, from_timespec({raw.actime, 0})},
             vfs::TimeChange{false, from_timespec({raw.modtime, 0})}};
  }
  return change_times(task, DirFd{AT_FDCWD}, path, times, 0);
}
Result<uint64_t> sys_futimesat(Task& task, DirFd dirfd, UserPath path, UserIn<timeval> times) {
  return change_times(task, dirfd, path, TRY(times_of(task, times)), 0);
}
Result<uint64_t> sys_utimes(Task& task, UserPath path, UserIn<timeval> times) {
  return sys_futimesat(task, DirFd{AT_FDCWD}, path, times);
}

Result<uint64_t> sys_utimensat(Task& task, DirFd dirfd, UserPath path, UserIn<timespec> from,
                               AtFlags flags) {
  if ((flags.value & ~kPlaceFlags) != 0) return Errno::kInval;
  vfs::NewTimes times = both_now();
  if (from) {
    const auto raw = TRY(task.mm().read(UserIn<std::array<timespec, 2>>{from.addr}));
    times.atime = TRY(time_of(raw[0]));
    times.mtime = TRY(time_of(raw[1]));
    // Nothing to do does not even look at the path (fs/utimes.c: do_utimes).
    if (!times.atime && !times.mtime) return uint64_t{0};
  }
  return change_times(task, dirfd, path, times, flags.value);
}

Result<uint64_t> sys_faccessat2(Task& task, DirFd dirfd, UserPath path, Int mode, AtFlags flags) {
  if ((mode.value & ~(R_OK | W_OK | X_OK)) != 0) return Errno::kInval;
  if ((flags.value & ~(kPlaceFlags | AT_EACCESS)) != 0) return Errno::kInval;
  const PathArgument argument = TRY(path_argument(task, dirfd, path, flags.value));
  FileCaller caller(task);
  return zero(
      vfs::access_at(caller, argument.at(), static_cast<vfs::AccessMask>(mode.value), flags.value));
}
Result<uint64_t> sys_faccessat(Task& task, DirFd dirfd, UserPath path, Int mode) {
  return sys_faccessat2(task, dirfd, path, mode, AtFlags{0});
}
Result<uint64_t> sys_access(Task& task, UserPath path, Int mode) {
  return sys_faccessat2(task, DirFd{AT_FDCWD}, path, mode, AtFlags{0});
}

Result<uint64_t> sys_umask(Task& task, Mode mask) {
  return uint64_t{task.fs().set_umask(mask.value & vfs::kAccessBits)};
}

}  // namespace boxrun::syscalls
