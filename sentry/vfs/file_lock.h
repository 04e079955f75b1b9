// Advisory locks: flock(2), POSIX record locks and open file description locks (fcntl(2)).
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "sentry/wait/wait.h"
#include "src/base/range.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::vfs {

enum class LockKind : uint8_t { kShared, kExclusive };

// Who owns a record lock: an FdTable (POSIX) or a FileDescription (OFD). Compared, never used.
struct LockOwner {
  const void* owner = nullptr;
  bool description = false;
  pid_t pid = 0;  // what F_GETLK reports: the process, or -1 for a description
  bool same(const LockOwner& other) const { return owner == other.owner; }
};

struct RecordLock {
  LockKind kind;
  Range range;  // bytes; to UINT64_MAX: to the end of the file
  LockOwner owner;
};

// Which POSIX owner waits for which, over all files: what EDEADLK is decided by. One per kernel.
class LockWaits {
 public:
  // EDEADLK when `holder` waits, through others, for `waiter`; otherwise records the wait.
  Result<void> add(const void* waiter, const void* holder) EXCLUDES(mutex_);
  void remove(const void* waiter, const void* holder) EXCLUDES(mutex_);

 private:
  mutable Mutex mutex_{Rank::kPipe};
  std::multimap<const void*, const void*> holder_of_ GUARDED_BY(mutex_);
};

// All locks on one inode. Thread-safe.
class FileLocks {
 public:
  // kAgain when somebody else's lock is in the way; wait on queue() and try again. Converting a
  // lock drops the old one first, as Linux does.
  Result<void> flock(const void* description, LockKind kind) EXCLUDES(mutex_);
  void unflock(const void* description) EXCLUDES(mutex_);

  // kAgain likewise; then `blocker`, when given, tells who is in the way.
  Result<void> lock(const RecordLock& lock, LockOwner* blocker = nullptr) EXCLUDES(mutex_);
  void unlock(const LockOwner& owner, Range range) EXCLUDES(mutex_);
  // The first lock that would be in the way of `lock`: F_GETLK.
  std::optional<RecordLock> test(const RecordLock& lock) const EXCLUDES(mutex_);
  void release_owner(const void* owner) EXCLUDES(mutex_);

  WaitQueue& queue() { return queue_; }

 private:
  const RecordLock* conflict_locked(const RecordLock& lock) const REQUIRES(mutex_);
  bool carve_locked(const LockOwner& owner, Range range) REQUIRES(mutex_);

  struct Flock {
    const void* description;
    LockKind kind;
  };
  mutable Mutex mutex_{Rank::kFileLock};
  std::vector<Flock> flocks_ GUARDED_BY(mutex_);
  std::vector<RecordLock> records_ GUARDED_BY(mutex_);  // by start of range
  WaitQueue queue_;
};

}  // namespace boxrun::vfs
