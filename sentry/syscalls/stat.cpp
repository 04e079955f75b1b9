#include "sentry/syscalls/stat.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

struct stat to_stat(const vfs::Attributes& a) {
  struct stat s {};
  s.st_dev = a.dev;
  s.st_ino = a.ino;
  s.st_nlink = a.nlink;
  s.st_mode = a.st_mode();
  s.st_uid = a.uid;
  s.st_gid = a.gid;
  s.st_rdev = a.rdev;
  s.st_size = static_cast<off_t>(a.size);
  s.st_blksize = a.block_size;
  s.st_blocks = static_cast<blkcnt_t>(a.blocks);
  s.st_atim = to_timespec(a.atime);
  s.st_mtim = to_timespec(a.mtime);
  s.st_ctim = to_timespec(a.ctime);
  return s;
}

statx_timestamp to_statx_time(Nanos t) {
  const timespec ts = to_timespec(t);
  return {ts.tv_sec, static_cast<uint32_t>(ts.tv_nsec), {}};
}

struct statx to_statx(const vfs::Attributes& a, int mount_id) {
  struct statx s {};
  s.stx_mask = STATX_BASIC_STATS | STATX_MNT_ID;
  s.stx_blksize = a.block_size;
  s.stx_attributes = a.flags;
  s.stx_attributes_mask = a.flags_mask;
  s.stx_nlink = a.nlink;
  s.stx_uid = a.uid;
  s.stx_gid = a.gid;
  s.stx_mode = static_cast<uint16_t>(a.st_mode());
  s.stx_ino = a.ino;
  s.stx_size = a.size;
  s.stx_blocks = a.blocks;
  s.stx_atime = to_statx_time(a.atime);
  s.stx_mtime = to_statx_time(a.mtime);
  s.stx_ctime = to_statx_time(a.ctime);
  if (a.btime) {
    s.stx_mask |= STATX_BTIME;
    s.stx_btime = to_statx_time(*a.btime);
  }
  s.stx_rdev_major = major(a.rdev);
  s.stx_rdev_minor = minor(a.rdev);
  s.stx_dev_major = major(a.dev);
  s.stx_dev_minor = minor(a.dev);
  s.stx_mnt_id = static_cast<uint64_t>(mount_id);
  return s;
}

struct statfs to_statfs(const vfs::Statistics& f, const vfs::Path& place) {
  struct statfs s {};
  s.f_type = static_cast<decltype(s.f_type)>(f.magic);
  s.f_bsize = static_cast<decltype(s.f_bsize)>(f.block_size);
  s.f_frsize = s.f_bsize;
  s.f_blocks = f.blocks;
  s.f_bfree = f.blocks_free;
  s.f_bavail = f.blocks_available;
  s.f_files = f.files;
  s.f_ffree = f.files_free;
  s.f_namelen = static_cast<decltype(s.f_namelen)>(f.name_max);
  // ST_VALID says that the other flags are meant (fs/statfs.c); the ST_ values are those of MS_.
  constexpr uint32_t kStValid = 0x20;
  uint32_t flags = kStValid;
  if (place.mount->read_only()) flags |= ST_RDONLY;
  if (place.mount->has(vfs::MountFlags::kNoSuid)) flags |= ST_NOSUID;
  if (place.mount->has(vfs::MountFlags::kNoDev)) flags |= ST_NODEV;
  if (place.mount->has(vfs::MountFlags::kNoExec)) flags |= ST_NOEXEC;
  s.f_flags = flags;
  return s;
}

// With AT_EMPTY_PATH and no path it is the open file that is asked, not its inode: pipes and
// sockets have attributes of their own. Linux 6.11 allows a null path there, too.
Result<vfs::Attributes> attributes_at(Task& task, DirFd dirfd, UserPath path, int flags,
                                      int* mount_id) {
  std::string text;
  if (path || (flags & AT_EMPTY_PATH) == 0) text = TRY(task.mm().copy_in_path(path));
  if (text.empty() && (flags & AT_EMPTY_PATH) != 0 && dirfd.value != AT_FDCWD) {
    const auto file = TRY(task.fds().get_raw(dirfd.value));
    if (mount_id != nullptr && file->path().mount) *mount_id = file->path().mount->id();
    return file->attributes();
  }
  const vfs::At at = TRY(at_of(task, dirfd, text, flags));
  FileCaller caller(task);
  if (mount_id == nullptr) return vfs::stat_at(caller, at, flags);
  const vfs::Path place = TRY(vfs::find(caller, at, flags));
  *mount_id = place.mount->id();
  return place.dentry->inode()->attributes();
}

Result<uint64_t> stat_path(Task& task, DirFd dirfd, UserPath path, UserOut<struct stat> out,
                           int flags) {
  const auto attributes = TRY(attributes_at(task, dirfd, path, flags, nullptr));
  return zero(task.mm().write(out, to_stat(attributes)));
}

}  // namespace

Result<uint64_t> sys_stat(Task& task, UserPath path, UserOut<struct stat> out) {
  return stat_path(task, DirFd{AT_FDCWD}, path, out, 0);
}
Result<uint64_t> sys_lstat(Task& task, UserPath path, UserOut<struct stat> out) {
  return stat_path(task, DirFd{AT_FDCWD}, path, out, AT_SYMLINK_NOFOLLOW);
}
Result<uint64_t> sys_fstat(Task& task, Fd fd, UserOut<struct stat> out) {
  const auto attributes = TRY(TRY(task.fds().get_raw(fd.value))->attributes());
  return zero(task.mm().write(out, to_stat(attributes)));
}
Result<uint64_t> sys_newfstatat(Task& task, DirFd dirfd, UserPath path, UserOut<struct stat> out,
                                AtFlags flags) {
  if ((flags.value & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH)) != 0) {
    return Errno::kInval;
  }
  return stat_path(task, dirfd, path, out, flags.value & ~AT_NO_AUTOMOUNT);
}

Result<uint64_t> sys_statx(Task& task, DirFd dirfd, UserPath path, AtFlags flags, Unsigned mask,
                           UserOut<struct statx> out) {
  constexpr int kKnown = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
  if ((mask.value & STATX__RESERVED) != 0 || (flags.value & ~kKnown) != 0 ||
      (flags.value & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE) {
    return Errno::kInval;
  }
  int mount_id = 0;
  const auto attributes = TRY(attributes_at(
      task, dirfd, path, flags.value & (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH), &mount_id));
  return zero(task.mm().write(out, to_statx(attributes, mount_id)));
}

Result<uint64_t> sys_statfs(Task& task, UserPath path, UserOut<struct statfs> out) {
  const vfs::Path place = TRY(place_of(task, DirFd{AT_FDCWD}, path, 0));
  const auto statistics = TRY(place.mount->file_system().statistics());
  return zero(task.mm().write(out, to_statfs(statistics, place)));
}
Result<uint64_t> sys_fstatfs(Task& task, Fd fd, UserOut<struct statfs> out) {
  const auto file = TRY(task.fds().get_raw(fd.value));
  const auto statistics = TRY(file->path().mount->file_system().statistics());
  return zero(task.mm().write(out, to_statfs(statistics, file->path())));
}

}  // namespace boxrun::syscalls
