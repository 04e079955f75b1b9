// Shared by the files that implement operations.h.
#pragma once
#include <cstdint>

#include "sentry/vfs/caller.h"
#include "sentry/vfs/dentry.h"
#include "src/base/result.h"

namespace boxrun::vfs {

enum class Expect : uint8_t { kFile, kDirectory };

// may_create and may_delete of fs/namei.c, with the directory's mutex held; the victim exists.
Result<void> may_create_in(Caller& caller, const Path& directory);
Result<void> may_delete_from(Caller& caller, const Path& directory, Dentry& victim, Expect expect);

// The mutex of a directory below one whose mutex is held already.
class NestedDirectoryLock {
 public:
  explicit NestedDirectoryLock(Dentry& dentry) NO_THREAD_SAFETY_ANALYSIS
      : mutex_(dentry.directory_mutex()) {
    mutex_.lock_nested();
  }
  ~NestedDirectoryLock() NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock(); }
  NestedDirectoryLock(const NestedDirectoryLock&) = delete;
  NestedDirectoryLock& operator=(const NestedDirectoryLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace boxrun::vfs
