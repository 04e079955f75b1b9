#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sentry/mm/extent_allocator.h"
#include "sentry/time/call.h"
#include "src/base/fd.h"
#include "src/base/range.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::mm {

// Where pages that a file system keeps are: what a guest is charged for them.
enum class Storage : uint8_t { kMemory, kDisk };

// The one sparse file behind all anonymous guest memory, tmpfs data and memfds, mapped in the
// Sentry from end to end. The guest's stubs map it by offset. Its size is the sandbox's memory
// limit, so what can be allocated is what may be used. Thread-safe.
//
// Behind it, in the same numbering of offsets, there may be a file on a disk, for the data of
// overlays: it counts against the disk, not against the memory limit. place() says which host file
// an offset belongs to; no extent reaches from one into the other, nor to its border.
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
    UniqueFd disk;  // none: there is no disk part
    uint64_t disk_bytes = 0;
  };
  static Result<Backing> make_backing(int tmpfs_dir);
  // Adds a disk part, in a file without a name in the directory `path`, as large as what is free
  // there, at most kMaxDiskBytes. EOPNOTSUPP on what is memory itself (tmpfs), EPERM where the
  // guest could not execute what lies there (a mount with noexec), ENOSPC where less than 2 MiB is
  // free, otherwise as open(2) with O_TMPFILE.
  static Result<void> add_disk(Backing& backing, const char* path);
  static constexpr uint64_t kMaxDiskBytes = uint64_t{256} << 30;
  // Takes over `backing`, sizes and maps it. `limit_bytes` is rounded down to pages.
  static Result<std::unique_ptr<MemoryFile>> create(Backing backing, uint64_t limit_bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // A contiguous, zeroed extent of `size` bytes (page multiple). ENOMEM when the limit is reached
  // or no free space is contiguous enough.
  Result<Range> allocate(uint64_t size, Hint hint = {});
  // The same in the disk part. ENOSPC when the disk is full or there is no such part.
  Result<Range> allocate_on_disk(uint64_t size);
  Result<Range> allocate(uint64_t size, Storage storage) {
    return storage == Storage::kDisk ? allocate_on_disk(size) : allocate(size);
  }
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
  // The host file that has the page at `offset`, and where in it.
  struct Place {
    int fd;
    uint64_t offset;
  };
  Place place(uint64_t offset) const {
    const Part& part = part_of(offset);
    return {part.file.get(), offset - part.offsets.start};
  }
  uint64_t limit(Storage storage = Storage::kMemory) const {
    return (storage == Storage::kDisk ? disk_ : memory_).offsets.size();
  }
  uint64_t used() const;       // bytes of memory, not of the disk, with at least one reference
  uint64_t available() const;  // bytes of the limit that neither pages nor charges take

  // Takes `bytes` of the limit for what a guest makes the Sentry keep in its own heap (names,
  // attributes), as kernel memory is of a cgroup's limit. False, and marked as a refusal, when
  // less is left.
  [[nodiscard]] bool charge(uint64_t bytes) EXCLUDES(mutex_);
  // For what must not fail, like the removal of a name that has to be remembered: the limit may be
  // exceeded by it.
  void force_charge(uint64_t bytes) EXCLUDES(mutex_);
  void discharge(uint64_t bytes) EXCLUDES(mutex_);

  // For whoever gives a request up because there is no more: ENOMEM, on the disk ENOSPC. A smaller
  // attempt may follow a failed allocate(), so that alone is no refusal.
  Errno refuse(Storage storage = Storage::kMemory) {
    refusal(storage).set();
    return storage == Storage::kDisk ? Errno::kNoSpc : Errno::kNoMem;
  }
  const RefusalMark& refusal(Storage storage) const {
    return (storage == Storage::kDisk ? disk_ : memory_).refusal;
  }

 private:
  struct Page;
  // One of the two host files. The mutable fields are guarded by mutex_.
  struct Part {
    Part(UniqueFd host, Range range, bool huge)
        : file(std::move(host)), offsets(range), huge_pages(huge), allocator(range.size()) {}
    const UniqueFd file;
    const Range offsets;
    const bool huge_pages;
    ExtentAllocator allocator;  // counts from 0
    const RefusalMark refusal;
    uint64_t used_pages = 0;
    uint64_t idle_pages = 0;  // free, but still backed by the host
  };

  MemoryFile(Backing backing, Range memory, Range disk, std::byte* base, Page* pages);
  Part& part_of(uint64_t offset) { return offset < disk_.offsets.start ? memory_ : disk_; }
  const Part& part_of(uint64_t offset) const {
    return offset < disk_.offsets.start ? memory_ : disk_;
  }
  std::optional<Range> take_locked(Part& part, uint64_t size, const Hint& hint,
                                   std::vector<Range>& dirty) REQUIRES(mutex_);
  uint64_t available_locked() const REQUIRES(mutex_);
  void give_locked(Part& part, Range extent, std::vector<Range>& whole) REQUIRES(mutex_);
  void populate(Range extent) EXCLUDES(mutex_);
  bool clear(const std::vector<Range>& dirty);
  void release_chunks(Part& part, const std::vector<Range>& chunks) EXCLUDES(mutex_);

  Part memory_;
  Part disk_;  // empty: there is none
  std::byte* const base_;

  mutable Mutex mutex_{Rank::kMemoryFile};
  // One per page of the file, in a mapping of its own that costs only what is touched.
  Page* const pages_ PT_GUARDED_BY(mutex_);
  std::vector<bool> populated_ GUARDED_BY(mutex_);  // per 2 MiB chunk: its huge page exists
  uint64_t charged_ GUARDED_BY(mutex_) = 0;         // bytes
  uint64_t pins_ GUARDED_BY(mutex_) = 0;            // pages times pins, to skip the search in fork
};

}  // namespace boxrun::mm
