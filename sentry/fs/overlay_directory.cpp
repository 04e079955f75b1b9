// Names in overlay directories. The caller holds the mutex (Dentry::directory_mutex) of a directory
// that changes or that a lookup begins in, so there a name does not change between a look at the
// lower directory and the change here. Deeper directories of lookup_path are not held: what is
// found in them never replaces what the name cache has (DentryCache::Other::kKeep).
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <utility>

#include "sentry/fs/overlay_fs.h"

namespace boxrun::fs {
namespace {

// Collects one lower directory.
class Collector final : public vfs::DirectorySink {
 public:
  explicit Collector(std::vector<OverlayInode::Listed>& out) : out_(out) {}
  bool add(const Entry& entry) override {
    added_ = true;
    if (entry.name != "." && entry.name != "..") {
      out_.push_back({std::string(entry.name), entry.ino, entry.type});
    }
    return true;
  }
  bool take_added() { return std::exchange(added_, false); }

 private:
  std::vector<OverlayInode::Listed>& out_;
  bool added_ = false;
};

}  // namespace

Result<Ref<vfs::Inode>> OverlayInode::lookup(std::string_view name) {
  {
    Lock lock(fs_.mutex_);
    if (const auto at = entries_.find(name); at != entries_.end()) {
      if (!at->second.inode) return Errno::kNoEnt;
      return Ref<vfs::Inode>(at->second.inode);
    }
  }
  if (!is_directory()) return Errno::kNotDir;
  if (!lower_) return Errno::kNoEnt;
  Ref<vfs::Inode> below = TRY(lower_->lookup(name));
  return Ref<vfs::Inode>(fs_.wrap(std::move(below), Ref<OverlayInode>(this), name));
}

void OverlayInode::lookup_path(std::span<const std::string_view> names,
                               const vfs::LookupIntent& intent, vfs::LookupResult& out) {
  // Whatever the caller opens it for, the lower file is opened to be read (OverlayInode::open).
  vfs::LookupIntent reading = intent;
  if (reading.open_flags) *reading.open_flags &= ~O_ACCMODE;
  static_assert(O_RDONLY == 0);
  Ref<OverlayInode> at(this);
  bool asked = false;
  while (!names.empty()) {
    bool known = false;
    {
      Lock lock(at->fs_.mutex_);
      known = at->entries_.contains(names.front()) || !at->lower_ || !at->is_directory();
    }
    if (known) {
      auto next = at->lookup(names.front());
      if (!next.ok()) {
        out.error = next.error();
        return;
      }
      at = static_ref_cast<OverlayInode>(*next);
      out.inodes.push_back(std::move(*next));
      names = names.subspan(1);
      continue;
    }
    // From here on the lower file system knows, in one go; what it says of deeper names counts
    // only as far as no directory on the way differs.
    vfs::LookupResult below;
    at->lower_->lookup_path(names, reading, below);
    out.as_of = asked ? std::min(out.as_of, below.as_of) : below.as_of;
    asked = true;
    size_t used = 0;
    for (Ref<vfs::Inode>& inode : below.inodes) {
      Ref<OverlayInode> wrapped = fs_.wrap(std::move(inode), at, names[used]);
      used++;
      at = wrapped;
      out.inodes.emplace_back(std::move(wrapped));
      if (used == names.size()) break;
      Lock lock(fs_.mutex_);
      if (at->entries_.contains(names[used])) break;
    }
    if (used == below.inodes.size() && used < names.size()) {
      out.error = below.error;
      out.withheld = below.withheld;
      return;
    }
    names = names.subspan(used);
  }
}

bool OverlayInode::entry_is_current(const vfs::CachedEntry& entry) {
  {
    Lock lock(fs_.mutex_);
    if (const auto at = entries_.find(entry.name); at != entries_.end()) {
      return at->second.inode.get() == entry.child;
    }
  }
  if (!lower_) return entry.child == nullptr;
  vfs::Inode* below =
      entry.child == nullptr ? nullptr : static_cast<OverlayInode*>(entry.child)->lower_.get();
  // A name that came to be here cannot have left entries_, so a child without a lower inode is
  // stale.
  if (entry.child != nullptr && below == nullptr) return false;
  return lower_->entry_is_current({entry.name, below, entry.as_of});
}

// Records that `name` now stands for `inode`.
void OverlayInode::put_locked(std::string_view name, Ref<OverlayInode> inode) {
  if (inode->is_directory()) link_change_++;
  inode->links_++;
  const auto at = entries_.find(name);
  if (at != entries_.end()) {
    at->second.inode = std::move(inode);
    at->second.in_place = false;
  } else {
    add_entry_locked(name, {std::move(inode), false, false});
  }
}

// A name that is remembered from now on, unless it is already.
void OverlayInode::add_entry_locked(std::string_view name, Entry entry) {
  if (entries_.try_emplace(std::string(name), std::move(entry)).second) fs_.upper_->charge_name();
}

// Records that `name` is gone.
void OverlayInode::take_locked(std::string_view name) {
  const auto at = entries_.find(name);
  if (at == entries_.end()) {
    add_entry_locked(name, {{}, true, false});
  } else if (at->second.covers_lower) {
    at->second.inode = nullptr;
    at->second.in_place = false;
  } else {
    entries_.erase(at);
    fs_.upper_->discharge_names(1);
  }
}

// A change of names changes the directory's times. The upper inode exists: callers make it first.
void OverlayInode::touch_locked() {
  vfs::AttributeChange change;
  change.mtime = vfs::TimeChange{.now = true};
  (void)upper_->change(change);
}

// One name of a file less. Its upper inode exists, and somebody else holds the file.
void OverlayInode::name_lost_locked() NO_THREAD_SAFETY_ANALYSIS {
  (void)upper_->change({});  // ctime
  if (!lower_) {
    links_--;
    return;
  }
  link_change_--;
  if (lower_links_ + static_cast<int64_t>(link_change_) <= 0) fs_.shared_.erase(this);
}

Result<Ref<vfs::Inode>> OverlayInode::create(std::string_view name, const vfs::NewNode& node) {
  TRY(upper_for_write());
  Ref<OverlayInode> inode = TRY(fs_.make(node));
  Lock lock(fs_.mutex_);
  put_locked(name, inode);
  touch_locked();
  return Ref<vfs::Inode>(std::move(inode));
}

Result<Ref<vfs::Inode>> OverlayInode::create_unnamed(const vfs::NewNode& node) {
  Ref<OverlayInode> made = TRY(fs_.make(node));
  Lock lock(fs_.mutex_);
  made->linkable_ = node.linkable;
  return Ref<vfs::Inode>(std::move(made));
}

Result<void> OverlayInode::link(std::string_view name, vfs::Inode& target) {
  auto& inode = static_cast<OverlayInode&>(target);
  TRY(upper_for_write());
  TRY(inode.upper_for_write());
  const uint32_t links = TRY(inode.attributes()).nlink;
  TRY(fs_.upper_->room_for_name());
  Lock lock(fs_.mutex_);
  // A file that has lost its last name gets no new one (fs/namei.c: vfs_link).
  if (links == 0 && !inode.linkable_) return Errno::kNoEnt;
  inode.linkable_ = false;
  put_locked(name, Ref<OverlayInode>(&inode));
  if (inode.lower_) inode.link_change_++;
  (void)inode.upper_->change({});  // ctime
  touch_locked();
  return {};
}

Result<void> OverlayInode::unlink(std::string_view name, vfs::Inode& victim) {
  auto& inode = static_cast<OverlayInode&>(victim);
  TRY(upper_for_write());
  TRY(inode.upper_for_write());
  Ref<OverlayInode> keep(&inode);
  Lock lock(fs_.mutex_);
  take_locked(name);
  inode.name_lost_locked();
  touch_locked();
  return {};
}

Result<void> OverlayInode::rmdir(std::string_view name, vfs::Inode& victim) {
  auto& inode = static_cast<OverlayInode&>(victim);
  if (!TRY(inode.list()).empty()) return Errno::kNotEmpty;
  TRY(upper_for_write());
  Ref<OverlayInode> keep(&inode);
  Lock lock(fs_.mutex_);
  take_locked(name);
  inode.removed_ = true;
  link_change_--;
  touch_locked();
  return {};
}

Result<void> OverlayInode::rename(std::string_view old_name, vfs::Inode& moved_inode,
                                  vfs::Inode& new_dir_inode, std::string_view new_name,
                                  vfs::Inode* replaced_inode, uint32_t flags) {
  auto& moved = static_cast<OverlayInode&>(moved_inode);
  auto& new_dir = static_cast<OverlayInode&>(new_dir_inode);
  auto* replaced = static_cast<OverlayInode*>(replaced_inode);
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  if (replaced != nullptr && !exchange && replaced->is_directory() &&
      !TRY(replaced->list()).empty()) {
    return Errno::kNotEmpty;
  }
  TRY(upper_for_write());
  TRY(new_dir.upper_for_write());
  TRY(moved.upper_for_write());  // its ctime changes; and the parents remember it from now on
  if (replaced != nullptr) TRY(replaced->upper_for_write());
  TRY(fs_.upper_->room_for_name());
  Ref<OverlayInode> whiteout;
  if ((flags & RENAME_WHITEOUT) != 0) {
    whiteout = TRY(fs_.make({.type = vfs::FileType::kCharDevice, .mode = 0}));
  }

  const Ref<OverlayInode> keep_moved(&moved);
  const Ref<OverlayInode> keep_replaced(replaced);
  Lock lock(fs_.mutex_);
  take_locked(old_name);
  if (moved.is_directory()) link_change_--;
  moved.links_--;
  if (replaced != nullptr) {
    new_dir.take_locked(new_name);
    if (replaced->is_directory()) new_dir.link_change_--;
    if (exchange) {
      replaced->links_--;  // and one more below
      (void)replaced->upper_->change({});
    } else if (replaced->is_directory()) {
      replaced->removed_ = true;
    } else {
      replaced->name_lost_locked();
    }
  }
  new_dir.put_locked(new_name, keep_moved);
  if (exchange) put_locked(old_name, keep_replaced);
  if (whiteout) put_locked(old_name, std::move(whiteout));
  (void)moved.upper_->change({});  // ctime
  touch_locked();
  if (&new_dir != this) new_dir.touch_locked();
  return {};
}

Result<std::vector<OverlayInode::Listed>> OverlayInode::list() {
  std::vector<Listed> names;
  if (lower_) {
    vfs::OpenRequest request;
    request.flags = O_RDONLY | O_DIRECTORY;
    const auto directory = TRY(lower_->open(request));
    Collector collector(names);
    uint64_t position = 0;
    do {
      TRY(directory->read_directory_at(position, collector));
    } while (collector.take_added());
  }
  std::vector<std::pair<std::string, Ref<OverlayInode>>> own;
  {
    Lock lock(fs_.mutex_);
    std::erase_if(names, [&](const Listed& l) { return entries_.contains(l.name); });
    for (const auto& [name, entry] : entries_) {
      if (entry.inode) own.emplace_back(name, entry.inode);
    }
  }
  for (auto& [name, inode] : own) {
    const uint64_t ino = TRY(inode->attributes()).ino;
    names.push_back({std::move(name), ino, inode->type()});
  }
  return names;
}

}  // namespace boxrun::fs
