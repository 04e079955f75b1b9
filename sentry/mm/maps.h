#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "sentry/mm/host_window.h"
#include "sentry/mm/memory_file.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/mm/page_source.h"
#include "sentry/mm/range_map.h"
#include "sentry/mm/vma.h"
#include "src/base/range.h"
#include "src/base/result.h"

namespace boxrun::mm {

inline constexpr uint64_t kTaskSize = 0x7ffffffff000;  // the end of user addresses on x86-64
inline constexpr size_t kMaxMapCount = 65530;          // vm.max_map_count
inline constexpr uint64_t kStackGuardGap = 256 * kPageSize;
// What is copied, or given to the guest, at a time.
inline constexpr uint64_t kStep = 64 << 10;
// Private anonymous memory up to this size is given at mmap time.
inline constexpr uint64_t kPromise = 1 << 20;
// The same for memory that mprotect makes writable: often the stack of a thread, touched only at
// its end.
inline constexpr uint64_t kPromiseByProtect = 256 << 10;
// Writable private file mappings up to this size are copied at mmap time.
inline constexpr uint64_t kCopyAtMap = 512 << 10;
// What a source without a host file is asked for at a time.
inline constexpr uint64_t kSourceStep = 256 << 10;

// apply() errors that say: not this file with this protection, whereas copies would do.
constexpr bool host_refuses_mapping(Errno error) {
  return error == Errno::kAcces || error == Errno::kPerm || error == Errno::kNoDev;
}

constexpr Range block_around(uint64_t addr, uint64_t size) {
  const uint64_t start = addr & ~(size - 1);
  return {start, start + size};
}

// What ends with a vma, to be told when no lock is held: the sources of its file mappings, and
// windows on them. Declare it before the Lock, so that it is destroyed after the unlock.
class Farewell {
 public:
  explicit Farewell(MappingObserver& observer) : observer_(observer) {}
  ~Farewell() {
    for (const Gone& gone : gone_) {
      gone.source->remove_mapping(observer_, gone.range, gone.shared_writable);
    }
  }
  Farewell(const Farewell&) = delete;
  Farewell& operator=(const Farewell&) = delete;

  void add(Ref<PageSource> source, Range file_range, bool shared_writable) {
    gone_.push_back({std::move(source), file_range, shared_writable});
  }
  void add(Ref<RefCounted> opened) { opened_.push_back(std::move(opened)); }
  std::vector<Ref<HostWindow>>& windows() { return windows_; }

 private:
  struct Gone {
    Ref<PageSource> source;
    Range range;
    bool shared_writable;
  };
  MappingObserver& observer_;
  std::vector<Gone> gone_;
  std::vector<Ref<HostWindow>> windows_;
  std::vector<Ref<RefCounted>> opened_;
};

// What the search for free addresses, downwards, knows of where it has been, so that thousands of
// mappings are not looked at for each new one. For lengths of one class (each small number of
// pages, then each power of two): no gap that ends above `low` is larger than `largest`.
class SearchedGaps {
 public:
  struct Bound {
    uint64_t low = UINT64_MAX;
    uint64_t largest = 0;  // bytes
  };
  Bound& of(uint64_t length) {
    const uint64_t pages = length / kPageSize;
    return bounds_[pages < 16 ? pages : 12 + static_cast<size_t>(std::bit_width(pages))];
  }
  // A gap that ends at `end` may be larger than it was.
  void grew(uint64_t end) {
    for (Bound& bound : bounds_) bound.low = std::max(bound.low, end);
  }

 private:
  std::array<Bound, 48> bounds_;  // up to 2^35 pages: all user addresses
};

// The two maps of an mm and their counters: all that fork copies. Guarded by the mm's lock.
struct Maps {
  RangeMap<Vma> vmas;
  SearchedGaps searched;
  RangeMap<Pages> pages;
  Layout layout;
  uint64_t total_bytes = 0;  // of all vmas
  uint64_t data_bytes = 0;   // of those that RLIMIT_DATA counts
  uint64_t locked_bytes = 0;
  uint64_t peak_bytes = 0;
  Limits last_limits;        // of the last call that had them: for stack growth by copies
  bool lock_future = false;  // mlockall(MCL_FUTURE)

  // Changes of vmas, with the counters following.
  void add(Range range, Vma vma);
  void remove(Range range, WindowCache& windows, Farewell& farewell);
  // Removes vmas that live on elsewhere: no source is told.
  void forget(Range range);
  template <class F>
  void change(Range range, F&& change_one) {
    vmas.for_each(range, [&](Range r, const Vma& v) { count(r, v, Sign::kMinus); });
    vmas.update(range, change_one);
    vmas.for_each(range, [&](Range r, const Vma& v) { count(r, v, Sign::kPlus); });
  }
  uint64_t bytes_in(Range range) const;
  // Where a mapping below `vma` must end: a stack keeps a gap to grow into (mm.h: vm_start_gap).
  static uint64_t guarded_start(Range range, const Vma& vma);
  Usage usage() const;
  // ENOMEM when more of such memory would exceed RLIMIT_AS or RLIMIT_DATA, or could never be had.
  Result<void> may_expand(uint64_t bytes, const Vma& vma, const Limits& limits,
                          MemoryFile& memory) const;
  // The same when existing memory becomes writable.
  Result<void> may_become_data(uint64_t bytes, const Vma& vma, const Limits& limits,
                               MemoryFile& memory) const;
  // Whether vmas may be split at both ends of `range` and one may be added.
  bool may_split(Range range) const;

 private:
  void gap_grows(Range range);
  enum class Sign : uint8_t { kPlus, kMinus };
  void count(Range range, const Vma& vma, Sign sign);
};

}  // namespace boxrun::mm
