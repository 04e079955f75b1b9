#include "sentry/vfs/dentry.h"

#include <utility>
#include <vector>

namespace boxrun::vfs {

Dentry::Dentry(DentryCache& cache, Ref<Dentry> parent, std::string name, Ref<Inode> inode)
    : cache_(cache),
      name_(std::move(name)),
      parent_(std::move(parent)),
      inode_(std::move(inode)),
      directory_mutex_(cache.directory_rank_) {}

Ref<Inode> Dentry::inode() const {
  Lock lock(cache_.mutex_);
  return inode_;
}

Ref<Dentry> Dentry::parent() const {
  Lock lock(cache_.mutex_);
  return parent_;
}

std::string Dentry::name() const {
  Lock lock(cache_.mutex_);
  return name_;
}

bool Dentry::unhashed() const {
  Lock lock(cache_.mutex_);
  return !hashed_ && parent_;
}

bool Dentry::withheld() const {
  Lock lock(cache_.mutex_);
  return withheld_;
}

void Dentry::last_reference_gone() {
  Dentry* dying = this;
  while (dying != nullptr) {
    Dentry* parent = nullptr;
    {
      Lock lock(dying->cache_.mutex_);
      parent = dying->parent_.release();
      if (dying->hashed_) {
        const auto at = parent->children_.find(dying->name_);
        // A newer dentry may have taken the name since the count dropped to zero.
        if (at != parent->children_.end() && at->second == dying) parent->children_.erase(at);
      }
    }
    delete dying;
    dying = parent != nullptr && parent->drop_ref() ? parent : nullptr;
  }
}

Ref<Dentry> DentryCache::make_root(std::string name, Ref<Inode> inode) {
  return adopt_ref(new Dentry(*this, nullptr, std::move(name), std::move(inode)));
}

// The helpers below never drop a reference themselves: that could re-enter this cache. What they
// let go is put into `evicted`, whose owner declares it before its Lock.

void DentryCache::touch_locked(Dentry& dentry, Recent& evicted) {
  if (dentry.cached_) {
    recent_.splice(recent_.begin(), recent_, dentry.position_);
    return;
  }
  if (capacity_ == 0) return;
  recent_.emplace_front(&dentry);
  dentry.position_ = recent_.begin();
  dentry.cached_ = true;
  if (recent_.size() > capacity_) release_locked(*recent_.back(), evicted);
}

void DentryCache::release_locked(Dentry& dentry, Recent& evicted) {
  if (!dentry.cached_) return;
  dentry.cached_ = false;
  evicted.splice(evicted.begin(), recent_, dentry.position_);
}

void DentryCache::hash_locked(Dentry& dentry, Dentry& parent, std::string_view name) {
  dentry.name_ = name;
  // Not assignment: the key of an entry that is there points into another dentry.
  parent.children_.erase(name);
  parent.children_.emplace(dentry.name_, &dentry);
  dentry.hashed_ = true;
}

void DentryCache::unhash_locked(Dentry& dentry, Recent& evicted) {
  if (dentry.hashed_) {
    auto& siblings = dentry.parent_->children_;
    const auto at = siblings.find(dentry.name_);
    if (at != siblings.end() && at->second == &dentry) siblings.erase(at);
    dentry.hashed_ = false;
  }
  release_locked(dentry, evicted);
}

Ref<Dentry> DentryCache::find_locked(Dentry& parent, std::string_view name) {
  const auto at = parent.children_.find(name);
  if (at == parent.children_.end() || !at->second->try_ref()) return nullptr;
  return adopt_ref(at->second);
}

Ref<Dentry> DentryCache::find(Dentry& parent, std::string_view name) {
  Recent evicted;
  Lock lock(mutex_);
  Ref<Dentry> found = find_locked(parent, name);
  if (found) touch_locked(*found, evicted);
  return found;
}

Ref<Dentry> DentryCache::insert(Dentry& parent, std::string_view name, Ref<Inode> inode,
                                bool withheld, Other other, uint64_t as_of) {
  Recent evicted;
  Ref<Dentry> old;
  Ref<Dentry> made = adopt_ref(new Dentry(*this, Ref<Dentry>(&parent), {}, std::move(inode)));
  made->as_of_ = as_of;
  Lock lock(mutex_);
  old = find_locked(parent, name);
  if (old && old->inode_ == made->inode_ && old->withheld_ == withheld) {
    old->as_of_ = as_of;
    touch_locked(*old, evicted);
    return old;
  }
  if (old && other == Other::kKeep) return nullptr;
  if (old) unhash_locked(*old, evicted);
  made->withheld_ = withheld;
  hash_locked(*made, parent, name);
  touch_locked(*made, evicted);
  return made;
}

void DentryCache::remove(Dentry& dentry, bool remember) {
  Recent evicted;
  Ref<Dentry> negative;
  Lock lock(mutex_);
  if (!dentry.hashed_) return;
  const Ref<Dentry> parent = dentry.parent_;
  unhash_locked(dentry, evicted);
  if (!remember) return;
  negative = adopt_ref(new Dentry(*this, parent, {}, nullptr));
  hash_locked(*negative, *parent, dentry.name_);
  touch_locked(*negative, evicted);
}

void DentryCache::move(Dentry& moved, Dentry& new_parent, std::string_view new_name) {
  Recent evicted;
  Ref<Dentry> replaced;
  Ref<Dentry> parent(&new_parent);
  Lock lock(mutex_);
  replaced = find_locked(new_parent, new_name);
  if (replaced.get() == &moved) return;
  if (replaced) unhash_locked(*replaced, evicted);
  unhash_locked(moved, evicted);
  std::swap(moved.parent_, parent);  // the old parent goes after the lock
  hash_locked(moved, new_parent, new_name);
  touch_locked(moved, evicted);
}

void DentryCache::exchange(Dentry& a, Dentry& b) {
  Recent evicted;
  Lock lock(mutex_);
  unhash_locked(a, evicted);
  unhash_locked(b, evicted);
  std::swap(a.parent_, b.parent_);
  const std::string name_of_a = a.name_;
  const std::string name_of_b = b.name_;
  hash_locked(a, *a.parent_, name_of_b);
  hash_locked(b, *b.parent_, name_of_a);
  touch_locked(a, evicted);
  touch_locked(b, evicted);
}

bool DentryCache::is_below(const Dentry& dentry, const Dentry& ancestor) const {
  Lock lock(mutex_);
  for (const Dentry* at = &dentry; at != nullptr; at = at->parent_.get()) {
    if (at == &ancestor) return true;
  }
  return false;
}

std::string DentryCache::path_below(const Dentry& stop, const Dentry& dentry, bool& reached) const {
  std::vector<const std::string*> names;
  std::string path;
  Lock lock(mutex_);
  const Dentry* at = &dentry;
  while (at != &stop && at->parent_) {
    names.push_back(&at->name_);
    at = at->parent_.get();
  }
  reached = at == &stop;
  for (size_t i = names.size(); i > 0; i--) path.append("/").append(*names[i - 1]);
  return path;
}

void DentryCache::clear() {
  Recent evicted;
  Lock lock(mutex_);
  for (const Ref<Dentry>& dentry : recent_) dentry->cached_ = false;
  evicted.swap(recent_);
}

size_t DentryCache::cached() const {
  Lock lock(mutex_);
  return recent_.size();
}

}  // namespace boxrun::vfs
