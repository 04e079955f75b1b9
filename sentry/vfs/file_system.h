#pragma once
#include <atomic>
#include <cstdint>
#include <string>

#include "sentry/vfs/dentry.h"
#include "sentry/vfs/inode.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::vfs {

// statfs(2), in its units.
struct Statistics {
  uint64_t magic = 0;  // linux/magic.h
  uint64_t block_size = 4096;
  uint64_t blocks = 0, blocks_free = 0, blocks_available = 0;
  uint64_t files = 0, files_free = 0;
  uint64_t name_max = 255;
};

// Hands out the device numbers of file systems without a device (fs/super.c: get_anon_bdev).
// One per kernel.
class AnonymousDevices {
 public:
  uint64_t allocate() { return next_.fetch_add(1, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> next_{1};  // major 0; the minor fits the low byte for the first 255
};

// A mounted tree of inodes (struct super_block). Held by its mounts.
class FileSystem : public RefCounted {
 public:
  // Fixed after construction.
  struct Properties {
    std::string type;  // as in /proc/filesystems
    uint64_t device = 0;
    bool read_only = false;  // the file system itself; a Mount may be read-only on top
    // false: no dentry outlives its last user, and none stands for a missing name (proc)
    bool caches_names = true;
    // Where the locks of its names belong. Those of proc come before the kernel's, which its
    // lookups take.
    Rank rename_rank = Rank::kRename;
    Rank directory_rank = Rank::kDirectory;
  };

  virtual Ref<Inode> root() = 0;
  virtual Result<Statistics> statistics() = 0;
  // Writes back what is dirty: syncfs(2).
  virtual Result<void> sync() { return {}; }

  const Properties& properties() const { return properties_; }
  uint64_t device() const { return properties_.device; }
  DentryCache& dentries() { return dentries_; }
  // Made on first use.
  Ref<Dentry> root_dentry() EXCLUDES(mutex_);
  // Held by operations that rename directories, before any directory mutex.
  Mutex& rename_mutex() { return rename_mutex_; }

 protected:
  explicit FileSystem(Properties properties)
      : properties_(std::move(properties)),
        rename_mutex_(properties_.rename_rank),
        dentries_(properties_.caches_names ? 16384 : 0, properties_.directory_rank) {}
  // Empties the cache while the derived class is still whole: inodes may need it to go away.
  void last_reference_gone() override;

 private:
  const Properties properties_;
  Mutex rename_mutex_;
  Mutex mutex_{Rank::kDentry};
  DentryCache dentries_;
  Ref<Dentry> root_dentry_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::vfs
