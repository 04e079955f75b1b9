#pragma once
#include "src/base/sync.h"

namespace boxrun::kernel {

// Who is whose parent, child, thread, process group and session: one lock for a whole sandbox, the
// outermost but one. It guards the Links of tasks, thread groups, process groups and sessions, and
// the pid namespace. It is held briefly and never while anything blocks.
class TaskTree {
 public:
  TaskTree() = default;

 private:
  friend class TreeLock;
  Mutex mutex_{Rank::kTaskTree};
};

// Proof that the tree lock is held: whatever the tree guards asks for one. It takes the place of
// GUARDED_BY, which cannot say "the lock of another object".
class TreeLock {
 public:
  explicit TreeLock(TaskTree& tree) NO_THREAD_SAFETY_ANALYSIS : mutex_(tree.mutex_) {
    mutex_.lock();
  }
  ~TreeLock() NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock(); }
  TreeLock(const TreeLock&) = delete;
  TreeLock& operator=(const TreeLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace boxrun::kernel
