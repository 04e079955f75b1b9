#include "sentry/vfs/mount.h"

#include <algorithm>

namespace boxrun::vfs {

Mount::Mount(Config config)
    : file_system_(std::move(config.file_system)),
      root_(config.root ? std::move(config.root) : file_system_->root_dentry()),
      flags_(config.flags),
      source_(std::move(config.source)),
      options_(std::move(config.options)) {}

Ref<Mount> Mount::create(Config config) { return adopt_ref(new Mount(std::move(config))); }

MountNamespace::MountNamespace(Ref<Mount> root) : root_(std::move(root)) {
  root_->id_ = next_id_++;
}

Ref<MountNamespace> MountNamespace::create(Ref<Mount> root) {
  return adopt_ref(new MountNamespace(std::move(root)));
}

MountNamespace::~MountNamespace() {
  std::vector<Ref<Mount>> mounts;
  {
    Lock lock(mutex_);
    for (auto& [key, mount] : mounted_) mounts.push_back(mount);
    mounted_.clear();
    for (const Ref<Mount>& mount : mounts) mount->mountpoint_.dentry->remove_mount();
  }
  for (const Ref<Mount>& mount : mounts) mount->mountpoint_ = {};
}

Path MountNamespace::root() const {
  Lock lock(mutex_);
  return {root_, root_->root()};
}

Result<void> MountNamespace::attach(Ref<Mount> mount, const Path& where) {
  const Path top = cross(where);
  const Ref<Inode> below = top.dentry->inode();
  if (!below) return Errno::kNoEnt;
  if (below->is_directory() != mount->root()->inode()->is_directory()) return Errno::kNotDir;
  Lock lock(mutex_);
  const auto [at, is_new] = mounted_.emplace(Key{top.mount.get(), top.dentry.get()}, mount);
  if (!is_new) return Errno::kBusy;
  mount->mountpoint_ = top;
  mount->id_ = next_id_++;
  top.mount->children_++;
  top.dentry->add_mount();
  return {};
}

void MountNamespace::forget_locked(Mount& mount) {
  mount.mountpoint_.dentry->remove_mount();
  mount.mountpoint_.mount->children_--;
  mounted_.erase(Key{mount.mountpoint_.mount.get(), mount.mountpoint_.dentry.get()});
}

Result<void> MountNamespace::detach(const Path& at, bool lazy) {
  std::vector<Ref<Mount>> gone;  // dropped, like their mountpoints, after the lock
  std::vector<Path> mountpoints;
  {
    Lock lock(mutex_);
    if (!at.mount->mountpoint_ || at.dentry != at.mount->root()) return Errno::kInval;
    // The references of mounted_ and of the caller do not count.
    if (!lazy && (at.mount->children_ != 0 || at.mount->ref_count() > 2)) return Errno::kBusy;
    gone.push_back(at.mount);
    for (size_t i = 0; i < gone.size(); i++) {
      for (const auto& [key, mount] : mounted_) {
        if (key.first == gone[i].get()) gone.push_back(mount);
      }
    }
    std::reverse(gone.begin(), gone.end());
    for (const Ref<Mount>& mount : gone) {
      forget_locked(*mount);
      mountpoints.push_back(std::exchange(mount->mountpoint_, {}));
    }
  }
  return {};
}

Path MountNamespace::cross(Path path) const {
  while (path.dentry->is_mountpoint()) {
    Ref<Mount> over;
    {
      Lock lock(mutex_);
      const auto at = mounted_.find(Key{path.mount.get(), path.dentry.get()});
      if (at == mounted_.end()) break;  // mounted there in another bind of the same tree
      over = at->second;
    }
    Ref<Dentry> root = over->root();
    path = {std::move(over), std::move(root)};
  }
  return path;
}

Path MountNamespace::mountpoint(const Mount& mount) const {
  Lock lock(mutex_);
  return mount.mountpoint_;
}

bool MountNamespace::is_mountpoint(const Path& path) const {
  if (!path.dentry->is_mountpoint()) return false;
  Lock lock(mutex_);
  return mounted_.count(Key{path.mount.get(), path.dentry.get()}) != 0;
}

std::vector<MountNamespace::Entry> MountNamespace::list() const {
  std::vector<Entry> entries;
  Lock lock(mutex_);
  entries.push_back({root_, root_->id(), 0, {}});
  for (const auto& [key, mount] : mounted_) {
    entries.push_back({mount, mount->id(), key.first->id(), mount->mountpoint_});
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.id < b.id; });
  return entries;
}

}  // namespace boxrun::vfs
