#pragma once
#include <atomic>
#include <cstdint>
#include <map>

#include "sentry/mm/memory_file.h"
#include "sentry/mm/page_source.h"
#include "sentry/time/call.h"
#include "src/base/bytes.h"
#include "src/base/check.h"
#include "src/base/range.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::fs {

// How many bytes a file system may hold, over all its files. Thread-safe.
class SpaceQuota final : public RefCounted {
 public:
  explicit SpaceQuota(uint64_t limit) : limit_(limit) {}
  bool try_charge(uint64_t bytes);
  // As try_charge; a refusal is ENOSPC, and marked.
  Result<void> charge(uint64_t bytes);
  const RefusalMark& refusal() const { return refusal_; }
  void release(uint64_t bytes) {
    CHECK(used_.fetch_sub(bytes, std::memory_order_relaxed) >= bytes);
  }
  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_{0};
  const RefusalMark refusal_;
};

// The bytes of one sparse file, kept in extents of the memory file, so that mappings share them
// (tmpfs, memfd, the upper layer of an overlay). Thread-safe.
class FileData final : public mm::PageSource {
 public:
  // `linux_seals` as F_GET_SEALS; `identity` for /proc/PID/maps.
  FileData(mm::MemoryFile& memory, mm::Storage storage, Ref<SpaceQuota> quota, Identity identity,
           uint32_t linux_seals);
  ~FileData() override;

  // Bytes read; 0 at and beyond the end.
  Result<size_t> read(IoBuffers& to, uint64_t offset) EXCLUDES(mutex_);
  struct Write {
    uint64_t offset = 0;
    bool append = false;              // then offset is set to where the data went
    uint64_t size_limit = INT64_MAX;  // EFBIG from there on
  };
  // EPERM when sealed, ENOSPC. Nothing taken from `from` is lost: a short count is possible.
  Result<size_t> write(IoBuffers& from, Write& where) EXCLUDES(mutex_);
  Result<void> resize(uint64_t size) EXCLUDES(mutex_);
  // fallocate: makes room, and the file longer unless `keep_size`.
  Result<void> reserve(Range bytes, bool keep_size) EXCLUDES(mutex_);
  Result<void> punch_hole(Range bytes) override EXCLUDES(mutex_);
  // SEEK_DATA and SEEK_HOLE for offset < size; ENXIO when no data follows.
  Result<uint64_t> find(uint64_t offset, bool hole) EXCLUDES(mutex_);
  uint64_t allocated() EXCLUDES(mutex_);  // bytes

  uint32_t seals() EXCLUDES(mutex_);
  // EPERM when sealed against it, EBUSY while writably mapped (F_ADD_SEALS, fcntl(2)).
  Result<void> add_seals(uint32_t linux_seals) EXCLUDES(mutex_);

  int host_fd(bool) override { return -1; }
  Result<Range> page_in(Range file_range, bool for_write) override EXCLUDES(mutex_);
  uint64_t size() override EXCLUDES(mutex_);
  Result<void> add_mapping(mm::MappingObserver& observer, Range file_range,
                           bool shared_writable) override EXCLUDES(mutex_);
  void remove_mapping(mm::MappingObserver& observer, Range file_range,
                      bool shared_writable) override;
  Identity identity() override { return identity_; }

 private:
  // Where a run of pages of the file is in the memory file, or how long the hole is.
  struct Run {
    bool hole;
    uint64_t memory;  // offset in the memory file
    uint64_t length;  // bytes from the asked place on; UINT64_MAX for the last hole
  };
  Run run_at_locked(uint64_t offset) const REQUIRES(mutex_);
  Result<Range> allocate_some(uint64_t bytes);
  Result<void> fill_locked(Range pages) REQUIRES(mutex_);
  void insert_locked(uint64_t offset, Range memory) REQUIRES(mutex_);
  void cut_locked(Range pages, std::vector<Range>& freed) REQUIRES(mutex_);
  void zero_locked(Range bytes) REQUIRES(mutex_);
  void release(const std::vector<Range>& freed);

  mm::MemoryFile& memory_;
  const mm::Storage storage_;
  const Ref<SpaceQuota> quota_;
  const Identity identity_;
  mm::MappingList mappings_;

  Mutex mutex_{Rank::kFileData};
  std::map<uint64_t, Range> extents_ GUARDED_BY(mutex_);  // by offset in the file
  uint64_t size_ GUARDED_BY(mutex_) = 0;
  uint64_t allocated_ GUARDED_BY(mutex_) = 0;
  uint32_t seals_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::fs
