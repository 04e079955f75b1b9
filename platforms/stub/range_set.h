#pragma once
#include <cstdint>
#include <map>
#include <vector>

#include "src/base/range.h"

namespace boxrun::platform {

// A set of addresses as disjoint ranges, adjacent ones joined. Not thread-safe.
class RangeSet {
 public:
  void add(Range range);
  void remove(Range range);
  // The parts of `range` that are in the set, in order.
  std::vector<Range> parts(Range range) const;
  bool empty() const { return ends_.empty(); }

 private:
  std::map<uint64_t, uint64_t> ends_;  // start -> end
};

}  // namespace boxrun::platform
