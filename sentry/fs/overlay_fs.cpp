#include "sentry/fs/overlay_fs.h"

#include <fmt/format.h>
#include <linux/magic.h>

#include <algorithm>
#include <utility>

namespace boxrun::fs {

Ref<OverlayFs> OverlayFs::create(uint64_t device, Ref<vfs::FileSystem> lower, Ref<TmpFs> upper) {
  Ref<OverlayFs> fs = adopt_ref(new OverlayFs(device, std::move(lower), std::move(upper)));
  Ref<vfs::Inode> lower_root = fs->lower_->root();
  fs->root_ = fs->wrap(std::move(lower_root), {}, "");
  return fs;
}

OverlayFs::OverlayFs(uint64_t device, Ref<vfs::FileSystem> lower, Ref<TmpFs> upper)
    : FileSystem({.type = "overlay", .device = device}),
      lower_(std::move(lower)),
      upper_(std::move(upper)) {}

OverlayFs::~OverlayFs() {
  // Directories hold what they changed: a loop instead of a recursion as deep as the tree.
  std::vector<Ref<OverlayInode>> pending;
  pending.push_back(std::move(root_));
  {
    Lock lock(mutex_);
    for (auto& [file, ref] : shared_) pending.push_back(std::move(ref));
    shared_.clear();
  }
  while (!pending.empty()) {
    const Ref<OverlayInode> inode = std::move(pending.back());
    pending.pop_back();
    OverlayInode::Entries entries;
    {
      Lock lock(mutex_);
      entries = std::exchange(inode->entries_, {});
      upper_->discharge_names(entries.size());
      if (inode->found_in_) pending.push_back(std::move(inode->found_in_));
    }
    for (auto& [name, entry] : entries) {
      if (entry.inode) pending.push_back(std::move(entry.inode));
    }
  }
}

Ref<vfs::Inode> OverlayFs::root() { return root_; }

Result<vfs::Statistics> OverlayFs::statistics() {
  vfs::Statistics s = TRY(upper_->statistics());
  s.magic = OVERLAYFS_SUPER_MAGIC;
  return s;
}

Ref<OverlayInode> OverlayFs::wrap(Ref<vfs::Inode> lower, Ref<OverlayInode> parent,
                                  std::string_view name) {
  const vfs::FileType type = lower->type();
  Lock lock(mutex_);
  if (const auto known = by_lower_.find(lower.get()); known != by_lower_.end()) {
    // One that is on its way out takes itself out of the map only if it is still the one there.
    if (known->second->try_ref()) {
      // Somebody on the host may have moved it since: what has not been changed yet is remembered
      // in the place where it was seen last.
      if (known->second->found_in_) {
        std::swap(known->second->found_in_, parent);
        known->second->found_as_ = name;
      }
      return Ref<OverlayInode>::adopt(known->second);
    }
  }
  const vfs::Inode* key = lower.get();
  auto inode = adopt_ref(new OverlayInode(*this, type, std::move(lower), {}));
  inode->found_in_ = std::move(parent);
  inode->found_as_ = name;
  by_lower_[key] = inode.get();
  return inode;
}

Result<Ref<OverlayInode>> OverlayFs::make(const vfs::NewNode& node) {
  Ref<TmpInode> upper = TRY(upper_->make_unnamed(node, {device(), 0, ""}, 0));
  return adopt_ref(new OverlayInode(*this, node.type, {}, std::move(upper)));
}

std::vector<OverlayFs::Difference> OverlayFs::differences(size_t max) {
  using Op = Difference::Op;
  std::vector<Difference> found;
  std::vector<std::pair<Ref<OverlayInode>, std::string>> pending;
  pending.emplace_back(root_, "");
  {
    Lock lock(mutex_);
    if (!root_->is_directory() && root_->is_modified_locked()) found.push_back({Op::kModified, ""});
  }
  // A guest nests directories as deep as it likes: their paths together are quadratic in that.
  constexpr size_t kMaxPathBytes = 4 << 20;
  size_t bytes = 0;
  const auto is_enough = [&] { return found.size() >= max || bytes >= kMaxPathBytes; };
  while (!pending.empty() && !is_enough()) {
    const auto [directory, path] = std::move(pending.back());
    pending.pop_back();
    Lock lock(mutex_);
    for (const auto& [name, entry] : directory->entries_) {
      if (is_enough()) break;
      const std::string full = path.empty() ? name : fmt::format("{}/{}", path, name);
      bytes += full.size();
      if (!entry.inode) {
        found.push_back({Op::kDeleted, full});
        continue;
      }
      if (!entry.in_place) {
        found.push_back({entry.covers_lower ? Op::kModified : Op::kAdded, full});
      } else if (entry.inode->is_modified_locked()) {
        found.push_back({Op::kModified, full});
      }
      if (entry.inode->is_directory()) pending.emplace_back(entry.inode, full);
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Difference& a, const Difference& b) { return a.path < b.path; });
  if (found.size() > max) found.resize(max);
  return found;
}

}  // namespace boxrun::fs
