#include "sentry/mm/maps.h"

#include <algorithm>

namespace boxrun::mm {

// mm/mmap.c: is_data_mapping.
static bool is_data(const Vma& vma) { return vma.writable() && !vma.shared && !vma.grows_down; }

void Maps::count(Range range, const Vma& vma, Sign sign) {
  const auto add_to = [&](uint64_t& counter) {
    counter = sign == Sign::kPlus ? counter + range.size() : counter - range.size();
  };
  add_to(total_bytes);
  if (is_data(vma)) add_to(data_bytes);
  if (vma.locked) add_to(locked_bytes);
  peak_bytes = std::max(peak_bytes, total_bytes);
}

void Maps::add(Range range, Vma vma) {
  count(range, vma, Sign::kPlus);
  vmas.insert(range, std::move(vma));
}

void Maps::remove(Range range, WindowCache& windows, Farewell& farewell) {
  vmas.erase(range, [&](Range piece, Vma& vma) {
    count(piece, vma, Sign::kMinus);
    if (!vma.source) return;
    if (vma.host_fd >= 0) windows.take(vma.source.get(), farewell.windows());
    const bool shared_writable = vma.shared_writable();
    farewell.add(std::move(vma.opened));
    farewell.add(std::move(vma.source), {vma.offset, vma.offset + piece.size()}, shared_writable);
  });
  gap_grows(range);
}

void Maps::forget(Range range) {
  vmas.erase(range, [&](Range piece, Vma& vma) { count(piece, vma, Sign::kMinus); });
  gap_grows(range);
}

uint64_t Maps::guarded_start(Range range, const Vma& vma) {
  if (!vma.grows_down) return range.start;
  return range.start > kStackGuardGap ? range.start - kStackGuardGap : 0;
}

// The gap around `range` has not been looked at as it is now.
void Maps::gap_grows(Range range) {
  const auto above = vmas.first_after(range.end);
  const uint64_t end =
      above == vmas.end() ? UINT64_MAX : guarded_start(above.range(), above.value());
  searched.grew(end);
}

uint64_t Maps::bytes_in(Range range) const {
  uint64_t bytes = 0;
  vmas.for_each(range, [&](Range piece, const Vma&) { bytes += piece.size(); });
  return bytes;
}

// mm/mmap.c: may_expand_vm; mm/util.c: __vm_enough_memory in its default mode refuses only what
// all of the memory could not hold.
Result<void> Maps::may_expand(uint64_t bytes, const Vma& vma, const Limits& limits,
                              MemoryFile& memory) const {
  if (bytes > limits.address_space || total_bytes > limits.address_space - bytes) {
    return Errno::kNoMem;
  }
  return may_become_data(bytes, vma, limits, memory);
}

Result<void> Maps::may_become_data(uint64_t bytes, const Vma& vma, const Limits& limits,
                                   MemoryFile& memory) const {
  if (is_data(vma) && (bytes > limits.data || data_bytes > limits.data - bytes)) {
    return Errno::kNoMem;
  }
  const bool counts = vma.writable() && !vma.shared && !vma.noreserve;
  if (counts && bytes > memory.limit()) return memory.refuse();
  return {};
}

bool Maps::may_split(Range range) const {
  const auto cuts = [&](uint64_t address) {
    const auto at = vmas.find(address);
    return at != vmas.end() && at.range().start < address;
  };
  return vmas.size() + (cuts(range.start) ? 1 : 0) + (cuts(range.end) ? 1 : 0) <= kMaxMapCount;
}

}  // namespace boxrun::mm
