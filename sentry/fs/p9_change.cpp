// Changing files of 9P mounts: attributes, names, extended attributes.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sentry/fs/p9_fs.h"

namespace boxrun::fs {
namespace {

gofer::Time to_time(Nanos value) {
  const timespec t = to_timespec(value);
  return {static_cast<uint64_t>(t.tv_sec), static_cast<uint64_t>(t.tv_nsec)};
}

gofer::NewAttr to_request(const vfs::AttributeChange& change) {
  gofer::NewAttr request;
  if (change.mode) {
    request.valid |= gofer::kSetMode;
    request.mode = *change.mode;
  }
  if (change.uid) {
    request.valid |= gofer::kSetUid;
    request.uid = *change.uid;
  }
  if (change.gid) {
    request.valid |= gofer::kSetGid;
    request.gid = *change.gid;
  }
  if (change.size) {
    request.valid |= gofer::kSetSize;
    request.size = *change.size;
  }
  if (change.atime) {
    request.valid |= gofer::kSetAtime | (change.atime->now ? 0 : gofer::kSetAtimeValue);
    request.atime = to_time(change.atime->value);
  }
  if (change.mtime) {
    request.valid |= gofer::kSetMtime | (change.mtime->now ? 0 : gofer::kSetMtimeValue);
    request.mtime = to_time(change.mtime->value);
  }
  return request;
}

}  // namespace

Result<void> P9Inode::change(const vfs::AttributeChange& change) {
  if (change.empty()) return {};
  // Truncating an open file costs no round trip.
  const bool only_size =
      change.size && !change.mode && !change.uid && !change.gid && !change.atime && !change.mtime;
  const Ref<P9HostFile> file = only_size ? kept_file(O_WRONLY) : nullptr;
  if (file && file->fd() >= 0) {
    if (*change.size > INT64_MAX) return Errno::kInval;
    if (ftruncate(file->fd(), static_cast<off_t>(*change.size)) < 0) return last_error();
    outdated();
  } else {
    learn(TRY(fs_.client().set_attr(TRY(fid()), to_request(change))));
  }
  if (!change.size) return {};
  Ref<P9Pages> mapped;
  {
    const Lock lock(mutex_);
    mapped = pages_;
  }
  if (mapped) mapped->truncated(*change.size);
  return {};
}

Result<Ref<P9Inode>> P9Inode::make(std::string_view name, const vfs::NewNode& node) {
  const gofer::Owner owner{node.uid, node.gid};
  const uint32_t directory = TRY(fid());
  gofer::RemoteFile made;
  switch (node.type) {
    case vfs::FileType::kDirectory:
      made = TRY(fs_.client().mkdir(directory, name, node.mode, owner));
      break;
    case vfs::FileType::kSymlink:
      made = TRY(fs_.client().symlink(directory, name, node.symlink_target, owner));
      break;
    default:
      made = TRY(fs_.client().mknod(directory, name, vfs::type_bits(node.type) | node.mode,
                                    node.rdev, owner));
  }
  outdated();
  return adopt(std::move(made));
}

Result<Ref<vfs::Inode>> P9Inode::create(std::string_view name, const vfs::NewNode& node) {
  return Ref<vfs::Inode>(TRY(make(name, node)));
}

Result<vfs::Inode::Created> P9Inode::create_and_open(std::string_view name,
                                                     const vfs::NewNode& node,
                                                     const vfs::OpenRequest& request) {
  // Always exclusive: the walk saw no such name. When the host made one since, EEXIST is as true
  // as it would have been a moment later.
  const int access = (request.flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR;
  gofer::Client::Created made =
      TRY(fs_.client().create(TRY(fid()), name, static_cast<uint32_t>(access | O_CREAT | O_EXCL),
                              node.mode, {node.uid, node.gid}));
  outdated();
  Ref<P9Inode> inode = adopt(std::move(made.found));
  if (made.opened.file || made.opened.fid) inode->keep_file(std::move(made.opened), access);
  Ref<vfs::FileDescription> file = TRY(inode->open(request));
  return Created{std::move(inode), std::move(file)};
}

Result<Ref<vfs::Inode>> P9Inode::create_unnamed(const vfs::NewNode& node) {
  const int flags = O_TMPFILE | O_RDWR | (node.linkable ? 0 : O_EXCL);
  gofer::Client::Created made = TRY(fs_.client().create(
      TRY(fid()), "", static_cast<uint32_t>(flags), node.mode, {node.uid, node.gid}));
  Ref<P9Inode> inode = adopt(std::move(made.found));
  if (made.opened.file || made.opened.fid) inode->keep_file(std::move(made.opened), O_RDWR);
  return Ref<vfs::Inode>(std::move(inode));
}

// The VFS only brings inodes of one file system together (EXDEV otherwise).
Result<void> P9Inode::link(std::string_view name, vfs::Inode& target) {
  auto& file = static_cast<P9Inode&>(target);
  TRY(fs_.client().link(TRY(fid()), TRY(file.fid()), name));
  outdated();
  file.outdated();
  return {};
}

Result<void> P9Inode::unlink(std::string_view name, vfs::Inode& victim) {
  TRY(fs_.client().unlink(TRY(fid()), name, 0));
  outdated();
  static_cast<P9Inode&>(victim).outdated();
  return {};
}

Result<void> P9Inode::rmdir(std::string_view name, vfs::Inode& victim) {
  TRY(fs_.client().unlink(TRY(fid()), name, AT_REMOVEDIR));
  outdated();
  static_cast<P9Inode&>(victim).outdated();
  return {};
}

Result<void> P9Inode::rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_dir,
                             std::string_view new_name, vfs::Inode* replaced, uint32_t flags) {
  auto& target = static_cast<P9Inode&>(new_dir);
  // Whiteouts are device nodes: never made here.
  if ((flags & ~uint32_t{RENAME_EXCHANGE}) != 0) return Errno::kInval;
  TRY(fs_.client().rename(TRY(fid()), old_name, TRY(target.fid()), new_name, flags));
  outdated();
  target.outdated();
  static_cast<P9Inode&>(moved).outdated();
  if (replaced != nullptr) static_cast<P9Inode*>(replaced)->outdated();
  return {};
}

Result<std::string> P9Inode::read_link() {
  if (type() != vfs::FileType::kSymlink) return Errno::kInval;
  {
    // The text of a link never changes: another text is another file.
    const Lock lock(mutex_);
    if (!target_.empty()) return target_;
  }
  std::string target = TRY(fs_.client().readlink(TRY(fid())));
  const Lock lock(mutex_);
  target_ = target;
  return target;
}

Result<std::string> P9Inode::get_xattr(std::string_view name) {
  const std::vector<std::byte> value = TRY(fs_.client().get_xattr(TRY(fid()), name));
  return std::string(reinterpret_cast<const char*>(value.data()), value.size());
}

Result<void> P9Inode::set_xattr(std::string_view name, std::string_view value,
                                vfs::XattrCreate how) {
  // The values of XATTR_CREATE and XATTR_REPLACE (setxattr(2)).
  const uint32_t flags = how == vfs::XattrCreate::kMustCreate    ? 1
                         : how == vfs::XattrCreate::kMustReplace ? 2
                                                                 : 0;
  TRY(fs_.client().set_xattr(TRY(fid()), name, std::as_bytes(std::span(value)), flags));
  outdated();
  return {};
}

Result<void> P9Inode::remove_xattr(std::string_view name) {
  TRY(fs_.client().remove_xattr(TRY(fid()), name));
  outdated();
  return {};
}

Result<std::vector<std::string>> P9Inode::list_xattr() {
  const std::vector<std::byte> list = TRY(fs_.client().get_xattr(TRY(fid()), ""));
  std::vector<std::string> names;
  std::string_view rest(reinterpret_cast<const char*>(list.data()), list.size());
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\0'), rest.size());
    names.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return names;
}

}  // namespace boxrun::fs
