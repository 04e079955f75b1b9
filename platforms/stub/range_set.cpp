#include "platforms/stub/range_set.h"

#include <algorithm>
#include <iterator>

namespace boxrun::platform {

void RangeSet::add(Range range) {
  if (range.empty()) return;
  auto it = ends_.upper_bound(range.start);
  if (it != ends_.begin() && std::prev(it)->second >= range.start) --it;
  while (it != ends_.end() && it->first <= range.end) {
    range.start = std::min(range.start, it->first);
    range.end = std::max(range.end, it->second);
    it = ends_.erase(it);
  }
  ends_.emplace_hint(it, range.start, range.end);
}

void RangeSet::remove(Range range) {
  if (range.empty()) return;
  auto it = ends_.upper_bound(range.start);
  if (it != ends_.begin() && std::prev(it)->second > range.start) --it;
  while (it != ends_.end() && it->first < range.end) {
    const Range old{it->first, it->second};
    it = ends_.erase(it);
    if (old.start < range.start) ends_.emplace(old.start, range.start);
    if (old.end > range.end) ends_.emplace(range.end, old.end);
  }
}

std::vector<Range> RangeSet::parts(Range range) const {
  std::vector<Range> result;
  auto it = ends_.upper_bound(range.start);
  if (it != ends_.begin() && std::prev(it)->second > range.start) --it;
  for (; it != ends_.end() && it->first < range.end; ++it) {
    result.push_back(range.intersect({it->first, it->second}));
  }
  return result;
}

}  // namespace boxrun::platform
