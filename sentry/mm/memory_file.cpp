// Why pages are zeroed where they are: a fresh page of the file is zero by itself; a small extent
// that comes back is cleared with memset when it is handed out again (3 us for 64 KiB), because
// punching a hole costs 60 us a MiB and takes the huge page apart. Only whole 2 MiB chunks go back
// to the host, and only beyond a reserve, so that programs that map and unmap megabytes in a loop
// find warm memory.
#include "sentry/mm/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "src/base/bytes.h"
#include "src/base/check.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace boxrun::mm {

// Idle memory that is kept for reuse instead of being given back to the host.
constexpr uint64_t kReservePages = (16 << 20) / kPageSize;

struct MemoryFile::Page {
  uint32_t refs;
  uint32_t pins : 31;
  uint32_t dirty : 1;  // has been handed out since the host last made it zero
};

Result<std::unique_ptr<MemoryFile>> MemoryFile::create(Backing backing, uint64_t limit_bytes) {
  const Range memory{0, page_down(limit_bytes)};
  if (memory.empty() || memory.end > INT64_MAX / 2) return Errno::kInval;
  // With a gap, or neighbours from both parts would be taken for one run of one file.
  const uint64_t disk_start = (memory.end / kHugePageSize + 2) * kHugePageSize;
  const Range disk{disk_start, disk_start + page_down(backing.disk_bytes)};
  TRY(host_result(ftruncate(backing.file.get(), static_cast<off_t>(memory.size()))));
  if (!disk.empty()) {
    TRY(host_result(ftruncate(backing.disk.get(), static_cast<off_t>(disk.size()))));
  }
  // One range of addresses for both, or the place of a page would not be base_ + offset.
  void* base =
      mmap(nullptr, disk.end, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return last_error();
  void* pages = mmap(nullptr, disk.end / kPageSize * sizeof(Page), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  const auto map_part = [&](const UniqueFd& file, Range offsets) {
    return offsets.empty() || mmap(static_cast<std::byte*>(base) + offsets.start, offsets.size(),
                                   PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
                                   file.get(), 0) != MAP_FAILED;
  };
  if (pages == MAP_FAILED || !map_part(backing.file, memory) || !map_part(backing.disk, disk)) {
    const Errno error = last_error();
    munmap(base, disk.end);
    if (pages != MAP_FAILED) munmap(pages, disk.end / kPageSize * sizeof(Page));
    return error;
  }
  // Only a hint: without huge pages everything still works.
  if (backing.huge_pages) madvise(base, memory.size(), MADV_HUGEPAGE);
  // Nothing that is forked from the Sentry needs to see guest memory through this mapping.
  madvise(base, disk.end, MADV_DONTFORK);
  return std::unique_ptr<MemoryFile>(new MemoryFile(
      std::move(backing), memory, disk, static_cast<std::byte*>(base), static_cast<Page*>(pages)));
}

MemoryFile::MemoryFile(Backing backing, Range memory, Range disk, std::byte* base, Page* pages)
    : memory_(std::move(backing.file), memory, backing.huge_pages),
      disk_(std::move(backing.disk), disk, false),
      base_(base),
      pages_(pages),
      populated_((memory.size() + kHugePageSize - 1) / kHugePageSize) {}

MemoryFile::~MemoryFile() {
  munmap(base_, disk_.offsets.end);
  munmap(pages_, disk_.offsets.end / kPageSize * sizeof(Page));
}

// A new extent whose pages have one reference each; collects what must be cleared.
std::optional<Range> MemoryFile::take_locked(Part& part, uint64_t size, const Hint& hint,
                                             std::vector<Range>& dirty) {
  if (&part == &memory_ && size > available_locked()) return std::nullopt;
  const auto taken = part.allocator.take(size, hint);
  if (!taken) return std::nullopt;
  const Range extent{part.offsets.start + taken->start, part.offsets.start + taken->end};
  for (uint64_t at = extent.start; at < extent.end; at += kPageSize) {
    Page& page = pages_[at / kPageSize];
    CHECK(page.refs == 0 && page.pins == 0);
    page.refs = 1;
    if (page.dirty != 0) {
      part.idle_pages--;
      if (!dirty.empty() && dirty.back().end == at) {
        dirty.back().end += kPageSize;
      } else {
        dirty.push_back({at, at + kPageSize});
      }
    }
    page.dirty = 1;
  }
  part.used_pages += extent.size() / kPageSize;
  return extent;
}

// Touching one page through a mapping that asks for huge pages makes the whole 2 MiB exist: the
// guest's first touches are then no more than minor faults. Where it fails, the first touch says.
void MemoryFile::populate(Range extent) {
  std::vector<Range> fresh;
  {
    Lock lock(mutex_);
    for (uint64_t chunk = extent.start / kHugePageSize; chunk * kHugePageSize < extent.end;
         chunk++) {
      if (populated_[chunk]) continue;
      populated_[chunk] = true;
      fresh.push_back(extent.intersect({chunk * kHugePageSize, (chunk + 1) * kHugePageSize}));
    }
  }
  for (const Range& part : fresh) {
    madvise(base_ + part.start, kPageSize, MADV_POPULATE_WRITE);
  }
}

// False when the host has no memory left.
bool MemoryFile::clear(const std::vector<Range>& dirty) {
  return std::ranges::all_of(
      dirty, [&](Range part) { return safe_zero(base_ + part.start, part.size()) == part.size(); });
}

Result<Range> MemoryFile::allocate(uint64_t size, Hint hint) {
  if (size == 0 || size > limit()) return Errno::kNoMem;
  if (!memory_.huge_pages) hint.huge = false;
  std::vector<Range> dirty;
  std::optional<Range> extent;
  {
    Lock lock(mutex_);
    extent = take_locked(memory_, size, hint, dirty);
  }
  if (!extent) return Errno::kNoMem;
  if (memory_.huge_pages) populate(*extent);
  if (clear(dirty)) return *extent;
  unref(*extent);
  return Errno::kNoMem;
}

Result<Range> MemoryFile::allocate_on_disk(uint64_t size) {
  if (size == 0 || size > disk_.offsets.size()) return Errno::kNoSpc;
  std::vector<Range> dirty;
  std::optional<Range> extent;
  {
    Lock lock(mutex_);
    extent = take_locked(disk_, size, {}, dirty);
  }
  if (!extent) return Errno::kNoSpc;
  // The blocks now: of a full disk the touch of a page would hear by SIGBUS.
  const Place at = place(extent->start);
  int done = 0;
  do {
    done = fallocate(at.fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at.offset),
                     static_cast<off_t>(size));
  } while (done < 0 && errno == EINTR);
  if (done == 0 && clear(dirty)) return *extent;
  unref(*extent);
  return Errno::kNoSpc;
}

void MemoryFile::ref(Range extent) {
  Lock lock(mutex_);
  for (uint64_t at = extent.start; at < extent.end; at += kPageSize) {
    Page& page = pages_[at / kPageSize];
    CHECK(page.refs > 0);
    page.refs++;
  }
}

// Extents count from the beginning of the file, the allocator from the beginning of the part.
void MemoryFile::give_locked(Part& part, Range extent, std::vector<Range>& whole) {
  part.allocator.give({extent.start - part.offsets.start, extent.end - part.offsets.start}, whole);
}

void MemoryFile::unref(Range extent) {
  Part& part = part_of(extent.start);
  std::vector<Range> whole;  // of the part
  {
    Lock lock(mutex_);
    Range freed{extent.start, extent.start};
    for (uint64_t at = extent.start; at < extent.end; at += kPageSize) {
      Page& page = pages_[at / kPageSize];
      CHECK(page.refs > 0);
      if (--page.refs > 0) {
        if (!freed.empty()) give_locked(part, freed, whole);
        freed = {at + kPageSize, at + kPageSize};
        continue;
      }
      CHECK(page.pins == 0);
      part.used_pages--;
      part.idle_pages++;
      freed.end = at + kPageSize;
    }
    if (!freed.empty()) give_locked(part, freed, whole);
    if (whole.empty() || part.idle_pages <= kReservePages) return;
    for (const Range& chunks : whole) part.allocator.withhold(chunks);
  }
  release_chunks(part, whole);
}

// Gives whole chunks back to the host, outside of the lock, since that may take milliseconds. They
// are withheld from the allocator meanwhile.
void MemoryFile::release_chunks(Part& part, const std::vector<Range>& chunks) {
  for (const Range& range : chunks) {
    const bool zero =
        fallocate(part.file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(range.start), static_cast<off_t>(range.size())) == 0;
    Lock lock(mutex_);
    for (uint64_t at = range.start; zero && at < range.end; at += kPageSize) {
      Page& page = pages_[(part.offsets.start + at) / kPageSize];
      if (page.dirty != 0) part.idle_pages--;
      page.dirty = 0;
      if (&part == &memory_ && at % kHugePageSize == 0) populated_[at / kHugePageSize] = false;
    }
    std::vector<Range> whole;
    part.allocator.give(range, whole);
  }
}

MemoryFile::Sharing MemoryFile::sharing(Range extent) const {
  CHECK(!extent.empty());
  Lock lock(mutex_);
  const bool exclusive = pages_[extent.start / kPageSize].refs == 1;
  uint64_t at = extent.start + kPageSize;
  while (at < extent.end && (pages_[at / kPageSize].refs == 1) == exclusive) at += kPageSize;
  return {at - extent.start, exclusive};
}

void MemoryFile::pin(Range extent) {
  Lock lock(mutex_);
  for (uint64_t at = extent.start; at < extent.end; at += kPageSize) {
    Page& page = pages_[at / kPageSize];
    CHECK(page.refs > 0);
    page.refs++;
    page.pins++;
  }
  pins_ += extent.size() / kPageSize;
}

void MemoryFile::unpin(Range extent) {
  {
    Lock lock(mutex_);
    for (uint64_t at = extent.start; at < extent.end; at += kPageSize) {
      Page& page = pages_[at / kPageSize];
      CHECK(page.pins > 0);
      page.pins--;
    }
    pins_ -= extent.size() / kPageSize;
  }
  unref(extent);
}

MemoryFile::Pinning MemoryFile::pinning(Range extent) const {
  CHECK(!extent.empty());
  Lock lock(mutex_);
  if (pins_ == 0) return {extent.size(), false};
  const bool pinned = pages_[extent.start / kPageSize].pins > 0;
  uint64_t at = extent.start + kPageSize;
  while (at < extent.end && (pages_[at / kPageSize].pins > 0) == pinned) at += kPageSize;
  return {at - extent.start, pinned};
}

uint64_t MemoryFile::used() const {
  Lock lock(mutex_);
  return memory_.used_pages * kPageSize;
}

uint64_t MemoryFile::available_locked() const {
  const uint64_t taken = memory_.used_pages * kPageSize + charged_;
  return memory_.offsets.size() - std::min(taken, memory_.offsets.size());
}

uint64_t MemoryFile::available() const {
  Lock lock(mutex_);
  return available_locked();
}

bool MemoryFile::charge(uint64_t bytes) {
  Lock lock(mutex_);
  if (bytes > available_locked()) {
    memory_.refusal.set();
    return false;
  }
  charged_ += bytes;
  return true;
}

void MemoryFile::force_charge(uint64_t bytes) {
  Lock lock(mutex_);
  charged_ += bytes;
}

void MemoryFile::discharge(uint64_t bytes) {
  Lock lock(mutex_);
  CHECK(bytes <= charged_);
  charged_ -= bytes;
}

}  // namespace boxrun::mm
