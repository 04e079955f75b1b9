// Attributes, extended attributes and copy-up of overlay inodes; directories are in
// overlay_directory.cpp, open files in overlay_file.cpp.
#include <algorithm>
#include <utility>

#include "sentry/fs/overlay_fs.h"
#include "sentry/vfs/access.h"

namespace boxrun::fs {

OverlayInode::OverlayInode(OverlayFs& fs, vfs::FileType type, Ref<vfs::Inode> lower,
                           Ref<TmpInode> upper)
    : Inode(fs, type),
      fs_(fs),
      lower_(std::move(lower)),
      upper_(std::move(upper)),
      data_copied_(lower_ == nullptr) {}

OverlayInode::~OverlayInode() {
  Ref<OverlayInode> parent;
  {
    Lock lock(fs_.mutex_);
    forget_lower_locked();
    fs_.upper_->discharge_names(entries_.size());
    parent = std::move(found_in_);
  }
  // Ancestors that only we kept go too: in a loop, since directories may be nested as deep as the
  // guest likes.
  while (parent) {
    Ref<OverlayInode> next;
    {
      Lock lock(fs_.mutex_);
      if (parent->ref_count() > 1) break;
      parent->forget_lower_locked();  // nobody finds it any more from here on
      next = std::move(parent->found_in_);
    }
    parent = std::move(next);
  }
}

void OverlayInode::forget_lower_locked() NO_THREAD_SAFETY_ANALYSIS {
  if (!lower_) return;
  const auto known = fs_.by_lower_.find(lower_.get());
  if (known != fs_.by_lower_.end() && known->second == this) fs_.by_lower_.erase(known);
}

// The host may change its own count meanwhile; and a directory of a file system that does not count
// (btrfs) has 1 whatever is in it.
uint32_t OverlayInode::links_of_lower(uint32_t links, int change) const {
  if (is_directory() && links < 2) return links;
  const int64_t least = is_directory() ? 2 : 0;
  return static_cast<uint32_t>(std::max(int64_t{links} + change, least));
}

// The host may take files away that are open here or were changed here: those are as they were seen
// last, and have no name there any more.
Result<vfs::Attributes> OverlayInode::lower_attributes() {
  Result<vfs::Attributes> now = lower_->attributes();
  Lock lock(fs_.mutex_);
  if (now.ok()) {
    lower_seen_ = *now;
    return now;
  }
  const bool gone = now.error() == Errno::kNoEnt || now.error() == Errno::kStale;
  if (!gone || !lower_seen_) return now;
  vfs::Attributes last = *lower_seen_;
  last.nlink = 0;
  return last;
}

Result<vfs::Attributes> OverlayInode::attributes() {
  Ref<TmpInode> upper;
  bool size_is_lower = false;
  uint32_t links = 0;
  int link_change = 0;
  bool removed = false;
  {
    Lock lock(fs_.mutex_);
    upper = upper_;
    size_is_lower = type() == vfs::FileType::kRegular && !data_copied_;
    links = links_;
    link_change = link_change_;
    removed = removed_;
  }
  vfs::Attributes a;
  if (lower_) a = TRY(lower_attributes());
  const vfs::Attributes below = a;
  if (upper) a = TRY(upper->attributes());
  if (lower_) {
    a.ino = below.ino;
    a.btime = below.btime;
    a.nlink = links_of_lower(below.nlink, link_change);
    if (size_is_lower) {
      a.size = below.size;
      a.blocks = below.blocks;
    }
  } else {
    // Numbers of new files must not meet those of the lower file system.
    constexpr uint64_t kOwnNumbers = uint64_t{1} << 62;
    a.ino |= kOwnNumbers;
    a.nlink = is_directory() ? static_cast<uint32_t>(2 + link_change) : links;
  }
  if (removed) a.nlink = 0;
  a.dev = fs_.device();
  return a;
}

Result<vfs::NewNode> OverlayInode::copy_of_lower() {
  const vfs::Attributes a = TRY(lower_attributes());
  vfs::NewNode node;
  node.type = type();
  node.mode = a.mode;
  node.rdev = a.rdev;
  node.uid = a.uid;
  node.gid = a.gid;
  if (type() == vfs::FileType::kSymlink) node.symlink_target = TRY(lower_->read_link());
  return node;
}

Result<void> OverlayInode::copy_xattrs(TmpInode& to) {
  const auto names = lower_->list_xattr();
  if (!names.ok()) return {};  // a file system without them
  for (const std::string& name : *names) {
    if (auto value = lower_->get_xattr(name); value.ok()) {
      TRY(to.set_xattr(name, *value, vfs::XattrCreate::kAny));
    }
  }
  return {};
}

// The upper inode, made from the lower one's attributes when there is none yet.
Result<Ref<TmpInode>> OverlayInode::upper_for_write() {
  Lock copying(copy_mutex_);
  {
    Lock lock(fs_.mutex_);
    if (upper_) return upper_;
  }
  const vfs::Attributes below = TRY(lower_attributes());
  const vfs::NewNode node = TRY(copy_of_lower());
  Ref<TmpInode> upper = TRY(fs_.upper_->make_unnamed(node, {fs_.device(), below.ino, ""}, 0));
  vfs::AttributeChange times;
  times.atime = vfs::TimeChange{false, below.atime};
  times.mtime = vfs::TimeChange{false, below.mtime};
  TRY(upper->change(times));
  TRY(copy_xattrs(*upper));
  Lock lock(fs_.mutex_);
  upper_ = upper;
  lower_links_ = below.nlink;
  if (!is_directory() && lower_links_ > 1) fs_.shared_.emplace(this, Ref<OverlayInode>(this));
  pin_to_parent_locked();
  return upper;
}

void OverlayInode::pin_to_parent_locked() {
  // And the ancestors to theirs, or the directory that remembers would itself be forgotten.
  // Another name may have taken a place meanwhile; then this inode lives on as long as it is open,
  // like any unlinked file.
  for (Ref<OverlayInode> at(this); at->found_in_;) {
    Ref<OverlayInode> parent = std::move(at->found_in_);
    parent->add_entry_locked(at->found_as_, {at, true, true});
    at = std::move(parent);
  }
}

Result<void> OverlayInode::change(const vfs::AttributeChange& change) {
  if (change.size) TRY(data_for_write(*change.size));
  const Ref<TmpInode> upper = TRY(upper_for_write());
  TRY(upper->change(change));
  Lock lock(fs_.mutex_);
  attributes_changed_ = true;
  return {};
}

bool OverlayInode::is_modified_locked() const {
  return attributes_changed_ || (type() == vfs::FileType::kRegular && data_copied_);
}

Result<std::string> OverlayInode::read_link() {
  if (lower_) return lower_->read_link();
  Lock lock(fs_.mutex_);
  return upper_->read_link();
}

Ref<FileData> OverlayInode::copied_data() {
  Lock lock(fs_.mutex_);
  return data_copied_ && upper_ ? upper_->data() : Ref<FileData>();
}

Ref<mm::PageSource> OverlayInode::page_source() {
  if (type() != vfs::FileType::kRegular) return nullptr;  // ENODEV
  if (Ref<FileData> data = copied_data()) return data;
  return lower_->page_source();
}

Result<void> OverlayInode::written(const Credentials& who) {
  const Ref<TmpInode> upper = TRY(upper_for_write());
  upper->written(who);
  return {};
}

Result<std::string> OverlayInode::get_xattr(std::string_view name) {
  Ref<TmpInode> upper;
  {
    Lock lock(fs_.mutex_);
    upper = upper_;
  }
  return upper ? upper->get_xattr(name) : lower_->get_xattr(name);
}

Result<std::vector<std::string>> OverlayInode::list_xattr() {
  Ref<TmpInode> upper;
  {
    Lock lock(fs_.mutex_);
    upper = upper_;
  }
  return upper ? upper->list_xattr() : lower_->list_xattr();
}

Result<void> OverlayInode::set_xattr(std::string_view name, std::string_view value,
                                     vfs::XattrCreate how) {
  const Ref<TmpInode> upper = TRY(upper_for_write());
  TRY(upper->set_xattr(name, value, how));
  Lock lock(fs_.mutex_);
  attributes_changed_ = true;
  return {};
}

Result<void> OverlayInode::remove_xattr(std::string_view name) {
  const Ref<TmpInode> upper = TRY(upper_for_write());
  TRY(upper->remove_xattr(name));
  Lock lock(fs_.mutex_);
  attributes_changed_ = true;
  return {};
}

}  // namespace boxrun::fs
