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
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

namespace boxrun::mm {

// Idle memory that is kept for reuse instead of being given back to the host.
constexpr uint64_t kReservePages = (16 << 20) / kPageSize;

struct MemoryFile::Page {
  uint32_t refs;
  uint32_t pins : 31;
  uint32_t dirty : 1;  // has been handed out since the host last made it zero
};

Result<MemoryFile::Backing> MemoryFile::make_backing(int tmpfs_dir) {
  if (tmpfs_dir >= 0) {
    return Backing{TRY(own_fd(openat(tmpfs_dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600))), true};
  }
  // vm.memfd_noexec=2 refuses memfds that do not renounce execve; mapping with PROT_EXEC stays
  // possible. Kernels before 6.3 do not know the flag.
  int fd = memfd_create("boxrun-memory", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create("boxrun-memory", MFD_CLOEXEC);
  return Backing{TRY(own_fd(fd)), false};
}

Result<std::unique_ptr<MemoryFile>> MemoryFile::create(Backing backing, uint64_t limit_bytes) {
  const uint64_t limit = page_down(limit_bytes);
  if (limit == 0 || limit > INT64_MAX) return Errno::kInval;
  TRY(host_result(ftruncate(backing.file.get(), static_cast<off_t>(limit))));
  void* base = mmap(nullptr, limit, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                    backing.file.get(), 0);
  if (base == MAP_FAILED) return last_error();
  void* pages = mmap(nullptr, limit / kPageSize * sizeof(Page), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) {
    const Errno error = last_error();
    munmap(base, limit);
    return error;
  }
  // Only a hint: without huge pages everything still works.
  if (backing.huge_pages) madvise(base, limit, MADV_HUGEPAGE);
  // Nothing that is forked from the Sentry needs to see guest memory through this mapping.
  madvise(base, limit, MADV_DONTFORK);
  return std::unique_ptr<MemoryFile>(new MemoryFile(
      std::move(backing), limit, static_cast<std::byte*>(base), static_cast<Page*>(pages)));
}

MemoryFile::MemoryFile(Backing backing, uint64_t limit, std::byte* base, Page* pages)
    : file_(std::move(backing.file)),
      huge_pages_(backing.huge_pages),
      limit_(limit),
      base_(base),
      allocator_(limit),
      pages_(pages),
      populated_((limit + kHugePageSize - 1) / kHugePageSize) {}

MemoryFile::~MemoryFile() {
  munmap(base_, limit_);
  munmap(pages_, limit_ / kPageSize * sizeof(Page));
}

// Marks the pages of a new extent as used; collects what must be cleared and which huge pages do
// not exist yet.
void MemoryFile::take_locked(Range extent, std::vector<Range>& dirty, std::vector<Range>& fresh) {
  for (uint64_t at = extent.start; at < extent.end; at += kPageSize) {
    Page& page = pages_[at / kPageSize];
    CHECK(page.refs == 0 && page.pins == 0);
    page.refs = 1;
    if (page.dirty != 0) {
      idle_pages_--;
      if (!dirty.empty() && dirty.back().end == at) {
        dirty.back().end += kPageSize;
      } else {
        dirty.push_back({at, at + kPageSize});
      }
    }
    page.dirty = 1;
  }
  used_pages_ += extent.size() / kPageSize;
  if (!huge_pages_) return;
  for (uint64_t chunk = extent.start / kHugePageSize; chunk * kHugePageSize < extent.end; chunk++) {
    if (populated_[chunk]) continue;
    populated_[chunk] = true;
    fresh.push_back(extent.intersect({chunk * kHugePageSize, (chunk + 1) * kHugePageSize}));
  }
}

Result<Range> MemoryFile::allocate(uint64_t size, Hint hint) {
  if (size == 0 || size > limit_) return Errno::kNoMem;
  if (!huge_pages_) hint.huge = false;
  std::vector<Range> dirty;
  std::vector<Range> fresh;
  Range extent;
  {
    Lock lock(mutex_);
    const auto taken = allocator_.take(size, hint);
    if (!taken) return Errno::kNoMem;
    extent = *taken;
    take_locked(extent, dirty, fresh);
  }
  // Touching one page through a mapping that asks for huge pages makes the whole 2 MiB exist: the
  // guest's first touches are then no more than minor faults. Where it fails, the first touch says.
  for (const Range& part : fresh) {
    madvise(base_ + part.start, kPageSize, MADV_POPULATE_WRITE);
  }
  for (const Range& part : dirty) {
    if (safe_zero(base_ + part.start, part.size()) == part.size()) continue;
    unref(extent);  // the host has no memory left
    return Errno::kNoMem;
  }
  return extent;
}

void MemoryFile::ref(Range extent) {
  Lock lock(mutex_);
  for (uint64_t at = extent.start; at < extent.end; at += kPageSize) {
    Page& page = pages_[at / kPageSize];
    CHECK(page.refs > 0);
    page.refs++;
  }
}

void MemoryFile::unref(Range extent) {
  std::vector<Range> whole;
  {
    Lock lock(mutex_);
    Range freed{extent.start, extent.start};
    for (uint64_t at = extent.start; at < extent.end; at += kPageSize) {
      Page& page = pages_[at / kPageSize];
      CHECK(page.refs > 0);
      if (--page.refs > 0) {
        if (!freed.empty()) allocator_.give(freed, whole);
        freed = {at + kPageSize, at + kPageSize};
        continue;
      }
      CHECK(page.pins == 0);
      used_pages_--;
      idle_pages_++;
      freed.end = at + kPageSize;
    }
    if (!freed.empty()) allocator_.give(freed, whole);
    if (whole.empty() || idle_pages_ <= kReservePages) return;
    for (const Range& chunks : whole) allocator_.withhold(chunks);
  }
  release_chunks(whole);
}

// Gives whole chunks back to the host, outside of the lock, since that may take milliseconds. They
// are withheld from the allocator meanwhile.
void MemoryFile::release_chunks(const std::vector<Range>& chunks) {
  for (const Range& range : chunks) {
    const bool zero =
        fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(range.start), static_cast<off_t>(range.size())) == 0;
    Lock lock(mutex_);
    for (uint64_t at = range.start; zero && at < range.end; at += kPageSize) {
      Page& page = pages_[at / kPageSize];
      if (page.dirty != 0) idle_pages_--;
      page.dirty = 0;
      if (at % kHugePageSize == 0) populated_[at / kHugePageSize] = false;
    }
    std::vector<Range> whole;
    allocator_.give(range, whole);
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
  return used_pages_ * kPageSize;
}

}  // namespace boxrun::mm
