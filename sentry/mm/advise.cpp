// madvise(2): mm/madvise.c. Advice that changes nothing that a guest could see is accepted.
#include <sys/mman.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "sentry/mm/memory_manager_impl.h"
#include "src/base/bytes.h"

namespace boxrun::mm {

namespace {

// linux/mman.h of kernels newer than the oldest we build on.
constexpr int kDontNeedLocked = 24;
constexpr int kPopulateRead = 22;
constexpr int kPopulateWrite = 23;
constexpr int kSoftOffline = 101;

// Runs up to this size are cleared in place by MADV_DONTNEED: that takes a few microseconds where
// taking them away and giving new ones takes tens.
constexpr uint64_t kClearInPlace = 128 << 10;
// Runs of this size and more are given back by MADV_FREE, smaller ones are not worth the trip.
constexpr uint64_t kWorthFreeing = kHugePageSize;

bool is_known(int advice) {
  switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case kPopulateRead:
    case kPopulateWrite:
    case kDontNeedLocked:
      return true;
    default:
      return false;
  }
}

// The errors that one vma gives.
Result<void> check(const Vma& vma, int advice) {
  switch (advice) {
    case MADV_DONTNEED:
    case MADV_COLD:
    case MADV_PAGEOUT:
      return vma.locked ? Result<void>(Errno::kInval) : Result<void>();
    case MADV_FREE:
      return vma.locked || !vma.anonymous() ? Result<void>(Errno::kInval) : Result<void>();
    case MADV_REMOVE:
      if (vma.locked || !vma.source) return Errno::kInval;
      return vma.shared_writable() ? Result<void>() : Errno::kAcces;
    case MADV_WIPEONFORK:
      return vma.source || vma.shared ? Result<void>(Errno::kInval) : Result<void>();
    default:
      return {};
  }
}

void set_flag(Vma& vma, int advice) {
  switch (advice) {
    case MADV_DONTFORK:
    case MADV_DOFORK:
      vma.dont_fork = advice == MADV_DONTFORK;
      break;
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
      vma.wipe_on_fork = advice == MADV_WIPEONFORK;
      break;
    case MADV_DONTDUMP:
    case MADV_DODUMP:
      vma.dont_dump = advice == MADV_DONTDUMP;
      break;
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
      vma.lazy = advice == MADV_NOHUGEPAGE;
      break;
    default:
      break;
  }
}

}  // namespace

// Forgets the content of `range`, within one vma: what comes back are zeros, or the file.
void MemoryManager::Impl::dont_need(Batch& batch, Range range, const Vma& vma) {
  for (const auto& [piece, pages] : maps_.pages.slices(range)) {
    if (pages.kind == Pages::Kind::kHost) continue;
    const Range extent = pages.extent(piece.size());
    if (vma.anonymous() && piece.size() <= kClearInPlace && !pages.cow) {
      const auto sharing = file_.sharing(extent);
      if (sharing.exclusive && sharing.size == extent.size() &&
          safe_zero(file_.data(extent.start), extent.size()) == extent.size()) {
        continue;
      }
    }
    batch.unmap(piece);
  }
}

Result<void> MemoryManager::Impl::advise_locked(Range range, int advice,
                                                std::vector<SourceNews>& holes) {
  if (!maps_.may_split(range)) return Errno::kNoMem;
  Batch batch(file_);
  Result<void> checked;
  for (const auto& [piece, vma] : maps_.vmas.slices(range)) {
    checked = check(vma, advice);
    if (!checked) break;
    switch (advice) {
      case MADV_DONTNEED:
      case kDontNeedLocked:
        dont_need(batch, piece, vma);
        break;
      case MADV_FREE:
        for (const auto& [run, pages] : maps_.pages.slices(piece)) {
          if (run.size() >= kWorthFreeing) batch.unmap(run);
        }
        break;
      case MADV_REMOVE:
        holes.push_back({vma.source, {vma.offset, vma.offset + piece.size()}, true});
        break;
      default:
        maps_.change(piece, [&](Range, Vma& v) { set_flag(v, advice); });
        break;
    }
  }
  if (!batch.empty()) TRY(run(batch));
  TRY(checked);
  // Linux does what it can and tells of holes at the end.
  return maps_.vmas.covers(range) ? Result<void>() : Errno::kNoMem;
}

Result<void> MemoryManager::advise(uint64_t addr, uint64_t length, int advice) {
  if (!is_known(advice)) {
    // Poisoning pages is for CAP_SYS_ADMIN of the host.
    return advice == MADV_HWPOISON || advice == kSoftOffline ? Errno::kPerm : Errno::kInval;
  }
  const auto size = page_up(length);
  if (!page_aligned(addr) || !size) return Errno::kInval;
  const auto range = Range::make(addr, *size);
  if (!range) return Errno::kInval;
  if (range->empty()) return {};
  if (advice == kPopulateRead || advice == kPopulateWrite) {
    return impl_->populate_advised(*range,
                                   advice == kPopulateWrite ? Access::kWrite : Access::kRead);
  }
  std::vector<Impl::SourceNews> holes;
  const auto done = [&] {
    Lock lock(impl_->mutex_);
    return impl_->advise_locked(*range, advice, holes);
  }();
  for (const Impl::SourceNews& hole : holes) TRY(hole.source->punch_hole(hole.range));
  return done;
}

// mm/madvise.c: madvise_populate. EINVAL where the mapping does not allow the access.
Result<void> MemoryManager::Impl::populate_advised(Range range, Access access) {
  std::vector<std::pair<Range, Vma>> vmas;
  bool covered = false;
  {
    Lock lock(mutex_);
    vmas = maps_.vmas.slices(range);
    covered = maps_.vmas.covers(range);
  }
  uint64_t next = range.start;
  for (const auto& [piece, vma] : vmas) {
    if (piece.start > next) return Errno::kNoMem;
    next = piece.end;
    const Prot needed = access == Access::kWrite ? Prot::kWrite : Prot::kRead;
    if (!has(installed_prot(vma.prot, false), needed)) return Errno::kInval;
    TRY(populate_range(piece, access));
  }
  return covered ? Result<void>() : Errno::kNoMem;
}

}  // namespace boxrun::mm
