// Calls that read and change what is known about a file: stat, chmod, chown, utimensat, truncate,
// access, xattrs, and the working directory.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>

#include <algorithm>
#include <utility>

#include "sentry/vfs/file_system.h"
#include "sentry/vfs/operations.h"

namespace boxrun::vfs {
namespace {

Result<void> change_place(Caller& caller, const Path& place, AttributeChange change,
                          TimesBy times_by = TimesBy::kOwner) {
  TRY(require_writable(caller, place));
  const Ref<Inode> inode = place.dentry->inode();
  TRY(prepare_change(TRY(inode->attributes()), *caller.credentials, change, times_by));
  return inode->change(change);
}

// access(2) asks on behalf of the real user (fs/open.c: access_override_creds).
Ref<Credentials> real_credentials(const Credentials& who) {
  Ref<Credentials> real = who.clone();
  real->fsuid = who.ruid;
  real->fsgid = who.rgid;
  if ((who.securebits & (1u << SECURE_NO_SETUID_FIXUP)) == 0) {
    real->effective = who.ruid == 0 ? who.permitted : CapSet{};
  }
  return real;
}

bool is_special(FileType type) {
  return type != FileType::kRegular && type != FileType::kDirectory && type != FileType::kSymlink;
}

}  // namespace

Result<Path> find(Caller& caller, const At& at, int flags) {
  WalkOptions options;
  options.follow = (flags & AT_SYMLINK_NOFOLLOW) != 0 ? Follow::kNo : Follow::kYes;
  options.allow_empty = (flags & AT_EMPTY_PATH) != 0;
  return walk(caller, at.start, at.path, options);
}

Result<Attributes> stat_at(Caller& caller, const At& at, int flags) {
  const Path place = TRY(find(caller, at, flags));
  return place.dentry->inode()->attributes();
}

Result<void> access_at(Caller& caller, const At& at, AccessMask mask, int flags) {
  if ((mask & ~(kMayRead | kMayWrite | kMayExec)) != 0) return Errno::kInval;
  Caller as = caller;
  if ((flags & AT_EACCESS) == 0) as.credentials = real_credentials(*caller.credentials);
  const Path place = TRY(find(as, at, flags));
  const Ref<Inode> inode = place.dentry->inode();
  const bool regular = inode->type() == FileType::kRegular;
  if ((mask & kMayExec) != 0 && regular && place.mount->has(MountFlags::kNoExec)) {
    return Errno::kAcces;
  }
  TRY(inode->permission(*as.credentials, mask));
  // Only a question, so no denial is reported.
  if ((mask & kMayWrite) != 0 && !is_special(inode->type()) && place.mount->read_only()) {
    return Errno::kRoFs;
  }
  return {};
}

Result<std::string> read_link_at(Caller& caller, const At& at) {
  // readlinkat(2): an empty path is the symlink that an O_PATH descriptor stands for.
  const Path place = TRY(find(caller, at, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
  const Ref<Inode> inode = place.dentry->inode();
  if (inode->type() != FileType::kSymlink) return at.path.empty() ? Errno::kNoEnt : Errno::kInval;
  return inode->read_link();
}

Result<Statistics> statistics_at(Caller& caller, const At& at) {
  const Path place = TRY(find(caller, at, 0));
  return place.mount->file_system().statistics();
}

Result<void> change_mode(Caller& caller, const Path& place, mode_t mode) {
  if (place.dentry->inode()->type() == FileType::kSymlink) return Errno::kOpNotSupp;
  AttributeChange change;
  change.mode = mode & kPermissionBits;
  return change_place(caller, place, change);
}

Result<void> change_owner(Caller& caller, const Path& place, uid_t uid, gid_t gid) {
  AttributeChange change;
  if (uid != static_cast<uid_t>(-1)) change.uid = uid;
  if (gid != static_cast<gid_t>(-1)) change.gid = gid;
  return change_place(caller, place, change);
}

Result<void> change_times(Caller& caller, const Path& place, NewTimes times) {
  if (!times.atime && !times.mtime) return {};
  AttributeChange change;
  change.atime = times.atime;
  change.mtime = times.mtime;
  return change_place(caller, place, change, TimesBy::kWriter);
}

// fs/open.c: vfs_truncate.
Result<void> truncate_place(Caller& caller, const Path& place, uint64_t size) {
  const Ref<Inode> inode = place.dentry->inode();
  if (inode->is_directory()) return Errno::kIsDir;
  if (inode->type() != FileType::kRegular) return Errno::kInval;
  TRY(require_writable(caller, place));
  TRY(inode->permission(*caller.credentials, kMayWrite));
  const Attributes now = TRY(inode->attributes());
  if (size > now.size && size > caller.file_size_limit) return Errno::kFBig;
  AttributeChange change;
  change.size = size;
  TRY(prepare_change(now, *caller.credentials, change));
  TRY(inode->get_write_access());
  const Result<void> changed = inode->change(change);
  inode->put_write_access();
  return changed;
}

Result<std::string> get_xattr(Caller& caller, const Path& place, std::string_view name) {
  const Ref<Inode> inode = place.dentry->inode();
  TRY(check_xattr(TRY(inode->attributes()), *caller.credentials, name, kMayRead));
  return inode->get_xattr(name);
}

Result<void> set_xattr(Caller& caller, const Path& place, std::string_view name,
                       std::string_view value, XattrCreate how) {
  TRY(require_writable(caller, place));
  const Ref<Inode> inode = place.dentry->inode();
  TRY(check_xattr(TRY(inode->attributes()), *caller.credentials, name, kMayWrite));
  return inode->set_xattr(name, value, how);
}

Result<void> remove_xattr(Caller& caller, const Path& place, std::string_view name) {
  TRY(require_writable(caller, place));
  const Ref<Inode> inode = place.dentry->inode();
  TRY(check_xattr(TRY(inode->attributes()), *caller.credentials, name, kMayWrite));
  return inode->remove_xattr(name);
}

Result<std::vector<std::string>> list_xattr(Caller& caller, const Path& place) {
  Result<std::vector<std::string>> names = place.dentry->inode()->list_xattr();
  if (!names.ok()) {
    // listxattr(2) of a file system without attributes is an empty list.
    if (names.error() == Errno::kOpNotSupp) return std::vector<std::string>();
    return names.error();
  }
  if (!caller.credentials->has_capability(CAP_SYS_ADMIN)) {
    std::erase_if(*names, [](const std::string& name) { return name.starts_with("trusted."); });
  }
  return names;
}

Result<std::string> current_directory(Caller& caller) {
  const Path cwd = caller.fs.cwd();
  if (cwd.dentry->unhashed()) return Errno::kNoEnt;
  bool reachable = true;
  std::string path = path_of(caller.mounts, caller.fs.root(), cwd, &reachable);
  return reachable ? path : "(unreachable)" + path;
}

Result<void> change_directory(Caller& caller, const Path& place) {
  const Ref<Inode> inode = place.dentry->inode();
  if (!inode->is_directory()) return Errno::kNotDir;
  TRY(inode->permission(*caller.credentials, kMayExec));
  caller.fs.set_cwd(place);
  return {};
}

Result<void> change_root(Caller& caller, const Path& place) {
  const Ref<Inode> inode = place.dentry->inode();
  if (!inode->is_directory()) return Errno::kNotDir;
  TRY(inode->permission(*caller.credentials, kMayExec));
  if (!caller.credentials->has_capability(CAP_SYS_CHROOT)) return Errno::kPerm;
  caller.fs.set_root(place);
  return {};
}

}  // namespace boxrun::vfs
