#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sentry/vfs/dentry.h"
#include "sentry/vfs/file_system.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::vfs {

class Mount;

// A place in the tree: which mount, and where in it.
struct Path {
  Ref<Mount> mount;  // destroyed last: it keeps the file system that the dentry belongs to
  Ref<Dentry> dentry;

  explicit operator bool() const { return static_cast<bool>(dentry); }
  bool operator==(const Path& other) const {
    return mount == other.mount && dentry == other.dentry;
  }
};

// Flags of one mount, the values of MS_* (mount(2)).
enum class MountFlags : uint32_t {
  kNone = 0,
  kReadOnly = 1,
  kNoSuid = 2,
  kNoDev = 4,
  kNoExec = 8,
  kNoAtime = 1024,
  kNoDirAtime = 2048,
  // Ours: the profile withheld what is missing here, so ENOENT is reported. For the skeleton of
  // directories between declared mounts.
  kReportMissing = 1u << 31,
};
constexpr MountFlags operator|(MountFlags a, MountFlags b) {
  return static_cast<MountFlags>(static_cast<uint32_t>(a) | static_cast<uint32_t>(b));
}
constexpr bool has(MountFlags set, MountFlags flag) {
  return (static_cast<uint32_t>(set) & static_cast<uint32_t>(flag)) != 0;
}

// One attachment of a file system, or of a directory in it, to the tree.
class Mount final : public RefCounted {
 public:
  struct Config {
    Ref<FileSystem> file_system;
    Ref<Dentry> root;  // null: the file system's root
    MountFlags flags = MountFlags::kNone;
    std::string source = "none";  // for /proc/mounts
    std::string options;          // likewise, beyond the flags: "size=64k"
  };
  static Ref<Mount> create(Config config);

  FileSystem& file_system() const { return *file_system_; }
  const Ref<Dentry>& root() const { return root_; }
  MountFlags flags() const { return flags_.load(std::memory_order_acquire); }
  void set_flags(MountFlags flags) { flags_.store(flags, std::memory_order_release); }
  bool has(MountFlags flag) const { return vfs::has(flags(), flag); }
  bool read_only() const {
    return has(MountFlags::kReadOnly) || file_system_->properties().read_only;
  }
  const std::string& source() const { return source_; }
  const std::string& options() const { return options_; }
  int id() const { return id_.load(std::memory_order_relaxed); }  // for mountinfo; 0: not attached

 private:
  friend class MountNamespace;
  explicit Mount(Config config);

  const Ref<FileSystem> file_system_;
  const Ref<Dentry> root_;
  std::atomic<MountFlags> flags_;
  const std::string source_;
  const std::string options_;
  std::atomic<int> id_{0};
  // Guarded by the namespace's lock. The root mount, and detached ones, have no parent.
  Path mountpoint_;
  uint32_t children_ = 0;
};

// The tree of mounts that tasks see (mount_namespaces(7)). Thread-safe.
class MountNamespace final : public RefCounted {
 public:
  static Ref<MountNamespace> create(Ref<Mount> root);
  ~MountNamespace() override;

  Path root() const EXCLUDES(mutex_);
  // Puts `mount` over `where`, on top of what may be mounted there already.
  // ENOTDIR when one is a directory and the other is not.
  Result<void> attach(Ref<Mount> mount, const Path& where) EXCLUDES(mutex_);
  // umount2(2) of the mount whose root `at` is. EINVAL when it is none or the root mount, EBUSY
  // when mounts lie on it or (unless `lazy`) anything else uses it.
  Result<void> detach(const Path& at, bool lazy) EXCLUDES(mutex_);

  // The top mount on `path`, if any, entered repeatedly: the place that a walk goes on from.
  Path cross(Path path) const EXCLUDES(mutex_);
  // Where the mount is attached; empty for the root and for detached mounts.
  Path mountpoint(const Mount& mount) const EXCLUDES(mutex_);
  // True when something is mounted exactly at `path`: it may not be removed or renamed.
  bool is_mountpoint(const Path& path) const EXCLUDES(mutex_);

  struct Entry {
    Ref<Mount> mount;
    int id;
    int parent_id;
    Path mountpoint;
  };
  // In the order they were mounted, for /proc/PID/mounts and mountinfo.
  std::vector<Entry> list() const EXCLUDES(mutex_);

 private:
  explicit MountNamespace(Ref<Mount> root);
  using Key = std::pair<const Mount*, const Dentry*>;
  void forget_locked(Mount& mount) REQUIRES(mutex_);

  mutable Mutex mutex_{Rank::kMountNamespace};
  Ref<Mount> root_ GUARDED_BY(mutex_);
  std::map<Key, Ref<Mount>> mounted_ GUARDED_BY(mutex_);
  int next_id_ GUARDED_BY(mutex_) = 1;
};

}  // namespace boxrun::vfs
