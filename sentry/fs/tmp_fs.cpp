#include "sentry/fs/tmp_fs.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>

#include <algorithm>
#include <utility>

namespace boxrun::fs {
namespace {

constexpr uint64_t kEntrySize = 20;  // BOGO_DIRENT_SIZE of mm/shmem.c: what st_size counts
constexpr uint32_t kMaxLinks = UINT32_MAX / 2;
constexpr uint64_t kRootIno = 1;
// What an inode with its name, or one more name, takes of the Sentry's heap at most, dentry
// included.
constexpr uint64_t kNodeCost = 2048;
// What an overlay adds for a name that it remembers.
constexpr uint64_t kNameCost = 512;

}  // namespace

TmpInode* TmpEntries::find(std::string_view name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? nullptr : at->second.inode.get();
}

void TmpEntries::add(std::string_view name, Ref<TmpInode> inode) {
  const uint64_t cookie = next_cookie_++;
  const auto at = by_name_.emplace(name, Entry{std::move(inode), cookie}).first;
  by_cookie_.emplace(cookie, &at->first);
}

Ref<TmpInode> TmpEntries::remove(std::string_view name) {
  const auto at = by_name_.find(name);
  Ref<TmpInode> inode = std::move(at->second.inode);
  by_cookie_.erase(at->second.cookie);
  by_name_.erase(at);
  return inode;
}

Ref<TmpInode> TmpEntries::replace(std::string_view name, Ref<TmpInode> inode) {
  return std::exchange(by_name_.find(name)->second.inode, std::move(inode));
}

const std::string* TmpEntries::next(uint64_t& cookie) const {
  const auto at = by_cookie_.lower_bound(cookie);
  if (at == by_cookie_.end()) return nullptr;
  cookie = at->first;
  return at->second;
}

std::vector<Ref<TmpInode>> TmpEntries::take_all() {
  std::vector<Ref<TmpInode>> all;
  for (auto& [name, entry] : by_name_) all.push_back(std::move(entry.inode));
  by_cookie_.clear();
  by_name_.clear();
  return all;
}

TmpFs::TmpFs(Config config, mm::MemoryFile& memory, const Clock& clock)
    : FileSystem({.type = std::move(config.type), .device = config.device}),
      max_inodes_(config.max_inodes != 0 ? config.max_inodes : memory.limit() / kNodeCost + 1),
      memory_(memory),
      storage_(config.storage),
      clock_(clock),
      quota_(make_ref<SpaceQuota>(config.size_limit)) {
  const vfs::NewNode node{.type = vfs::FileType::kDirectory,
                          .mode = config.root_mode,
                          .uid = config.uid,
                          .gid = config.gid};
  Lock lock(mutex_);
  root_ = adopt_ref(new TmpInode(*this, node, kRootIno, nullptr));  // free of charge
  inodes_.fetch_add(1, std::memory_order_relaxed);
}

Ref<TmpFs> TmpFs::create(Config config, mm::MemoryFile& memory, const Clock& clock) {
  return adopt_ref(new TmpFs(std::move(config), memory, clock));
}

TmpFs::~TmpFs() {
  // A guest can nest directories deeper than a stack is: they go one by one.
  std::vector<Ref<TmpInode>> pending{std::move(root_)};
  while (!pending.empty()) {
    const Ref<TmpInode> inode = std::move(pending.back());
    pending.pop_back();
    std::vector<Ref<TmpInode>> children;
    {
      Lock lock(mutex_);
      if (inode->entries_) children = inode->entries_->take_all();
    }
    std::move(children.begin(), children.end(), std::back_inserter(pending));
  }
}

Ref<vfs::Inode> TmpFs::root() { return root_; }

Result<vfs::Statistics> TmpFs::statistics() {
  vfs::Statistics out{.magic = TMPFS_MAGIC};
  const uint64_t limit = std::min(quota_->limit(), memory_.limit(storage_));
  const uint64_t used = std::min(quota_->used(), limit);
  out.blocks = limit / kPageSize;
  out.blocks_free = out.blocks_available = (limit - used) / kPageSize;
  out.files = max_inodes_;
  const uint64_t inodes = inodes_.load(std::memory_order_relaxed);
  out.files_free = max_inodes_ - std::min(max_inodes_, inodes);
  return out;
}

Result<void> TmpFs::charge_node() {
  // The memory first: where both are used up, it is what the report names.
  if (!memory_.charge(kNodeCost)) return Errno::kNoSpc;
  if (inodes_.load(std::memory_order_relaxed) >= max_inodes_) {
    memory_.discharge(kNodeCost);
    return Errno::kNoSpc;
  }
  inodes_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Result<void> TmpFs::room_for_name() {
  if (!memory_.charge(kNameCost)) return Errno::kNoSpc;
  memory_.discharge(kNameCost);
  return {};
}

void TmpFs::charge_name() { memory_.force_charge(kNameCost); }

void TmpFs::discharge_names(size_t count) { memory_.discharge(count * kNameCost); }

void TmpFs::discharge_node() {
  inodes_.fetch_sub(1, std::memory_order_relaxed);
  memory_.discharge(kNodeCost);
}

Result<void> TmpFs::charge_text(uint64_t bytes) {
  TRY(quota_->charge(bytes));
  if (memory_.charge(bytes)) return {};
  quota_->release(bytes);
  return Errno::kNoSpc;
}

void TmpFs::discharge_text(uint64_t bytes) {
  quota_->release(bytes);
  memory_.discharge(bytes);
}

Result<void> TmpFs::charge_new(const vfs::NewNode& node) {
  TRY(charge_node());
  auto paid = charge_text(node.symlink_target.size());
  if (!paid.ok()) discharge_node();
  return paid;
}

Result<Ref<TmpInode>> TmpFs::make_locked(const vfs::NewNode& node) {
  TRY(charge_new(node));
  const uint64_t ino = next_ino_++;
  Ref<FileData> data;
  if (node.type == vfs::FileType::kRegular) {
    // F_GET_SEALS of a tmpfs file (mm/shmem.c: shmem_get_inode).
    data = make_ref<FileData>(memory_, storage_, quota_,
                              mm::PageSource::Identity{device(), ino, {}}, uint32_t{F_SEAL_SEAL});
  }
  return adopt_ref(new TmpInode(*this, node, ino, std::move(data)));
}

Result<Ref<TmpInode>> TmpFs::make_unnamed(const vfs::NewNode& node,
                                          mm::PageSource::Identity identity, uint32_t linux_seals) {
  Lock lock(mutex_);
  TRY(charge_new(node));
  const uint64_t ino = next_ino_++;
  identity.dev = device();
  identity.ino = ino;
  Ref<FileData> data =
      make_ref<FileData>(memory_, storage_, quota_, std::move(identity), linux_seals);
  Ref<TmpInode> inode = adopt_ref(new TmpInode(*this, node, ino, std::move(data)));
  inode->shares_lock();
  inode->attributes_.nlink = 0;
  return inode;
}

TmpInode::TmpInode(TmpFs& fs, const vfs::NewNode& node, uint64_t ino, Ref<FileData> data)
    : Inode(fs, node.type), fs_(fs), data_(std::move(data)), symlink_target_(node.symlink_target) {
  const Nanos now = fs.clock_.realtime();
  attributes_.dev = fs.device();
  attributes_.ino = ino;
  attributes_.type = node.type;
  attributes_.mode = node.mode;
  attributes_.uid = node.uid;
  attributes_.gid = node.gid;
  attributes_.rdev = node.rdev;
  attributes_.atime = attributes_.mtime = attributes_.ctime = now;
  attributes_.btime = now;
  attributes_.size = node.symlink_target.size();
  if (node.type == vfs::FileType::kDirectory) {
    entries_ = std::make_unique<TmpEntries>();
    attributes_.nlink = 2;
    attributes_.size = 2 * kEntrySize;
  }
}

TmpInode::~TmpInode() {
  uint64_t cost = symlink_target_.size();
  for (const auto& [name, value] : xattrs_) cost += name.size() + value.size();
  fs_.discharge_text(cost);
  if (attributes_.ino != kRootIno) fs_.discharge_node();
}

Result<void> TmpInode::check_alive_locked() const {
  return attributes_.nlink == 0 ? Result<void>(Errno::kNoEnt) : Result<void>();
}

void TmpInode::entries_changed_locked(int added) {
  attributes_.size += static_cast<uint64_t>(added) * kEntrySize;
  attributes_.mtime = attributes_.ctime = fs_.clock_.realtime();
}

Result<Ref<vfs::Inode>> TmpInode::lookup(std::string_view name) {
  if (!is_directory()) return Errno::kNotDir;
  Lock lock(fs_.mutex_);
  TmpInode* found = entries_->find(name);
  if (found == nullptr) return Errno::kNoEnt;
  return Ref<vfs::Inode>(found);
}

Result<Ref<vfs::Inode>> TmpInode::create(std::string_view name, const vfs::NewNode& node) {
  Lock lock(fs_.mutex_);
  TRY(check_alive_locked());
  if (entries_->find(name) != nullptr) return Errno::kExist;
  Ref<TmpInode> made = TRY(fs_.make_locked(node));
  entries_->add(name, made);
  entries_changed_locked(1);
  if (made->is_directory()) attributes_.nlink++;
  return Ref<vfs::Inode>(std::move(made));
}

Result<Ref<vfs::Inode>> TmpInode::create_unnamed(const vfs::NewNode& node) {
  Lock lock(fs_.mutex_);
  TRY(check_alive_locked());
  Ref<TmpInode> made = TRY(fs_.make_locked(node));
  made->shares_lock();
  made->attributes_.nlink = 0;
  made->linkable_ = node.linkable;
  return Ref<vfs::Inode>(std::move(made));
}

// Inodes that are passed to a method of this file system are its own: the caller has checked that
// they are of one mount.

Result<void> TmpInode::link(std::string_view name, vfs::Inode& target) {
  auto& inode = static_cast<TmpInode&>(target);
  Lock lock(fs_.mutex_);
  inode.shares_lock();
  TRY(check_alive_locked());
  if (inode.attributes_.nlink == 0 && !inode.linkable_) return Errno::kNoEnt;
  if (inode.attributes_.nlink >= kMaxLinks) return Errno::kMLink;
  if (entries_->find(name) != nullptr) return Errno::kExist;
  // A name costs memory like an inode does.
  TRY(fs_.charge_node());
  entries_->add(name, Ref<TmpInode>(&inode));
  entries_changed_locked(1);
  // The first name of an O_TMPFILE was paid for with the inode.
  if (inode.attributes_.nlink++ == 0) fs_.discharge_node();
  inode.attributes_.ctime = fs_.clock_.realtime();
  return {};
}

Result<void> TmpInode::unlink(std::string_view name, vfs::Inode& victim) {
  auto& inode = static_cast<TmpInode&>(victim);
  Ref<TmpInode> gone;  // dropped after the lock
  Lock lock(fs_.mutex_);
  inode.shares_lock();
  if (entries_->find(name) != &inode) return Errno::kNoEnt;
  gone = entries_->remove(name);
  entries_changed_locked(-1);
  if (--inode.attributes_.nlink > 0) fs_.discharge_node();
  inode.attributes_.ctime = attributes_.ctime;
  return {};
}

Result<void> TmpInode::rmdir(std::string_view name, vfs::Inode& victim) {
  auto& inode = static_cast<TmpInode&>(victim);
  Ref<TmpInode> gone;
  Lock lock(fs_.mutex_);
  inode.shares_lock();
  if (entries_->find(name) != &inode) return Errno::kNoEnt;
  if (!inode.entries_->empty()) return Errno::kNotEmpty;
  gone = entries_->remove(name);
  entries_changed_locked(-1);
  attributes_.nlink--;
  inode.attributes_.nlink = 0;
  inode.attributes_.ctime = attributes_.ctime;
  return {};
}

void TmpInode::exchange_locked(std::string_view old_name, TmpInode& moved, TmpInode& target,
                               std::string_view new_name, TmpInode& other) {
  target.shares_lock();
  other.shares_lock();
  const Ref<TmpInode> a = entries_->replace(old_name, Ref<TmpInode>(&other));
  const Ref<TmpInode> b = target.entries_->replace(new_name, Ref<TmpInode>(&moved));
  attributes_.nlink += (other.is_directory() ? 1 : 0) - (moved.is_directory() ? 1 : 0);
  target.attributes_.nlink += (moved.is_directory() ? 1 : 0) - (other.is_directory() ? 1 : 0);
  other.attributes_.ctime = fs_.clock_.realtime();
}

// `moved` takes the place of `replaced`, or a new one. Returns what nobody names any more.
Ref<TmpInode> TmpInode::move_locked(std::string_view old_name, TmpInode& moved, TmpInode& target,
                                    std::string_view new_name, TmpInode* replaced) {
  target.shares_lock();
  Ref<TmpInode> inode = entries_->remove(old_name);
  Ref<TmpInode> gone;
  if (replaced == nullptr) {
    target.entries_->add(new_name, std::move(inode));
    target.entries_changed_locked(1);
  } else {
    replaced->shares_lock();
    gone = target.entries_->replace(new_name, std::move(inode));
    const bool directory = replaced->is_directory();
    if (directory) target.attributes_.nlink--;
    replaced->attributes_.nlink = directory ? 0 : replaced->attributes_.nlink - 1;
    if (replaced->attributes_.nlink > 0) fs_.discharge_node();
    replaced->attributes_.ctime = fs_.clock_.realtime();
  }
  if (moved.is_directory()) {
    attributes_.nlink--;
    target.attributes_.nlink++;
  }
  entries_changed_locked(-1);
  return gone;
}

Result<void> TmpInode::rename(std::string_view old_name, vfs::Inode& moved_inode,
                              vfs::Inode& new_dir, std::string_view new_name,
                              vfs::Inode* replaced_inode, uint32_t flags) {
  auto& moved = static_cast<TmpInode&>(moved_inode);
  auto& target = static_cast<TmpInode&>(new_dir);
  auto* replaced = static_cast<TmpInode*>(replaced_inode);
  Ref<TmpInode> gone;  // dropped after the lock
  Lock lock(fs_.mutex_);
  moved.shares_lock();
  target.shares_lock();
  TRY(target.check_alive_locked());
  if (entries_->find(old_name) != &moved) return Errno::kNoEnt;
  if (target.entries_->find(new_name) != replaced) return Errno::kStale;
  if ((flags & RENAME_EXCHANGE) != 0) {
    exchange_locked(old_name, moved, target, new_name, *replaced);
  } else {
    if (replaced != nullptr && replaced->is_directory()) {
      replaced->shares_lock();
      if (!replaced->entries_->empty()) return Errno::kNotEmpty;
    }
    Ref<TmpInode> whiteout;
    if ((flags & RENAME_WHITEOUT) != 0) {
      whiteout = TRY(fs_.make_locked({.type = vfs::FileType::kCharDevice}));
    }
    gone = move_locked(old_name, moved, target, new_name, replaced);
    if (whiteout) {
      entries_->add(old_name, std::move(whiteout));
      entries_changed_locked(1);
    }
  }
  entries_changed_locked(0);
  target.entries_changed_locked(0);
  moved.attributes_.ctime = fs_.clock_.realtime();
  return {};
}

}  // namespace boxrun::fs
