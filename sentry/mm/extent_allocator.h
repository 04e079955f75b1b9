#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "src/base/range.h"

namespace boxrun::mm {

inline constexpr uint64_t kHugePageSize = 2 << 20;

// Which offsets of the memory file are free. Pure bookkeeping: no memory is touched here.
//
// Free space lives in two pools. Whole 2 MiB chunks serve large extents and replenish the other
// pool; pieces of broken chunks serve everything small, best fit first, so that a small program
// stays within one or two chunks. A chunk whose last piece returns is whole again. Not thread-safe.
class ExtentAllocator {
 public:
  // How an extent will be used.
  struct Hint {
    bool huge = false;     // whole 2 MiB pages: for a `size` of whole 2 MiB, aligned like that
    bool upwards = false;  // will grow towards higher offsets (brk), else towards lower ones (mmap)
    // Where it would continue a neighbouring extent, so that the host sees one mapping.
    std::optional<uint64_t> near;
  };

  // Manages [0, size), all free.
  explicit ExtentAllocator(uint64_t size);

  // A free extent of `size` bytes (page multiple, not 0), or nothing when none is long enough.
  std::optional<Range> take(uint64_t size, const Hint& hint);
  // Returns an extent; appends the chunks that became whole by it to `whole`.
  void give(Range extent, std::vector<Range>& whole);
  // Takes a whole chunk range that is known to be free out of the pool; give() returns it.
  void withhold(Range chunks);

 private:
  // A set of disjoint free ranges, by start and by size.
  class Pool {
   public:
    Range add(Range range);    // returns the merged range it is now part of
    void remove(Range range);  // must be free
    bool contains(Range range) const;
    std::optional<Range> best_fit(uint64_t size) const;

   private:
    std::map<uint64_t, uint64_t> by_start_;
    std::set<std::pair<uint64_t, uint64_t>> by_size_;  // size, start
  };

  std::optional<Range> take_chunks(uint64_t size, const Hint& hint);
  std::optional<Range> take_piece(uint64_t size, const Hint& hint);

  Pool chunks_;
  Pool pieces_;
};

}  // namespace boxrun::mm
