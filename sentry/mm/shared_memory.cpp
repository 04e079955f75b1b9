#include "sentry/mm/shared_memory.h"

#include <algorithm>
#include <vector>

namespace boxrun::mm {

SharedMemory::~SharedMemory() {
  for (const auto& [range, extent] : extents_) {
    file_.unref({extent.offset, extent.offset + range.size()});
  }
}

Result<Range> SharedMemory::page_in(Range file_range, bool) {
  file_range.end = std::min(file_range.end, size_);
  if (file_range.empty()) return Errno::kNxIo;
  Lock lock(mutex_);
  const auto at = extents_.first_after(file_range.start);
  if (at != extents_.end() && at.range().start <= file_range.start) {
    const Range both = at.range().intersect(file_range);
    const uint64_t offset = at.value().offset + (both.start - at.range().start);
    const Range extent{offset, offset + both.size()};
    file_.ref(extent);
    return extent;
  }
  if (at != extents_.end()) file_range.end = std::min(file_range.end, at.range().start);
  MemoryFile::Hint hint;
  hint.huge = file_range.size() % kHugePageSize == 0;
  auto extent = file_.allocate(file_range.size(), hint);
  if (!extent) {
    file_range.end = file_range.start + kPageSize;
    extent = TRY(file_.allocate(kPageSize));
  }
  file_.ref(*extent);  // one for us, one for the caller
  extents_.insert(file_range, {extent->start});
  return *extent;
}

Result<void> SharedMemory::add_mapping(MappingObserver& observer, Range file_range,
                                       bool shared_writable) {
  mappings_.add(observer, file_range, shared_writable);
  return {};
}

void SharedMemory::remove_mapping(MappingObserver& observer, Range file_range,
                                  bool shared_writable) {
  mappings_.remove(observer, file_range, shared_writable);
}

Result<void> SharedMemory::punch_hole(Range file_range) {
  std::vector<Range> freed;
  {
    Lock lock(mutex_);
    extents_.erase(file_range, [&](Range piece, Extent& extent) {
      freed.push_back({extent.offset, extent.offset + piece.size()});
    });
  }
  mappings_.invalidate(*this, file_range, MappingObserver::Gone::kPunched);
  for (const Range& extent : freed) file_.unref(extent);
  return {};
}

}  // namespace boxrun::mm
