#include "sentry/vfs/file_system.h"

#include <utility>

namespace boxrun::vfs {

Ref<Dentry> FileSystem::root_dentry() {
  {
    Lock lock(mutex_);
    if (root_dentry_) return root_dentry_;
  }
  Ref<Dentry> made = dentries_.make_root("/", root());
  Lock lock(mutex_);
  if (!root_dentry_) std::swap(root_dentry_, made);
  return root_dentry_;
}

void FileSystem::last_reference_gone() {
  Ref<Dentry> root;
  {
    Lock lock(mutex_);
    std::swap(root, root_dentry_);
  }
  dentries_.clear();
  root = nullptr;
  delete this;
}

}  // namespace boxrun::vfs
