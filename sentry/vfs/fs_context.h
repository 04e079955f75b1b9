#pragma once
#include <sys/types.h>

#include <utility>

#include "sentry/vfs/mount.h"
#include "src/base/ref.h"
#include "src/base/sync.h"

namespace boxrun::vfs {

// Where a task's paths start (struct fs_struct): shared by CLONE_FS, copied without. Thread-safe.
class FsContext final : public RefCounted {
 public:
  FsContext(Path root, Path cwd, mode_t umask)
      : root_(std::move(root)), cwd_(std::move(cwd)), umask_(umask) {}

  Path root() const EXCLUDES(mutex_);
  Path cwd() const EXCLUDES(mutex_);
  mode_t umask() const EXCLUDES(mutex_);
  void set_root(Path root) EXCLUDES(mutex_);
  void set_cwd(Path cwd) EXCLUDES(mutex_);
  // Returns the old one.
  mode_t set_umask(mode_t umask) EXCLUDES(mutex_);
  Ref<FsContext> clone() const EXCLUDES(mutex_);

 private:
  mutable Mutex mutex_{Rank::kFsContext};
  Path root_ GUARDED_BY(mutex_);
  Path cwd_ GUARDED_BY(mutex_);
  mode_t umask_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::vfs
