#include "sentry/vfs/fs_context.h"

namespace boxrun::vfs {

Path FsContext::root() const {
  Lock lock(mutex_);
  return root_;
}

Path FsContext::cwd() const {
  Lock lock(mutex_);
  return cwd_;
}

mode_t FsContext::umask() const {
  Lock lock(mutex_);
  return umask_;
}

// The old path is dropped after the lock: that may end a file system.
void FsContext::set_root(Path root) {
  Lock lock(mutex_);
  std::swap(root_, root);
}

void FsContext::set_cwd(Path cwd) {
  Lock lock(mutex_);
  std::swap(cwd_, cwd);
}

mode_t FsContext::set_umask(mode_t umask) {
  Lock lock(mutex_);
  return std::exchange(umask_, umask & 0777);
}

Ref<FsContext> FsContext::clone() const {
  Lock lock(mutex_);
  return make_ref<FsContext>(root_, cwd_, umask_);
}

}  // namespace boxrun::vfs
