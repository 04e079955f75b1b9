#pragma once
#include "sentry/mm/memory_file.h"
#include "sentry/mm/page_source.h"
#include "sentry/mm/range_map.h"
#include "src/base/sync.h"

namespace boxrun::mm {

// The nameless file behind MAP_SHARED|MAP_ANONYMOUS: zeroed pages on demand, shared by whoever
// inherits the mapping, until the last mapping goes. Thread-safe.
class SharedMemory final : public PageSource {
 public:
  SharedMemory(MemoryFile& file, uint64_t size) : file_(file), size_(size) {}
  ~SharedMemory() override;

  int host_fd(bool) override { return -1; }
  Result<Range> page_in(Range file_range, bool for_write) override;
  uint64_t size() override { return size_; }
  Result<void> add_mapping(MappingObserver& observer, Range file_range,
                           bool shared_writable) override;
  void remove_mapping(MappingObserver& observer, Range file_range, bool shared_writable) override;
  Result<void> punch_hole(Range file_range) override;
  Identity identity() override { return {1, 0, "/dev/zero (deleted)"}; }

 private:
  struct Extent {
    uint64_t offset = 0;  // in the memory file
    void advance(uint64_t by) { offset += by; }
    bool continued_by(const Extent& next, uint64_t by) const { return offset + by == next.offset; }
  };

  MemoryFile& file_;
  const uint64_t size_;
  MappingList mappings_;
  Mutex mutex_{Rank::kInode};
  RangeMap<Extent> extents_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::mm
