// mlock(2) and its relatives, and msync(2). Nothing of a sandbox is ever swapped by us, so a lock
// is an account, and memory that is there from the start.
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

namespace {

// mm/mlock.c: the range of whole pages that [addr, addr + length) touches.
Result<Range> lock_range(uint64_t addr, uint64_t length) {
  const uint64_t start = page_down(addr);
  const auto size =
      page_up(length > UINT64_MAX - (addr - start) ? UINT64_MAX : length + (addr - start));
  const auto range = size ? Range::make(start, *size) : std::nullopt;
  if (!range) return Errno::kInval;
  return *range;
}

}  // namespace

Result<void> MemoryManager::Impl::lock_locked(Range range, const Limits& limits) {
  uint64_t more = 0;
  maps_.vmas.for_each(range, [&](Range piece, const Vma& vma) {
    if (!vma.locked) more += piece.size();
  });
  if (more > limits.memlock || maps_.locked_bytes > limits.memlock - more) return Errno::kNoMem;
  if (!maps_.may_split(range)) return Errno::kNoMem;
  maps_.change(range, [](Range, Vma& vma) { vma.locked = true; });
  return maps_.vmas.covers(range) ? Result<void>() : Errno::kNoMem;
}

Result<void> MemoryManager::lock(uint64_t addr, uint64_t length, const Limits& limits,
                                 LockMode mode) {
  if (limits.memlock == 0) return Errno::kPerm;
  const Range range = TRY(lock_range(addr, length));
  if (range.empty()) return {};
  {
    Lock lock(impl_->mutex_);
    TRY(impl_->lock_locked(range, limits));
  }
  if (mode == LockMode::kOnFault) return {};
  return impl_->populate_locked(range);
}

// Faults in what is locked: for writing where that is possible (mm/gup.c: populate_vma_page_range).
Result<void> MemoryManager::Impl::populate_locked(Range range) {
  std::vector<std::pair<Range, Vma>> vmas;
  {
    Lock lock(mutex_);
    vmas = maps_.vmas.slices(range);
  }
  for (const auto& [piece, vma] : vmas) {
    const bool write = vma.writable() && !vma.shared;
    // Like Linux's mlock, for which EFAULT is ENOMEM (mm/mlock.c: __mlock_posix_error_return).
    if (!populate_range(piece, write ? Access::kWrite : Access::kRead)) return Errno::kNoMem;
  }
  return {};
}

Result<void> MemoryManager::unlock(uint64_t addr, uint64_t length) {
  const Range range = TRY(lock_range(addr, length));
  if (range.empty()) return {};
  Lock lock(impl_->mutex_);
  if (!impl_->maps_.may_split(range)) return Errno::kNoMem;
  impl_->maps_.change(range, [](Range, Vma& vma) { vma.locked = false; });
  return impl_->maps_.vmas.covers(range) ? Result<void>() : Errno::kNoMem;
}

Result<void> MemoryManager::lock_all(int flags, const Limits& limits) {
  if (flags == 0 || flags == MCL_ONFAULT ||
      (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) != 0) {
    return Errno::kInval;
  }
  if (limits.memlock == 0) return Errno::kPerm;
  const bool current = (flags & MCL_CURRENT) != 0;
  {
    Lock lock(impl_->mutex_);
    if (current && impl_->maps_.total_bytes > limits.memlock) return Errno::kNoMem;
    impl_->maps_.lock_future = (flags & MCL_FUTURE) != 0;
    if (current) impl_->maps_.change(impl_->user_, [](Range, Vma& vma) { vma.locked = true; });
  }
  // Linux ignores what cannot be populated (mm/mlock.c: SYSCALL_DEFINE1(mlockall)).
  if (current && (flags & MCL_ONFAULT) == 0) (void)impl_->populate_locked(impl_->user_);
  return {};
}

void MemoryManager::unlock_all() {
  Lock lock(impl_->mutex_);
  impl_->maps_.lock_future = false;
  impl_->maps_.change(impl_->user_, [](Range, Vma& vma) { vma.locked = false; });
}

// mm/msync.c.
Result<void> MemoryManager::sync(uint64_t addr, uint64_t length, int flags) {
  if ((flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) != 0 || !page_aligned(addr)) {
    return Errno::kInval;
  }
  if ((flags & MS_ASYNC) != 0 && (flags & MS_SYNC) != 0) return Errno::kInval;
  const auto size = page_up(length);
  const auto range = size ? Range::make(addr, *size) : std::nullopt;
  if (!range) return Errno::kNoMem;
  if (range->empty()) return {};
  std::vector<std::pair<Range, Vma>> vmas;
  bool covered = false;
  {
    Lock lock(impl_->mutex_);
    vmas = impl_->maps_.vmas.slices(*range);
    covered = impl_->maps_.vmas.covers(*range);
  }
  for (const auto& [piece, vma] : vmas) {
    if ((flags & MS_INVALIDATE) != 0 && vma.locked) return Errno::kBusy;
    if ((flags & MS_SYNC) == 0 || !vma.source || !vma.shared) continue;
    TRY(vma.source->sync({vma.offset, vma.offset + piece.size()}));
  }
  return covered ? Result<void>() : Errno::kNoMem;
}

}  // namespace boxrun::mm
