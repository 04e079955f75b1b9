// Calls that make and remove names (fs/namei.c: filename_create, do_unlinkat, do_rmdir).
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/sysmacros.h>

#include <utility>

#include "sentry/vfs/names.h"
#include "sentry/vfs/operations.h"

namespace boxrun::vfs {

Result<void> may_create_in(Caller& caller, const Path& directory) {
  if (directory.dentry->unhashed()) return Errno::kNoEnt;
  return directory.dentry->inode()->permission(*caller.credentials, kMayWrite | kMayExec);
}

Result<void> may_delete_from(Caller& caller, const Path& directory, Dentry& victim, Expect expect) {
  const Ref<Inode> parent = directory.dentry->inode();
  const Ref<Inode> inode = victim.inode();
  TRY(parent->permission(*caller.credentials, kMayWrite | kMayExec));
  if (sticky_forbids(TRY(parent->attributes()), TRY(inode->attributes()), *caller.credentials)) {
    return Errno::kPerm;
  }
  if (expect == Expect::kDirectory && !inode->is_directory()) return Errno::kNotDir;
  if (expect == Expect::kFile && inode->is_directory()) return Errno::kIsDir;
  if (directory.dentry->unhashed()) return Errno::kNoEnt;
  return {};
}

namespace {

// What the last step of a creation gets: the directory, locked and checked, and a name in it that
// does not exist. Returns the new inode.
template <class Make>
Result<Path> create_locked(Caller& caller, const LastName& last, bool directory, Make make) {
  const Path& parent = last.directory;
  Lock lock(parent.dentry->directory_mutex());
  const Ref<Dentry> negative = TRY(lookup_locked(parent, last.name));
  if (negative->inode()) return Errno::kExist;
  if (last.trailing_slash && !directory) return Errno::kNoEnt;
  if (parent.mount->read_only()) return Errno::kRoFs;
  TRY(may_create_in(caller, parent));
  Ref<Inode> made = TRY(make(*parent.dentry->inode(), last.name));
  return Path{parent.mount, negative->cache().insert(*parent.dentry, last.name, std::move(made))};
}

template <class Make>
Result<Path> create_name(Caller& caller, const At& at, bool directory, Make make) {
  const LastName last = TRY(walk_to_last(caller, at.start, at.path));
  if (last.kind != LastName::Kind::kNormal) return Errno::kExist;
  Result<Path> made = create_locked(caller, last, directory, make);
  // Reported once the lock is gone.
  if (made.error() == Errno::kRoFs) TRY(require_writable(caller, last));
  return made;
}

Result<Path> create_node(Caller& caller, const At& at, NewNode node) {
  const mode_t umask = caller.fs.umask();
  return create_name(caller, at, node.type == FileType::kDirectory,
                     [&](Inode& parent, const std::string& name) -> Result<Ref<Inode>> {
                       prepare_new_node(TRY(parent.attributes()), *caller.credentials, umask, node);
                       return parent.create(name, node);
                     });
}

}  // namespace

Result<void> make_node(Caller& caller, const At& at, FileType type, mode_t mode, uint64_t rdev) {
  switch (type) {
    case FileType::kUnknown:
      type = FileType::kRegular;
      break;
    case FileType::kRegular:
    case FileType::kFifo:
    case FileType::kSocket:
      break;
    case FileType::kCharDevice:
    case FileType::kBlockDevice: {
      // mknod(2); a character device 0:0 is a whiteout and needs no privilege.
      const bool whiteout = type == FileType::kCharDevice && rdev == 0;
      if (!whiteout && !caller.credentials->has_capability(CAP_MKNOD)) return Errno::kPerm;
      break;
    }
    case FileType::kDirectory:
      return Errno::kPerm;
    default:
      return Errno::kInval;
  }
  TRY(create_node(caller, at, {.type = type, .mode = mode, .rdev = rdev}));
  return {};
}

Result<void> make_directory(Caller& caller, const At& at, mode_t mode) {
  TRY(create_node(caller, at, {.type = FileType::kDirectory, .mode = mode & (0777 | S_ISVTX)}));
  return {};
}

Result<Path> make_socket(Caller& caller, const At& at, mode_t mode, Ref<RefCounted> endpoint) {
  Result<Path> made = create_node(caller, at, {.type = FileType::kSocket, .mode = mode});
  if (made.error() == Errno::kExist) return Errno::kAddrInUse;
  if (made.ok()) made->dentry->inode()->attach_if_none(std::move(endpoint));
  return made;
}

Result<void> make_symlink(Caller& caller, const At& at, std::string_view target) {
  if (target.empty()) return Errno::kNoEnt;
  TRY(create_node(caller, at, {.type = FileType::kSymlink, .symlink_target = std::string(target)}));
  return {};
}

Result<void> link_at(Caller& caller, const At& from, const At& to, int flags) {
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0) return Errno::kInval;
  WalkOptions options;
  options.follow = (flags & AT_SYMLINK_FOLLOW) != 0 ? Follow::kYes : Follow::kNo;
  options.allow_empty = (flags & AT_EMPTY_PATH) != 0;
  // linkat(2): for somebody else's descriptor, without the capability, an empty path is like a
  // missing file.
  if (options.allow_empty && from.path.empty() && from.opener != caller.credentials &&
      !caller.credentials->has_capability(CAP_DAC_READ_SEARCH)) {
    return Errno::kNoEnt;
  }
  const Path source = TRY(walk(caller, from.start, from.path, options));
  const Ref<Inode> inode = source.dentry->inode();
  const LastName last = TRY(walk_to_last(caller, to.start, to.path));
  if (last.kind != LastName::Kind::kNormal) return Errno::kExist;
  Result<Path> made = create_locked(
      caller, last, false, [&](Inode& parent, const std::string& name) -> Result<Ref<Inode>> {
        if (source.mount != last.directory.mount) return Errno::kXDev;
        if (inode->is_directory()) return Errno::kPerm;
        TRY(parent.link(name, *inode));
        return inode;
      });
  if (made.error() == Errno::kRoFs) TRY(require_writable(caller, last));
  if (!made.ok()) return made.error();
  return {};
}

namespace {

Result<void> unlink_locked(Caller& caller, const LastName& last) {
  const Path& parent = last.directory;
  Lock lock(parent.dentry->directory_mutex());
  const Ref<Dentry> victim = TRY(lookup_locked(parent, last.name));
  const Ref<Inode> inode = victim->inode();
  if (!inode) return Errno::kNoEnt;
  if (last.trailing_slash) return inode->is_directory() ? Errno::kIsDir : Errno::kNotDir;
  TRY(may_delete_from(caller, parent, *victim, Expect::kFile));
  if (victim->is_mountpoint()) return Errno::kBusy;
  TRY(parent.dentry->inode()->unlink(last.name, *inode));
  victim->cache().remove(*victim);
  return {};
}

Result<void> rmdir_locked(Caller& caller, const LastName& last) {
  const Path& parent = last.directory;
  Lock lock(parent.dentry->directory_mutex());
  const Ref<Dentry> victim = TRY(lookup_locked(parent, last.name));
  const Ref<Inode> inode = victim->inode();
  if (!inode) return Errno::kNoEnt;
  TRY(may_delete_from(caller, parent, *victim, Expect::kDirectory));
  if (victim->is_mountpoint()) return Errno::kBusy;
  // Nobody creates in it while it goes.
  const NestedDirectoryLock inside(*victim);
  TRY(parent.dentry->inode()->rmdir(last.name, *inode));
  victim->cache().remove(*victim);
  return {};
}

}  // namespace

Result<void> unlink_file(Caller& caller, const At& at) {
  const LastName last = TRY(walk_to_last(caller, at.start, at.path));
  if (last.kind != LastName::Kind::kNormal) return Errno::kIsDir;
  TRY(require_writable(caller, last));
  return unlink_locked(caller, last);
}

Result<void> remove_directory(Caller& caller, const At& at) {
  const LastName last = TRY(walk_to_last(caller, at.start, at.path));
  switch (last.kind) {
    case LastName::Kind::kNormal:
      break;
    case LastName::Kind::kDot:
      return Errno::kInval;
    case LastName::Kind::kDotDot:
      return Errno::kNotEmpty;
    case LastName::Kind::kRoot:
      return Errno::kBusy;
  }
  TRY(require_writable(caller, last));
  return rmdir_locked(caller, last);
}

}  // namespace boxrun::vfs
