// Where a mapping goes when the guest leaves the choice to the kernel: the highest gap below
// mmap_base that is large enough, as on Linux (mm/mmap.c, arch/x86/kernel/sys_x86_64.c).
#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

namespace {

// MAP_32BIT searches here, upwards (arch/x86/kernel/sys_x86_64.c: find_start_end).
constexpr Range kBelow2G{0x40000000, 0x80000000};

}  // namespace

bool MemoryManager::Impl::is_free(Range range) const {
  const auto next = maps_.vmas.first_after(range.start);
  return next == maps_.vmas.end() || range.end <= Maps::guarded_start(next.range(), next.value());
}

// The end of the highest gap of at least `length` bytes; what was searched is remembered.
std::optional<uint64_t> MemoryManager::Impl::find_gap_end(uint64_t length, Range within) {
  const auto& vmas = maps_.vmas;
  SearchedGaps::Bound& searched = maps_.searched.of(length);
  if (length <= searched.largest) searched = {};
  uint64_t gap_end = std::min(within.end, searched.low);
  auto at = vmas.first_after(gap_end);
  if (at != vmas.end()) gap_end = std::min(gap_end, Maps::guarded_start(at.range(), at.value()));
  for (;;) {
    const bool first = at == vmas.begin();
    if (!first) --at;
    const uint64_t gap_start = first ? within.start : std::max(within.start, at.range().end);
    const uint64_t size = gap_end > gap_start ? gap_end - gap_start : 0;
    searched.low = gap_end;
    if (size >= length) return gap_end;
    searched.largest = std::max(searched.largest, size);
    if (first || at.range().start <= within.start) return std::nullopt;
    gap_end = std::min(gap_end, Maps::guarded_start(at.range(), at.value()));
  }
}

std::optional<uint64_t> MemoryManager::Impl::gap_top_down(uint64_t length) {
  const auto end = find_gap_end(length, {user_.start, mmap_base_});
  return end ? std::optional(*end - length) : std::nullopt;
}

std::optional<uint64_t> MemoryManager::Impl::gap_bottom_up(uint64_t length, Range within) const {
  const auto& vmas = maps_.vmas;
  uint64_t gap_start = within.start;
  for (auto at = vmas.first_after(gap_start);; ++at) {
    const bool last = at == vmas.end() || at.range().start >= within.end;
    const uint64_t gap_end =
        at == vmas.end() ? within.end
                         : std::min(within.end, Maps::guarded_start(at.range(), at.value()));
    if (gap_end > gap_start && gap_end - gap_start >= length) return gap_start;
    if (last) return std::nullopt;
    gap_start = std::max(gap_start, at.range().end);
  }
}

Result<uint64_t> MemoryManager::Impl::place(const MapRequest& request, uint64_t length) {
  using Placement = MapRequest::Placement;
  if (length > kTaskSize) return Errno::kNoMem;
  if (request.placement == Placement::kFixed || request.placement == Placement::kFixedNoReplace) {
    if (request.addr > kTaskSize - length) return Errno::kNoMem;
    if (!page_aligned(request.addr)) return Errno::kInval;
    // Linux: EPERM below vm.mmap_min_addr (security/commoncap.c: cap_mmap_addr).
    if (request.addr < user_.start) return Errno::kPerm;
    const Range range{request.addr, request.addr + length};
    if (range.end > user_.end) return Errno::kNoMem;
    if (request.placement == Placement::kFixedNoReplace && maps_.vmas.overlaps(range)) {
      return Errno::kExist;
    }
    return request.addr;
  }
  const Range within = request.placement == Placement::kBelow2G ? kBelow2G.intersect(user_) : user_;
  if (page_down(request.addr) != 0) {
    const uint64_t hint = std::max(page_down(request.addr), user_.start);
    const auto range = Range::make(hint, length);
    const bool allowed = request.placement != Placement::kBelow2G || hint + length <= within.end;
    if (range && user_.contains(*range) && allowed && is_free(*range)) return hint;
  }
  if (request.placement == Placement::kBelow2G) {
    const auto found = gap_bottom_up(length, within);
    return found ? Result<uint64_t>(*found) : Errno::kNoMem;
  }
  // Anonymous memory of whole huge pages is aligned to them (mm/huge_memory.c:
  // thp_get_unmapped_area), so that its pages can be congruent with the memory file's.
  if (!request.source && length >= kHugePageSize && length % kHugePageSize == 0) {
    const uint64_t padded = length + kHugePageSize - kPageSize;
    if (const auto found = gap_top_down(padded)) {
      return (*found + padded - length) & ~(kHugePageSize - 1);
    }
  }
  if (const auto found = gap_top_down(length)) return *found;
  // The area is full: anywhere will do, lowest first.
  if (const auto found = gap_bottom_up(length, user_)) return *found;
  return Errno::kNoMem;
}

}  // namespace boxrun::mm
