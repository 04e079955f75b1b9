#include "sentry/vfs/file_lock.h"

#include <algorithm>

namespace boxrun::vfs {

Result<void> LockWaits::add(const void* waiter, const void* holder) {
  Lock lock(mutex_);
  // Each owner waits for at most one other per task; the chain is followed as far as it goes.
  std::vector<const void*> reached{holder};
  for (size_t i = 0; i < reached.size(); i++) {
    if (reached[i] == waiter) return Errno::kDeadlk;
    const auto [first, last] = holder_of_.equal_range(reached[i]);
    for (auto at = first; at != last; ++at) {
      if (std::find(reached.begin(), reached.end(), at->second) == reached.end()) {
        reached.push_back(at->second);
      }
    }
  }
  holder_of_.emplace(waiter, holder);
  return {};
}

void LockWaits::remove(const void* waiter, const void* holder) {
  Lock lock(mutex_);
  const auto [first, last] = holder_of_.equal_range(waiter);
  const auto at = std::find_if(first, last, [&](const auto& e) { return e.second == holder; });
  if (at != last) holder_of_.erase(at);
}

Result<void> FileLocks::flock(const void* description, LockKind kind) {
  bool freed = false;
  bool blocked = false;
  {
    Lock lock(mutex_);
    const auto mine = std::find_if(flocks_.begin(), flocks_.end(),
                                   [&](const Flock& f) { return f.description == description; });
    if (mine != flocks_.end()) {
      if (mine->kind == kind) return {};
      // flock(2): converting removes the old lock first, so it may be lost to another process.
      flocks_.erase(mine);
      freed = true;
    }
    blocked = std::any_of(flocks_.begin(), flocks_.end(), [&](const Flock& f) {
      return kind == LockKind::kExclusive || f.kind == LockKind::kExclusive;
    });
    if (!blocked) flocks_.push_back({description, kind});
  }
  if (freed) queue_.notify(kReadable);
  if (blocked) return Errno::kAgain;
  return {};
}

void FileLocks::unflock(const void* description) {
  {
    Lock lock(mutex_);
    const auto gone = std::remove_if(flocks_.begin(), flocks_.end(),
                                     [&](const Flock& f) { return f.description == description; });
    if (gone == flocks_.end()) return;
    flocks_.erase(gone, flocks_.end());
  }
  queue_.notify(kReadable);
}

const RecordLock* FileLocks::conflict_locked(const RecordLock& lock) const {
  for (const RecordLock& other : records_) {
    if (other.owner.same(lock.owner) || !other.range.overlaps(lock.range)) continue;
    if (other.kind == LockKind::kExclusive || lock.kind == LockKind::kExclusive) return &other;
  }
  return nullptr;
}

// Takes `range` out of what `owner` holds; true when there was something.
bool FileLocks::carve_locked(const LockOwner& owner, Range range) {
  bool changed = false;
  std::vector<RecordLock> kept;
  kept.reserve(records_.size() + 1);
  for (const RecordLock& record : records_) {
    if (!record.owner.same(owner) || !record.range.overlaps(range)) {
      kept.push_back(record);
      continue;
    }
    changed = true;
    RecordLock part = record;
    part.range = {record.range.start, range.start};
    if (!part.range.empty()) kept.push_back(part);
    part.range = {range.end, record.range.end};
    if (!part.range.empty()) kept.push_back(part);
  }
  records_.swap(kept);
  return changed;
}

Result<void> FileLocks::lock(const RecordLock& lock, LockOwner* blocker) {
  bool freed = false;
  {
    Lock guard(mutex_);
    if (const RecordLock* other = conflict_locked(lock)) {
      if (blocker != nullptr) *blocker = other->owner;
      return Errno::kAgain;
    }
    freed = carve_locked(lock.owner, lock.range) && lock.kind == LockKind::kShared;
    // Neighbours of the same owner and kind become one, as F_GETLK shows them.
    RecordLock merged = lock;
    const auto gone = std::remove_if(records_.begin(), records_.end(), [&](const RecordLock& r) {
      const bool touches = r.range.start <= merged.range.end && merged.range.start <= r.range.end;
      if (!r.owner.same(lock.owner) || r.kind != lock.kind || !touches) return false;
      merged.range = {std::min(merged.range.start, r.range.start),
                      std::max(merged.range.end, r.range.end)};
      return true;
    });
    records_.erase(gone, records_.end());
    const auto at = std::upper_bound(
        records_.begin(), records_.end(), merged,
        [](const RecordLock& a, const RecordLock& b) { return a.range.start < b.range.start; });
    records_.insert(at, merged);
  }
  if (freed) queue_.notify(kReadable);  // a downgrade lets readers in
  return {};
}

void FileLocks::unlock(const LockOwner& owner, Range range) {
  {
    Lock lock(mutex_);
    if (!carve_locked(owner, range)) return;
  }
  queue_.notify(kReadable);
}

std::optional<RecordLock> FileLocks::test(const RecordLock& lock) const {
  Lock guard(mutex_);
  if (const RecordLock* other = conflict_locked(lock)) return *other;
  return std::nullopt;
}

void FileLocks::release_owner(const void* owner) {
  unlock(LockOwner{.owner = owner}, Range{0, UINT64_MAX});
}

}  // namespace boxrun::vfs
