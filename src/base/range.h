#pragma once
#include <algorithm>
#include <cstdint>
#include <optional>

namespace boxrun {

inline constexpr uint64_t kPageSize = 4096;

constexpr uint64_t page_down(uint64_t v) { return v & ~(kPageSize - 1); }
constexpr bool page_aligned(uint64_t v) { return (v & (kPageSize - 1)) == 0; }
// Empty when the result would not fit 64 bits.
constexpr std::optional<uint64_t> page_up(uint64_t v) {
  if (v > UINT64_MAX - (kPageSize - 1)) return std::nullopt;
  return (v + kPageSize - 1) & ~(kPageSize - 1);
}

// A half-open range of 64-bit addresses or offsets, [start, end); empty when start >= end.
struct Range {
  uint64_t start = 0;
  uint64_t end = 0;

  constexpr uint64_t size() const { return end > start ? end - start : 0; }
  constexpr bool empty() const { return start >= end; }
  constexpr bool contains(uint64_t v) const { return v >= start && v < end; }
  constexpr bool contains(Range r) const { return r.start >= start && r.end <= end; }
  constexpr bool overlaps(Range r) const { return start < r.end && r.start < end; }
  constexpr Range intersect(Range r) const {
    return {std::max(start, r.start), std::min(end, r.end)};
  }
  constexpr bool operator==(const Range&) const = default;

  // [start, start + size), or nothing when the end does not fit 64 bits.
  static constexpr std::optional<Range> make(uint64_t start, uint64_t size) {
    if (size > UINT64_MAX - start) return std::nullopt;
    return Range{start, start + size};
  }
};

}  // namespace boxrun
