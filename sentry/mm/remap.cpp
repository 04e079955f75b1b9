// mremap(2): mm/mremap.c of Linux. Pages move with their mapping: nothing is copied.
#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

struct MemoryManager::Impl::Remap {
  Range from;  // empty: a second mapping of shared memory (old_size 0)
  uint64_t new_size;
  uint64_t new_addr;  // with fixed, or a hint
  bool may_move, fixed, dont_unmap;

  bool has_new_addr() const { return fixed || dont_unmap; }
  bool expands() const { return new_size > from.size(); }
};

namespace {

// mm/mremap.c: check_mremap_params, the part that needs no lock.
Result<void> check(uint64_t old_addr, uint64_t old_size, uint64_t new_size, uint64_t new_addr,
                   int flags) {
  if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0) return Errno::kInval;
  if (!page_aligned(old_addr) || new_size == 0 || new_size > kTaskSize) return Errno::kInval;
  if (old_addr > kTaskSize || old_size > kTaskSize - old_addr) return Errno::kFault;
  if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) == 0) return {};
  if (new_addr > kTaskSize - new_size || !page_aligned(new_addr)) return Errno::kInval;
  if ((flags & MREMAP_MAYMOVE) == 0) return Errno::kInval;
  if ((flags & MREMAP_DONTUNMAP) != 0 && old_size != new_size) return Errno::kInval;
  const Range from{old_addr, old_addr + old_size};
  if (from.overlaps({new_addr, new_addr + new_size})) return Errno::kInval;
  return {};
}

}  // namespace

// mm/mremap.c: check_prep_vma. What the source, if there is one, must be told of the new mapping
// before it exists is left in `news`.
Result<Vma> MemoryManager::Impl::check_remap(const Remap& remap, const Limits& limits,
                                             SourceNews& news) {
  const auto at = maps_.vmas.find(remap.from.start);
  if (at == maps_.vmas.end()) return Errno::kFault;
  Vma vma = at.value();
  vma.advance(remap.from.start - at.range().start);
  if (!remap.expands() && !remap.has_new_addr()) return vma;
  if (remap.from.empty() && !vma.shared) return Errno::kInval;
  // Only a pure move may span several mappings (since 6.17).
  const bool pure_move = remap.fixed && remap.from.size() == remap.new_size;
  if (remap.from.end > at.range().end && !pure_move) return Errno::kFault;
  const uint64_t more = remap.dont_unmap  ? remap.new_size
                        : remap.expands() ? remap.new_size - remap.from.size()
                                          : 0;
  if (vma.source && more > 0) {
    const auto file_end = Range::make(vma.offset, remap.new_size);
    if (!file_end || file_end->end > INT64_MAX) return Errno::kInval;
    const uint64_t known = remap.dont_unmap ? 0 : remap.from.size();
    news = {vma.source, {vma.offset + known, vma.offset + remap.new_size}, vma.shared_writable()};
  }
  if (vma.locked && maps_.locked_bytes + more > limits.memlock) return Errno::kAgain;
  TRY(maps_.may_expand(more, vma, limits, file_));
  if (maps_.vmas.size() + 5 >= kMaxMapCount && remap.has_new_addr()) return Errno::kNoMem;
  return vma;
}

Result<uint64_t> MemoryManager::Impl::remap_locked(Remap remap, const Vma& vma,
                                                   Farewell& farewell) {
  if (remap.new_size < remap.from.size()) {
    TRY(unmap_locked({remap.from.start + remap.new_size, remap.from.end}, farewell));
    remap.from.end = remap.from.start + remap.new_size;
  }
  if (!remap.has_new_addr()) {
    if (!remap.expands()) return remap.from.start;
    const auto at = maps_.vmas.find(remap.from.start);
    const Range more{remap.from.end, remap.from.start + remap.new_size};
    if (at.range().end == remap.from.end && user_.contains(more) && is_free(more)) {
      return grow_in_place(more, vma, remap.from.size());
    }
    if (!remap.may_move) return Errno::kNoMem;
  }
  MapRequest request;
  request.addr = remap.has_new_addr() ? remap.new_addr : 0;
  request.placement =
      remap.fixed ? MapRequest::Placement::kFixed : MapRequest::Placement::kAnywhere;
  request.source = vma.source;
  const uint64_t to = TRY(place(request, remap.new_size));
  TRY(move(remap, {to, to + remap.new_size}, vma, farewell));
  return to;
}

Result<uint64_t> MemoryManager::Impl::grow_in_place(Range more, Vma vma, uint64_t old_size) {
  TRY(leave_spare(more));
  vma.advance(old_size);
  if (vma.anonymous() && vma.writable() && more.size() <= kPromise) {
    Batch batch(file_);
    TRY(promise(batch, more, vma));
    TRY(run(batch));
  }
  maps_.add(more, std::move(vma));
  return more.start - old_size;
}

Result<void> MemoryManager::Impl::move(const Remap& remap, Range to, const Vma& vma,
                                       Farewell& farewell) {
  const Range from = remap.from;
  if (!maps_.may_split(from) || !maps_.may_split(to)) return Errno::kNoMem;
  TRY(leave_spare(to));
  Batch batch(file_);
  batch.unmap(to);
  for (auto& [piece, pages] : maps_.pages.slices(from)) {
    if (pages.in_memory_file()) file_.ref(pages.extent(piece.size()));
    const uint64_t start = to.start + (piece.start - from.start);
    batch.map({start, start + piece.size()}, std::move(pages));
  }
  batch.unmap(from);
  TRY(run(batch));
  maps_.remove(to, windows_, farewell);
  // More than one only in a pure move; holes between them stay holes.
  const auto moved = maps_.vmas.slices(from);
  if (remap.dont_unmap) {
    // What stays behind is empty and not locked (mm/mremap.c: dontunmap_complete).
    maps_.change(from, [](Range, Vma& old) { old.locked = false; });
  } else {
    maps_.forget(from);
  }
  if (remap.expands()) {
    maps_.add(to, vma);
    return {};
  }
  for (const auto& [piece, old] : moved) {
    const uint64_t start = to.start + (piece.start - from.start);
    maps_.add({start, start + piece.size()}, old);
  }
  return {};
}

Result<uint64_t> MemoryManager::remap(uint64_t old_addr, uint64_t old_size, uint64_t new_size,
                                      int flags, uint64_t new_addr, const Limits& limits) {
  const auto old_pages = page_up(old_size);
  const auto new_pages = page_up(new_size);
  if (!old_pages || !new_pages) return Errno::kInval;
  TRY(check(old_addr, *old_pages, *new_pages, new_addr, flags));
  const Impl::Remap remap{{old_addr, old_addr + *old_pages},
                          *new_pages,
                          new_addr,
                          (flags & MREMAP_MAYMOVE) != 0,
                          (flags & MREMAP_FIXED) != 0,
                          (flags & MREMAP_DONTUNMAP) != 0};
  Farewell farewell(*this);
  Impl::SourceNews news;
  {
    Lock lock(impl_->mutex_);
    TRY(impl_->check_remap(remap, limits, news));
  }
  // The source learns of the mapping before it exists, and without our lock.
  const Impl::SourceNews told = news;
  if (told.source) {
    TRY(told.source->add_mapping(*this, told.range, told.shared_writable));
  }
  bool locked = false;
  Result<uint64_t> moved = [&]() -> Result<uint64_t> {
    Lock lock(impl_->mutex_);
    impl_->maps_.last_limits = limits;
    news = {};
    const Vma vma = TRY(impl_->check_remap(remap, limits, news));
    // Another thread put something else there in between.
    if (!(news == told)) return Errno::kFault;
    locked = vma.locked;
    return impl_->remap_locked(remap, vma, farewell);
  }();
  if (!moved && told.source) farewell.add(told.source, told.range, told.shared_writable);
  if (moved && locked && remap.expands()) {
    (void)impl_->populate_locked({*moved + *old_pages, *moved + *new_pages});
  }
  return moved;
}

}  // namespace boxrun::mm
