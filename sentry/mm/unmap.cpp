// munmap(2) and mprotect(2). Withdrawals go to the platform first; the maps follow when it has
// confirmed them.
#include <algorithm>

#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

Result<void> MemoryManager::Impl::unmap_locked(Range range, Farewell& farewell) {
  if (!maps_.may_split(range)) return Errno::kNoMem;
  Batch batch(file_);
  batch.unmap(range);
  TRY(run(batch));
  maps_.remove(range, windows_, farewell);
  return {};
}

Result<void> MemoryManager::unmap(uint64_t addr, uint64_t length) {
  // mm/vma.c: do_vmi_munmap.
  const auto size = page_up(length);
  if (!page_aligned(addr) || !size || *size == 0) return Errno::kInval;
  if (addr > kTaskSize || *size > kTaskSize - addr) return Errno::kInval;
  Farewell farewell(*this);
  Lock lock(impl_->mutex_);
  return impl_->unmap_locked({addr, addr + *size}, farewell);
}

// Gives the pages in `range`, which is within one vma, the protection they have under `vma`.
Result<void> MemoryManager::Impl::protect_pages(Range range, const Vma& vma) {
  Batch batch(file_);
  for (const auto& [piece, pages] : maps_.pages.slices(range)) {
    batch.protect(piece, installed_prot(vma.prot, pages.cow));
  }
  // A heap that an allocator grows by mprotect, or a thread's stack: its first pages are promised.
  if (vma.anonymous() && vma.writable()) {
    for (const Range& hole : maps_.pages.gaps(range)) {
      if (hole.size() <= kPromiseByProtect) TRY(promise(batch, hole, vma));
    }
  }
  return run(batch);
}

// The host does not let its file have this protection: copies take its place.
Result<void> MemoryManager::Impl::protect_by_copying(Range range, const Vma& vma) {
  Batch batch(file_);
  for (const auto& [piece, pages] : maps_.pages.slices(range)) {
    if (pages.kind != Pages::Kind::kHost) {
      batch.protect(piece, installed_prot(vma.prot, pages.cow));
      continue;
    }
    const auto copied = copy_host(batch, piece, pages.offset, vma);
    if (!copied && copied.error() != Errno::kNxIo) return copied.error();
    batch.unmap({piece.start + (copied ? *copied : 0), piece.end});
  }
  return run(batch);
}

// Linux goes vma by vma and stops at the first one that cannot be changed, leaving those before it
// changed (mm/mprotect.c: do_mprotect_pkey).
Result<void> MemoryManager::Impl::protect_locked(Range range, Prot prot, const Limits& limits) {
  uint64_t next = range.start;
  for (const auto& [piece, old] : maps_.vmas.slices(range)) {
    if (piece.start > next) break;
    next = piece.end;
    if (old.prot == prot) continue;
    if ((prot & old.max_prot) != prot) return Errno::kAcces;
    Vma vma = old;
    vma.prot = prot;
    if (vma.writable() && !old.writable() && !vma.shared) {
      TRY(maps_.may_become_data(piece.size(), vma, limits, file_));
    }
    if (!maps_.may_split(piece)) return Errno::kNoMem;
    if (vma.writable() && !old.writable()) TRY(restore_text(piece));
    const auto done = protect_pages(piece, vma);
    if (!done) {
      if (vma.host_fd < 0 || vma.shared_writable() || !host_refuses_mapping(done.error())) {
        return done.error();
      }
      TRY(protect_by_copying(piece, vma));
    }
    maps_.change(piece, [&](Range, Vma& v) {
      v.lazy = v.lazy || (v.prot == Prot::kNone);
      v.prot = prot;
    });
  }
  return next < range.end ? Result<void>(Errno::kNoMem) : Result<void>();
}

Result<void> MemoryManager::protect(uint64_t addr, uint64_t length, Prot prot, bool grows_down,
                                    const Limits& limits) {
  if (!page_aligned(addr)) return Errno::kInval;
  if (length == 0) return {};
  const auto size = page_up(length);
  const auto range = size ? Range::make(addr, *size) : std::nullopt;
  if (!range) return Errno::kNoMem;
  Lock lock(impl_->mutex_);
  const auto first = impl_->maps_.vmas.first_after(addr);
  if (first == impl_->maps_.vmas.end()) return Errno::kNoMem;
  Range whole = *range;
  if (grows_down) {
    if (first.range().start >= range->end || !first.value().grows_down) return Errno::kInval;
    whole.start = first.range().start;
  }
  return impl_->protect_locked(whole, prot, limits);
}

}  // namespace boxrun::mm
