// What stands behind a range of addresses once it is touched, or promised in advance. Steps are
// large because each costs a trip to the platform (10-25 us) while a page costs 0.1-0.3 us.
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "sentry/mm/memory_manager_impl.h"
#include "src/base/bytes.h"

namespace boxrun::mm {

namespace {

// The largest step that is taken on its own initiative.
constexpr uint64_t kLargestStep = 16 << 20;

}  // namespace

Range MemoryManager::Impl::hole_around(uint64_t addr, Range vma_range) const {
  const auto next = maps_.pages.first_after(addr);
  Range hole = vma_range;
  if (next != maps_.pages.end()) hole.end = std::min(hole.end, next.range().start);
  if (next != maps_.pages.begin()) {
    auto before = next;
    --before;
    hole.start = std::max(hole.start, before.range().end);
  }
  return hole;
}

// Zeroed memory for `guest`, next to that of its neighbours where possible: the host then keeps
// one mapping, and so do we.
Result<Range> MemoryManager::Impl::allocate_for(Range guest, Growth growth) {
  MemoryFile::Hint hint;
  hint.huge = guest.start % kHugePageSize == 0 && guest.size() % kHugePageSize == 0;
  hint.upwards = growth == Growth::kUp;
  const auto& pages = maps_.pages;
  const auto next = pages.first_after(guest.end);
  if (next != pages.begin()) {
    auto before = next;
    --before;
    if (before.range().end == guest.start && before.value().kind == Pages::Kind::kPrivate) {
      hint.near = before.value().offset + before.range().size();
    }
  }
  if (!hint.near && next != pages.end() && next.range().start == guest.end &&
      next.value().kind == Pages::Kind::kPrivate && next.value().offset >= guest.size()) {
    hint.near = next.value().offset - guest.size();
  }
  return file_.allocate(guest.size(), hint);
}

// Memory at map time, so that the first touch does not come to us. Without enough contiguous
// space the fault handler will find smaller pieces.
Result<void> MemoryManager::Impl::promise(Batch& batch, Range hole, const Vma& vma) {
  // Mappings are placed downwards; the heap grows upwards.
  const bool heap = hole.start == page_up(maps_.layout.brk);
  auto extent = allocate_for(hole, heap ? Growth::kUp : Growth::kDown);
  if (!extent) {
    if (hole.size() <= file_.available()) return {};
    return file_.refuse();
  }
  batch.map(hole,
            Pages{Pages::Kind::kPrivate, installed_prot(vma.prot, false), false, extent->start});
  return {};
}

// How much to give for a touch at `addr`: as much again as is there next to it, so that walking
// through memory takes few faults, and a touch here and there takes little memory.
uint64_t MemoryManager::Impl::step_at(uint64_t addr, Range hole, const Vma& vma) const {
  const auto& pages = maps_.pages;
  uint64_t beside = 0;
  const auto next = pages.first_after(addr);
  if (next != pages.end() && next.range().start == hole.end) {
    if (hole.end - addr <= next.range().size()) beside = next.range().size();
  }
  if (next != pages.begin()) {
    auto before = next;
    --before;
    if (before.range().end == hole.start && addr - hole.start < before.range().size()) {
      beside = std::max(beside, before.range().size());
    }
  }
  const bool small = vma.lazy || vma.grows_down || hole.size() < 2 * kHugePageSize;
  const uint64_t least = small ? kStep : kHugePageSize;
  const uint64_t most = small ? kHugePageSize : kLargestStep;
  return std::clamp(std::bit_floor(beside), least, most);
}

Result<void> MemoryManager::Impl::populate_anonymous(Range hole, uint64_t addr, const Vma& vma) {
  for (uint64_t step = step_at(addr, hole, vma);; step /= 2) {
    const Range guest = block_around(addr, step).intersect(hole);
    auto extent = allocate_for(guest, Growth::kUp);
    if (!extent) {
      if (step > kPageSize) continue;
      return extent.error();
    }
    Batch batch(file_);
    batch.map(guest,
              Pages{Pages::Kind::kPrivate, installed_prot(vma.prot, false), false, extent->start});
    return run(batch);
  }
}

Result<uint64_t> MemoryManager::Impl::copy_host(Batch& batch, Range guest, uint64_t offset,
                                                const Vma& vma) {
  const Range extent = TRY(allocate_for(guest, Growth::kUp));
  uint64_t done = 0;
  ssize_t n = 1;
  while (n > 0 && done < guest.size()) {
    n = pread(vma.host_fd, file_.data(extent.start + done), guest.size() - done,
              static_cast<off_t>(offset + done));
    if (n > 0) done += static_cast<uint64_t>(n);
  }
  const Errno error = n < 0 ? last_error() : Errno::kNxIo;
  const uint64_t size = *page_up(done);
  if (size < extent.size()) file_.unref({extent.start + size, extent.end});
  if (size == 0) return error == Errno::kFault ? Errno::kNoMem : Errno::kNxIo;
  batch.map({guest.start, guest.start + size},
            Pages{Pages::Kind::kPrivate, installed_prot(vma.prot, false), false, extent.start});
  return size;
}

Result<void> MemoryManager::Impl::populate_host(Range hole, uint64_t addr, Range vma_range,
                                                const Vma& vma, Access access) {
  const bool cow = !vma.shared;
  const Range window = block_around(addr, kStep).intersect(hole);
  const auto file_offset = [&](uint64_t at) { return vma.offset + (at - vma_range.start); };
  {
    Batch batch(file_);
    batch.map(hole, Pages{Pages::Kind::kHost, installed_prot(vma.prot, cow), cow,
                          file_offset(hole.start), vma.host_fd, vma.source});
    if (cow && access == Access::kWrite) {
      TRY(copy_host(batch, window, file_offset(window.start), vma));
    }
    const auto done = run(batch);
    if (done || !host_refuses_mapping(done.error()) || vma.shared_writable()) return done;
  }
  // The host does not let this file be mapped like that (PROT_EXEC on a noexec mount): the guest
  // gets copies. What others write to the file later is not seen then.
  Batch batch(file_);
  TRY(copy_host(batch, window, file_offset(window.start), vma));
  return run(batch);
}

Result<void> MemoryManager::Impl::populate_hole(uint64_t addr, Range vma_range, const Vma& vma,
                                                const FaultRound& round, PageInNeed& need) {
  const Range hole = hole_around(addr, vma_range);
  if (vma.anonymous()) return populate_anonymous(hole, addr, vma);
  if (vma.host_fd >= 0) return populate_host(hole, addr, vma_range, vma, round.access);
  // The first round reads around the address; a source that gave less than reaches it is asked
  // again from the address on.
  Range guest = block_around(addr, kSourceStep).intersect(hole);
  if (round.from_address) guest.start = page_down(addr);
  need = PageInNeed{vma.source, guest, vma.offset + (guest.start - vma_range.start),
                    vma.shared && vma.writable(), invalidations_};
  return {};
}

}  // namespace boxrun::mm
