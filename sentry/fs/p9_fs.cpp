#include "sentry/fs/p9_fs.h"

#include <utility>

#include "sentry/time/call.h"

namespace boxrun::fs {
namespace {

bool same_file(const gofer::Attr& a, const gofer::Attr& b) {
  // Inode numbers are used again: the time of birth tells, where the host's file system has one.
  const bool known = (a.valid & b.valid & gofer::kAttrBtime) != 0;
  return (a.mode & S_IFMT) == (b.mode & S_IFMT) && (!known || a.btime == b.btime);
}

}  // namespace

P9Listing::P9Listing(std::vector<gofer::DirectoryEntry> entries, gofer::Listed what)
    : entries_(std::move(entries)), what_(what) {
  for (size_t i = 0; i < entries_.size(); i++) by_name_.emplace(entries_[i].name, i);
}

const gofer::DirectoryEntry* P9Listing::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

P9Fs::P9Fs(const Config& config, Ref<P9Connection> connection)
    : FileSystem({.type = "9p", .device = config.device, .read_only = config.read_only}),
      connection_(std::move(connection)),
      cache_(config.cache),
      changes_(config.cache == P9Cache::kShared ? connection_->listen() : nullptr),
      unmapped_uid_(config.unmapped_uid),
      unmapped_gid_(config.unmapped_gid) {}

Result<Ref<P9Fs>> P9Fs::create(const Config& config, Ref<P9Connection> connection) {
  gofer::RemoteFile root = TRY(connection->client().attach(config.mount, gofer::kNoUid));
  Ref<P9Fs> fs = adopt_ref(new P9Fs(config, std::move(connection)));
  fs->root_ = fs->inode_of(root.attr, std::move(root.target));
  fs->root_->learn_fid(std::move(root.fid));
  return fs;
}

void P9Fs::last_reference_gone() {
  root_ = nullptr;
  FileSystem::last_reference_gone();
}

Ref<vfs::Inode> P9Fs::root() { return root_; }

Result<vfs::Statistics> P9Fs::statistics() {
  const gofer::Rstatfs st = TRY(client().statfs(TRY(root_->fid())));
  return vfs::Statistics{.magic = st.type,
                         .block_size = st.bsize,
                         .blocks = st.blocks,
                         .blocks_free = st.bfree,
                         .blocks_available = st.bavail,
                         .files = st.files,
                         .files_free = st.ffree,
                         .name_max = st.namelen};
}

Ref<P9Inode> P9Fs::inode_of(const gofer::Attr& attr, std::string target, Seen seen) {
  Ref<P9Inode> known;
  {
    const Lock lock(mutex_);
    P9Inode*& slot = inodes_[attr.qid.path];
    if (slot == nullptr || !slot->try_ref()) {
      slot = new P9Inode(*this, attr, std::move(target), seen.as_of);
      return adopt_ref(slot);
    }
    known = adopt_ref(slot);
  }
  if (known->learn(attr, seen)) return known;
  Ref<P9Inode> fresh = adopt_ref(new P9Inode(*this, attr, std::move(target), seen.as_of));
  const Lock lock(mutex_);
  inodes_[attr.qid.path] = fresh.get();
  return fresh;
}

void P9Fs::forget(P9Inode& inode) {
  const Lock lock(mutex_);
  const auto found = inodes_.find(inode.number());
  if (found != inodes_.end() && found->second == &inode) inodes_.erase(found);
}

bool P9Inode::learn(const gofer::Attr& attr, Seen seen) {
  Ref<P9HostFile> outdated;  // dropped after the lock
  const Lock lock(mutex_);
  if (!same_file(attr_, attr)) return false;
  // Where the host's file system is an overlayfs, an open file goes on showing the lower file when
  // a write has made a copy: for those who open it now it is not the file any more.
  const bool changed = attr.ctime != attr_.ctime || attr.size != attr_.size;
  if (changed && !fs_.exclusive()) outdated = std::exchange(reader_, nullptr);
  attr_ = attr;
  attr_as_of_ = seen.as_of;
  learned_at_ = steady_now();
  learned_in_ = this_call();
  if (stale_since_ <= seen.asked) stale_since_ = 0;
  return true;
}

}  // namespace boxrun::fs
