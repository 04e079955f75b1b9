#include "sentry/mm/extent_allocator.h"

#include <iterator>

#include "src/base/check.h"

namespace boxrun::mm {

namespace {

constexpr uint64_t chunk_down(uint64_t v) { return v & ~(kHugePageSize - 1); }
constexpr uint64_t chunk_up(uint64_t v) { return chunk_down(v + kHugePageSize - 1); }

}  // namespace

Range ExtentAllocator::Pool::add(Range range) {
  auto next = by_start_.lower_bound(range.start);
  CHECK(next == by_start_.end() || next->first >= range.end);
  if (next != by_start_.begin()) {
    auto before = std::prev(next);
    CHECK(before->second <= range.start);
    if (before->second == range.start) {
      range.start = before->first;
      by_size_.erase({before->second - before->first, before->first});
      by_start_.erase(before);
    }
  }
  if (next != by_start_.end() && next->first == range.end) {
    range.end = next->second;
    by_size_.erase({next->second - next->first, next->first});
    by_start_.erase(next);
  }
  by_start_.emplace(range.start, range.end);
  by_size_.emplace(range.size(), range.start);
  return range;
}

void ExtentAllocator::Pool::remove(Range range) {
  auto at = by_start_.upper_bound(range.start);
  CHECK(at != by_start_.begin());
  --at;
  const Range whole{at->first, at->second};
  CHECK(whole.contains(range));
  by_size_.erase({whole.size(), whole.start});
  by_start_.erase(at);
  for (const Range rest : {Range{whole.start, range.start}, Range{range.end, whole.end}}) {
    if (rest.empty()) continue;
    by_start_.emplace(rest.start, rest.end);
    by_size_.emplace(rest.size(), rest.start);
  }
}

bool ExtentAllocator::Pool::contains(Range range) const {
  auto at = by_start_.upper_bound(range.start);
  return at != by_start_.begin() && std::prev(at)->second >= range.end;
}

std::optional<Range> ExtentAllocator::Pool::best_fit(uint64_t size) const {
  const auto at = by_size_.lower_bound({size, 0});
  if (at == by_size_.end()) return std::nullopt;
  return Range{at->second, at->second + at->first};
}

ExtentAllocator::ExtentAllocator(uint64_t size) {
  const uint64_t whole = chunk_down(size);
  if (whole > 0) chunks_.add({0, whole});
  if (whole < size) pieces_.add({whole, size});
}

std::optional<Range> ExtentAllocator::take(uint64_t size, const Hint& hint) {
  CHECK(size > 0 && page_aligned(size));
  if (size >= kHugePageSize) {
    if (auto extent = take_chunks(size, hint)) return extent;
  }
  return take_piece(size, hint);
}

std::optional<Range> ExtentAllocator::take_chunks(uint64_t size, const Hint& hint) {
  const uint64_t rounded = chunk_up(size);
  std::optional<Range> found;
  if (hint.near && *hint.near == chunk_down(*hint.near)) {
    found = Range::make(*hint.near, rounded);
    if (found && !chunks_.contains(*found)) found.reset();
  }
  if (!found) found = chunks_.best_fit(rounded);
  if (!found) return std::nullopt;
  found->end = found->start + rounded;
  chunks_.remove(*found);
  const Range extent{found->start, found->start + size};
  if (extent.end < found->end) pieces_.add({extent.end, found->end});
  return extent;
}

std::optional<Range> ExtentAllocator::take_piece(uint64_t size, const Hint& hint) {
  if (hint.near && page_aligned(*hint.near)) {
    if (const auto wanted = Range::make(*hint.near, size); wanted && pieces_.contains(*wanted)) {
      pieces_.remove(*wanted);
      return wanted;
    }
  }
  auto piece = pieces_.best_fit(size);
  if (!piece) {
    const auto chunk = chunks_.best_fit(kHugePageSize);
    if (!chunk) return std::nullopt;
    const Range first{chunk->start, chunk->start + kHugePageSize};
    chunks_.remove(first);
    piece = pieces_.add(first);
    if (piece->size() < size) return std::nullopt;
  }
  // From the side that leaves the neighbouring space to the direction of growth.
  const Range extent = hint.upwards ? Range{piece->start, piece->start + size}
                                    : Range{piece->end - size, piece->end};
  pieces_.remove(extent);
  return extent;
}

void ExtentAllocator::give(Range extent, std::vector<Range>& whole) {
  const Range merged = pieces_.add(extent);
  const Range chunks{chunk_up(merged.start), chunk_down(merged.end)};
  if (chunks.empty()) return;
  pieces_.remove(chunks);
  chunks_.add(chunks);
  whole.push_back(chunks);
}

void ExtentAllocator::withhold(Range chunks) { chunks_.remove(chunks); }

}  // namespace boxrun::mm
