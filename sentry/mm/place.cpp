// Where a mapping goes when the guest leaves the choice to the kernel: the highest gap below
// mmap_base that is large enough, as on Linux (mm/mmap.c, arch/x86/kernel/sys_x86_64.c).
#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

namespace {

// MAP_32BIT searches here, upwards (arch/x86/kernel/sys_x86_64.c: find_start_end).
constexpr Range kBelow2G{0x40000000, 0x80000000};

// Where a mapping below `vma` must end: a stack keeps a gap to grow into (mm.h: vm_start_gap).
uint64_t guarded_start(Range range, const Vma& vma) {
  if (!vma.grows_down) return range.start;
  return range.start > kStackGuardGap ? range.start - kStackGuardGap : 0;
}

}  // namespace

bool MemoryManager::Impl::is_free(Range range) const {
  const auto next = maps_.vmas.first_after(range.start);
  return next == maps_.vmas.end() || range.end <= guarded_start(next.range(), next.value());
}

std::optional<uint64_t> MemoryManager::Impl::gap_top_down(uint64_t length, Range within) const {
  const auto& vmas = maps_.vmas;
  uint64_t gap_end = within.end;
  auto at = vmas.first_after(within.end);
  if (at != vmas.end()) gap_end = std::min(gap_end, guarded_start(at.range(), at.value()));
  for (;;) {
    const bool first = at == vmas.begin();
    if (!first) --at;
    const uint64_t gap_start = first ? within.start : std::max(within.start, at.range().end);
    if (gap_end > gap_start && gap_end - gap_start >= length) return gap_end - length;
    if (first || at.range().start <= within.start) return std::nullopt;
    gap_end = std::min(gap_end, guarded_start(at.range(), at.value()));
  }
}

std::optional<uint64_t> MemoryManager::Impl::gap_bottom_up(uint64_t length, Range within) const {
  const auto& vmas = maps_.vmas;
  uint64_t gap_start = within.start;
  for (auto at = vmas.first_after(gap_start);; ++at) {
    const bool last = at == vmas.end() || at.range().start >= within.end;
    const uint64_t gap_end =
        at == vmas.end() ? within.end : std::min(within.end, guarded_start(at.range(), at.value()));
    if (gap_end > gap_start && gap_end - gap_start >= length) return gap_start;
    if (last) return std::nullopt;
    gap_start = std::max(gap_start, at.range().end);
  }
}

Result<uint64_t> MemoryManager::Impl::place(const MapRequest& request, uint64_t length) const {
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
  const Range below_base{user_.start, mmap_base_};
  // Anonymous memory of whole huge pages is aligned to them (mm/huge_memory.c:
  // thp_get_unmapped_area), so that its pages can be congruent with the memory file's.
  if (!request.source && length >= kHugePageSize && length % kHugePageSize == 0) {
    const uint64_t padded = length + kHugePageSize - kPageSize;
    if (const auto found = gap_top_down(padded, below_base)) {
      return (*found + padded - length) & ~(kHugePageSize - 1);
    }
  }
  if (const auto found = gap_top_down(length, below_base)) return *found;
  // The area is full: anywhere will do, lowest first.
  if (const auto found = gap_bottom_up(length, user_)) return *found;
  return Errno::kNoMem;
}

}  // namespace boxrun::mm
