// Names and the cache of them. Every file system has one DentryCache; its lock (rank kDentry, a
// leaf among the VFS locks) guards the fields of all its dentries. README.md has the rules.
#pragma once
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "sentry/vfs/inode.h"
#include "src/base/ref.h"
#include "src/base/sync.h"

namespace boxrun::vfs {

class DentryCache;

// One name in one directory and the inode it stands for, or the knowledge that there is none
// (a negative dentry). A child keeps its parent alive; the cache keeps recently used ones.
class Dentry final : public RefCounted {
 public:
  DentryCache& cache() const { return cache_; }
  // Null for a negative dentry.
  Ref<Inode> inode() const;
  // The root of a file system, and dentries outside the tree (pipes), have no parent.
  Ref<Dentry> parent() const;
  std::string name() const;
  // No longer reachable by its name: unlinked, replaced, or never in the tree.
  bool unhashed() const;
  // A negative dentry for a name that the profile hides.
  bool withheld() const;

  // LookupResult::as_of of the last lookup that found this; read without a lock by the walker.
  uint64_t as_of() const { return as_of_.load(std::memory_order_acquire); }

  // Serialises lookups that miss and changes of entries, per directory; taken before any lock of
  // the file system itself. Of two, the ancestor's comes first.
  Mutex& directory_mutex() { return directory_mutex_; }

  // How many mounts sit here; read without a lock by the walker.
  bool is_mountpoint() const { return mounts_.load(std::memory_order_acquire) != 0; }
  void add_mount() { mounts_.fetch_add(1, std::memory_order_acq_rel); }
  void remove_mount() { mounts_.fetch_sub(1, std::memory_order_acq_rel); }

 private:
  friend class DentryCache;
  Dentry(DentryCache& cache, Ref<Dentry> parent, std::string name, Ref<Inode> inode);
  ~Dentry() override = default;
  // A loop, not a recursion: directories may be nested as deep as the guest likes.
  void last_reference_gone() override;

  DentryCache& cache_;
  // The rest is guarded by cache_.mutex_.
  std::string name_;
  Ref<Dentry> parent_;
  Ref<Inode> inode_;
  std::unordered_map<std::string_view, Dentry*> children_;  // keys point into the children's name_
  bool hashed_ = false;
  bool withheld_ = false;
  bool cached_ = false;  // whether recent_ holds a reference, at position_
  std::list<Ref<Dentry>>::iterator position_;

  Mutex directory_mutex_;
  std::atomic<uint32_t> mounts_{0};
  std::atomic<uint64_t> as_of_{0};
};

class DentryCache {
 public:
  // Keeps at most `capacity` dentries that nobody else uses.
  explicit DentryCache(size_t capacity = 16384, Rank directories = Rank::kDirectory)
      : capacity_(capacity), directory_rank_(directories) {}
  ~DentryCache() { clear(); }
  DentryCache(const DentryCache&) = delete;
  DentryCache& operator=(const DentryCache&) = delete;

  // A dentry outside the tree: the root of a file system, a pipe, an O_TMPFILE.
  Ref<Dentry> make_root(std::string name, Ref<Inode> inode);

  // The cached child, positive or negative; null when nothing is known.
  Ref<Dentry> find(Dentry& parent, std::string_view name) EXCLUDES(mutex_);

  // --- with parent.directory_mutex() held
  // Records what a lookup found; `inode` null: negative. Returns the dentry that is there already
  // when it says the same, as of now (LookupResult::as_of). One that says otherwise is replaced, or
  // with kKeep null is returned: for what a lookup of several names found in directories whose
  // mutex is not held.
  enum class Other : uint8_t { kReplace, kKeep };
  Ref<Dentry> insert(Dentry& parent, std::string_view name, Ref<Inode> inode, bool withheld = false,
                     Other other = Other::kReplace, uint64_t as_of = 0) EXCLUDES(mutex_);
  // The name is gone. Who still holds the dentry keeps its inode and sees unhashed(); with
  // `remember`, a negative dentry takes its place.
  void remove(Dentry& dentry, bool remember = true) EXCLUDES(mutex_);
  // `moved` takes the place of new_parent's `new_name`, if any. Both directory mutexes and the
  // rename lock are held.
  void move(Dentry& moved, Dentry& new_parent, std::string_view new_name) EXCLUDES(mutex_);
  void exchange(Dentry& a, Dentry& b) EXCLUDES(mutex_);

  // True when `dentry` is `ancestor` or lies below it.
  bool is_below(const Dentry& dentry, const Dentry& ancestor) const EXCLUDES(mutex_);
  // "/a/b": the names from `stop` (exclusive) down to `dentry`, empty when they are the same.
  // `reached` tells whether `stop` was met before the top of the tree.
  std::string path_below(const Dentry& stop, const Dentry& dentry, bool& reached) const
      EXCLUDES(mutex_);
  // Drops what only the cache holds.
  void clear() EXCLUDES(mutex_);
  size_t cached() const EXCLUDES(mutex_);

 private:
  friend class Dentry;
  using Recent = std::list<Ref<Dentry>>;
  void touch_locked(Dentry& dentry, Recent& evicted) REQUIRES(mutex_);
  void unhash_locked(Dentry& dentry, Recent& evicted) REQUIRES(mutex_);
  void hash_locked(Dentry& dentry, Dentry& parent, std::string_view name) REQUIRES(mutex_);
  Ref<Dentry> find_locked(Dentry& parent, std::string_view name) REQUIRES(mutex_);
  void release_locked(Dentry& dentry, Recent& evicted) REQUIRES(mutex_);

  const size_t capacity_;
  const Rank directory_rank_;
  mutable Mutex mutex_{Rank::kDentry};
  Recent recent_ GUARDED_BY(mutex_);  // most recent first
};

}  // namespace boxrun::vfs
