// open(2) and its kin, in the order of checks of fs/namei.c: path_openat, do_open, may_open.
#include <fcntl.h>
#include <linux/openat2.h>

#include <optional>
#include <utility>

#include "sentry/vfs/file_system.h"
#include "sentry/vfs/operations.h"

namespace boxrun::vfs {
namespace {

// __O_TMPFILE alone; O_TMPFILE contains O_DIRECTORY.
constexpr int kTmpfileBit = O_TMPFILE & ~O_DIRECTORY;
constexpr int kPathFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

bool writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0; }

AccessMask wanted_access(int flags) {
  AccessMask mask = 0;
  switch (flags & O_ACCMODE) {
    case O_RDONLY:
      mask = kMayRead;
      break;
    case O_WRONLY:
      mask = kMayWrite;
      break;
    default:
      mask = kMayRead | kMayWrite;  // also for 3, which then grants neither
  }
  if ((flags & O_TRUNC) != 0) mask |= kMayWrite;
  return mask;
}

bool is_special(FileType type) {
  return type == FileType::kFifo || type == FileType::kSocket || type == FileType::kCharDevice ||
         type == FileType::kBlockDevice;
}

void report(Caller& caller, Denial::Kind kind, const Path& place, Errno error) {
  if (caller.denials == nullptr) return;
  caller.denials->denied({kind, path_of(caller.mounts, caller.fs.root(), place), error});
}

Result<void> may_open(Caller& caller, const Path& place, Inode& inode, int flags) {
  switch (inode.type()) {
    case FileType::kSymlink:
      return Errno::kLoop;
    case FileType::kDirectory:
      if (writes(flags)) return Errno::kIsDir;
      break;
    case FileType::kCharDevice:
    case FileType::kBlockDevice:
      if (place.mount->has(MountFlags::kNoDev)) {
        report(caller, Denial::Kind::kDevice, place, Errno::kAcces);
        return Errno::kAcces;
      }
      break;
    default:
      break;
  }
  TRY(inode.permission(*caller.credentials, wanted_access(flags)));
  if (writes(flags) && !is_special(inode.type())) TRY(require_writable(caller, place));
  if ((flags & O_NOATIME) != 0 &&
      !is_owner_or_capable(TRY(inode.attributes()), *caller.credentials)) {
    return Errno::kPerm;
  }
  return {};
}

Result<void> claim_for_writing(FileDescription& file) {
  if (!file.writable() || file.inode().type() != FileType::kRegular) return {};
  return file.claim(FileDescription::Claim::kWrites);
}

Result<Ref<FileDescription>> open_inode(Caller& caller, const Path& place, Inode& inode,
                                        int flags) {
  OpenRequest request{flags, place, caller.credentials};
  if (inode.type() == FileType::kCharDevice && caller.terminal != nullptr) {
    request.terminal = caller.terminal->controlling_terminal();
  }
  Result<Ref<FileDescription>> opened = inode.open(request);
  if (opened.error() == Errno::kNxIo && is_special(inode.type())) {
    return caller.special_files.open(inode, request);
  }
  if (opened.ok()) TRY(claim_for_writing(**opened));
  return opened;
}

// An open for reading may ask for it, too.
Result<void> truncate_to_zero(Caller& caller, Inode& inode) {
  TRY(inode.get_write_access());
  inode.put_write_access();
  AttributeChange change;
  change.size = 0;
  const Attributes now = TRY(inode.attributes());
  const mode_t mode = mode_after_write(now, *caller.credentials);
  if (mode != now.mode) change.mode = mode;
  return inode.change(change);
}

Result<Ref<FileDescription>> open_unnamed(Caller& caller, const At& at, const OpenHow& how) {
  WalkOptions options{.resolve = how.resolve};
  options.follow = (how.flags & O_NOFOLLOW) != 0 ? Follow::kNo : Follow::kYes;
  options.must_be_directory = true;
  const Path directory = TRY(walk(caller, at.start, at.path, options));
  const Ref<Inode> parent = directory.dentry->inode();
  TRY(require_writable(caller, directory));
  TRY(parent->permission(*caller.credentials, kMayWrite | kMayExec));
  NewNode node{.type = FileType::kRegular, .mode = how.mode};
  prepare_new_node(TRY(parent->attributes()), *caller.credentials, caller.fs.umask(), node);
  node.linkable = (how.flags & O_EXCL) == 0;
  Ref<Inode> inode = TRY(parent->create_unnamed(node));
  const std::string number = std::to_string(TRY(inode->attributes()).ino);
  std::string name = path_in(caller, directory, '#' + number + " (deleted)");
  Path place{directory.mount,
             directory.mount->file_system().dentries().make_root(std::move(name), inode)};
  Ref<FileDescription> file =
      TRY(inode->open({how.flags & ~(O_TMPFILE | O_EXCL), std::move(place), caller.credentials}));
  TRY(claim_for_writing(*file));
  return file;
}

// What the last step of an open with O_CREAT came to.
struct CreateStep {
  Ref<FileDescription> created;
  Path existing;  // or what was there
  bool retry = false;
};

Result<CreateStep> create_or_find(Caller& caller, const LastName& last, const OpenHow& how) {
  CreateStep step;
  const Path& directory = last.directory;
  const mode_t umask = caller.fs.umask();
  Lock lock(directory.dentry->directory_mutex());
  Ref<Dentry> dentry = TRY(lookup_locked(directory, last.name));
  if (const Ref<Inode> inode = dentry->inode()) {
    if ((how.flags & O_EXCL) != 0) return Errno::kExist;
    // Only when it appeared after the walk looked.
    step.retry = inode->type() == FileType::kSymlink && (how.flags & O_NOFOLLOW) == 0;
    step.existing = {directory.mount, std::move(dentry)};
    return step;
  }
  const Ref<Inode> parent = directory.dentry->inode();
  if (directory.mount->read_only()) return Errno::kRoFs;
  if (directory.dentry->unhashed()) return Errno::kNoEnt;
  TRY(parent->permission(*caller.credentials, kMayWrite | kMayExec));
  NewNode node{.type = FileType::kRegular, .mode = how.mode};
  prepare_new_node(TRY(parent->attributes()), *caller.credentials, umask, node);
  const OpenRequest request{how.flags & ~O_TRUNC, {directory.mount, nullptr}, caller.credentials};
  Inode::Created made = TRY(parent->create_and_open(last.name, node, request));
  dentry = dentry->cache().insert(*directory.dentry, last.name, std::move(made.inode));
  made.file->set_path({directory.mount, std::move(dentry)});
  step.created = std::move(made.file);
  return step;
}

Result<Ref<FileDescription>> open_existing(Caller& caller, const Path& place, int flags) {
  const Ref<Inode> inode = place.dentry->inode();
  if (!inode) return Errno::kNoEnt;
  if (is_special(inode->type()) || inode->is_directory()) {
    if (!inode->is_directory()) flags &= ~O_TRUNC;
  }
  TRY(may_open(caller, place, *inode, flags));
  Ref<FileDescription> file = TRY(open_inode(caller, place, *inode, flags & ~O_TRUNC));
  if ((flags & O_TRUNC) != 0) TRY(truncate_to_zero(caller, *inode));
  return file;
}

// A race with somebody who keeps replacing the name by a symlink ends here.
constexpr int kMaxRetries = 8;

Result<Ref<FileDescription>> open_create(Caller& caller, const At& at, const OpenHow& how) {
  WalkOptions options{.follow = Follow::kYes, .resolve = how.resolve};
  if ((how.flags & (O_NOFOLLOW | O_EXCL)) != 0) options.follow = Follow::kNo;
  for (int i = 0; i < kMaxRetries; i++) {
    const LastName last = TRY(walk_to_last(caller, at.start, at.path, options));
    // A magic link in the end (/dev/stdout) is the file itself, not a name in a directory.
    if (last.kind == LastName::Kind::kRoot && !last.directory.dentry->inode()->is_directory()) {
      return open_existing(caller, last.directory, how.flags & ~O_CREAT);
    }
    if (last.kind != LastName::Kind::kNormal || last.trailing_slash) return Errno::kIsDir;
    Result<CreateStep> step = create_or_find(caller, last, how);
    if (step.error() == Errno::kRoFs) static_cast<void>(require_writable(caller, last));
    if (!step.ok()) return step.error();
    if (step->created) {
      TRY(claim_for_writing(*step->created));
      return std::move(step->created);
    }
    if (step->retry) continue;
    const Path place = caller.mounts.cross(std::move(step->existing));
    if ((how.resolve & RESOLVE_NO_XDEV) != 0 && place.mount != last.directory.mount) {
      return Errno::kXDev;
    }
    if (place.dentry->inode()->is_directory()) return Errno::kIsDir;
    return open_existing(caller, place, how.flags & ~(O_CREAT | O_EXCL));
  }
  return Errno::kLoop;
}

}  // namespace

Result<OpenHow> check_open_flags(OpenHow how, bool strict) {
  constexpr int kKnown = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | kStatusFlags | O_SYNC |
                         kLargeFile | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_PATH | kTmpfileBit;
  constexpr uint64_t kKnownResolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
                                     RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED;
  const bool creates = (how.flags & (O_CREAT | kTmpfileBit)) != 0;
  if (strict) {
    if ((how.flags & ~kKnown) != 0 || (how.resolve & ~kKnownResolve) != 0) return Errno::kInval;
    if ((how.mode & ~kPermissionBits) != 0 || (!creates && how.mode != 0)) return Errno::kInval;
    if ((how.resolve & RESOLVE_BENEATH) != 0 && (how.resolve & RESOLVE_IN_ROOT) != 0) {
      return Errno::kInval;
    }
    if ((how.flags & O_PATH) != 0 && (how.flags & ~(kPathFlags | kLargeFile)) != 0)
      return Errno::kInval;
  }
  how.flags = (how.flags & kKnown) | kLargeFile;
  how.mode = creates ? how.mode & kPermissionBits : 0;
  if ((how.flags & O_PATH) != 0) how.flags &= kPathFlags;
  if ((how.flags & kTmpfileBit) != 0) {
    if ((how.flags & (O_DIRECTORY | O_CREAT)) != O_DIRECTORY) return Errno::kInval;
    if ((how.flags & O_ACCMODE) == O_RDONLY) return Errno::kInval;
  } else if ((how.flags & (O_DIRECTORY | O_CREAT)) == (O_DIRECTORY | O_CREAT)) {
    return Errno::kInval;  // since Linux 6.4: fs/open.c, build_open_flags
  }
  return how;
}

Result<Ref<FileDescription>> open_at(Caller& caller, const At& at, const OpenHow& how) {
  // Nothing is known to be cached without asking: openat2(2) allows EAGAIN at any time.
  if ((how.resolve & RESOLVE_CACHED) != 0) return Errno::kAgain;
  if ((how.flags & kTmpfileBit) != 0) return open_unnamed(caller, at, how);
  if ((how.flags & O_CREAT) != 0) return open_create(caller, at, how);
  WalkOptions options{.resolve = how.resolve};
  options.follow = (how.flags & O_NOFOLLOW) != 0 ? Follow::kNo : Follow::kYes;
  options.must_be_directory = (how.flags & O_DIRECTORY) != 0;
  if ((how.flags & O_PATH) == 0) options.open_flags = how.flags;
  const Path place = TRY(walk(caller, at.start, at.path, options));
  return open_place(caller, place, how.flags);
}

Result<Ref<FileDescription>> open_place(Caller& caller, const Path& place, int flags) {
  if ((flags & O_PATH) != 0) return open_path_only(place, flags, caller.credentials);
  if ((flags & O_DIRECTORY) != 0 && !place.dentry->inode()->is_directory()) return Errno::kNotDir;
  return open_existing(caller, place, flags);
}

Result<Ref<FileDescription>> open_executable(Caller& caller, const At& at, Follow follow,
                                             bool allow_empty) {
  const WalkOptions options{.follow = follow, .allow_empty = allow_empty, .open_flags = O_RDONLY};
  const Path place = TRY(walk(caller, at.start, at.path, options));
  const Ref<Inode> inode = place.dentry->inode();
  if (inode->type() == FileType::kSymlink) return Errno::kLoop;
  if (inode->type() != FileType::kRegular) return Errno::kAcces;
  TRY(inode->permission(*caller.credentials, kMayExec));
  if (place.mount->has(MountFlags::kNoExec)) {
    report(caller, Denial::Kind::kNoExec, place, Errno::kAcces);
    return Errno::kAcces;
  }
  Ref<FileDescription> file = TRY(inode->open({O_RDONLY, place, caller.credentials}));
  TRY(file->claim(FileDescription::Claim::kDeniesWrites));
  return file;
}

Result<void> require_writable(Caller& caller, const Path& place) {
  if (!place.mount->read_only()) return {};
  report(caller, Denial::Kind::kReadOnly, place, Errno::kRoFs);
  return Errno::kRoFs;
}

}  // namespace boxrun::vfs
