#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sentry/mm/extent_allocator.h"
#include "src/base/fd.h"
#include "src/base/range.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::mm {

// The one sparse file behind all anonymous guest memory, tmpfs data and memfds, mapped in the
// Sentry from end to end. The guest's stubs map it by offset. Its size is the sandbox's memory
// limit, so what can be allocated is what may be used. Thread-safe.
//
// Offsets are counted page by page: allocate() returns zeroed pages with one reference each;
// sharing (fork, MAP_SHARED) adds references; a page whose last reference goes may be reused.
// Pages that the guest could still reach through a stale translation must not be unref'd before
// AddressSpace::apply has returned (DESIGN, "Attested withdrawal").
class MemoryFile {
 public:
  using Hint = ExtentAllocator::Hint;

  // The file for create(), made before sealing: on the tmpfs whose root is `tmpfs_dir` (a private
  // mount with huge=advise), or a memfd where that is -1.
  struct Backing {
    UniqueFd file;
    bool huge_pages = false;
  };
  static Result<Backing> make_backing(int tmpfs_dir);
  // Takes over `backing`, sizes and maps it. `limit_bytes` is rounded down to pages.
  static Result<std::unique_ptr<MemoryFile>> create(Backing backing, uint64_t limit_bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // A contiguous, zeroed extent of `size` bytes (page multiple). ENOMEM when the limit is reached
  // or no free space is contiguous enough.
  Result<Range> allocate(uint64_t size, Hint hint = {});
  void ref(Range extent);
  void unref(Range extent);

  // The prefix of `extent` whose pages all have exactly one reference (or all more than one):
  // its size in bytes, and which.
  struct Sharing {
    uint64_t size;
    bool exclusive;
  };
  Sharing sharing(Range extent) const;

  // A reference by a system call that will write into the pages, perhaps much later: fork must
  // copy such pages for the child at once, since making them copy-on-write would divert the
  // parent from the page that the system call fills.
  void pin(Range extent);
  void unpin(Range extent);
  // The prefix of `extent` whose pages are all pinned, or all not.
  struct Pinning {
    uint64_t size;
    bool pinned;
  };
  Pinning pinning(Range extent) const;

  // The Sentry's own mapping. Valid while the caller holds a reference on the pages. The host may
  // be out of memory: touch it with safe_copy and its like.
  std::byte* data(uint64_t offset) const { return base_ + offset; }
  int fd() const { return file_.get(); }
  uint64_t limit() const { return limit_; }
  uint64_t used() const;  // bytes with at least one reference

  // For whoever gives a request up because this memory is too small: ENOMEM, counted. A smaller
  // attempt may follow a failed allocate(), so that alone is none.
  Errno refuse() {
    refusals_.fetch_add(1, std::memory_order_relaxed);
    return Errno::kNoMem;
  }
  // Since the last call.
  uint64_t take_refusals() { return refusals_.exchange(0, std::memory_order_relaxed); }

 private:
  struct Page;
  MemoryFile(Backing backing, uint64_t limit, std::byte* base, Page* pages);
  void take_locked(Range extent, std::vector<Range>& dirty, std::vector<Range>& fresh)
      REQUIRES(mutex_);
  void release_chunks(const std::vector<Range>& chunks) EXCLUDES(mutex_);

  const UniqueFd file_;
  const bool huge_pages_;
  const uint64_t limit_;
  std::byte* const base_;

  std::atomic<uint64_t> refusals_{0};
  mutable Mutex mutex_{Rank::kMemoryFile};
  ExtentAllocator allocator_ GUARDED_BY(mutex_);
  // One per page of the file, in a mapping of its own that costs only what is touched.
  Page* const pages_ PT_GUARDED_BY(mutex_);
  std::vector<bool> populated_ GUARDED_BY(mutex_);  // per 2 MiB chunk: its huge page exists
  uint64_t used_pages_ GUARDED_BY(mutex_) = 0;
  uint64_t pins_ GUARDED_BY(mutex_) = 0;        // pages times pins, to skip the search in fork
  uint64_t idle_pages_ GUARDED_BY(mutex_) = 0;  // free, but still backed by host memory
};

}  // namespace boxrun::mm
