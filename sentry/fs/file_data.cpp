#include "sentry/fs/file_data.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace boxrun::fs {
namespace {

// One call allocates no more than this at once, so that a fragmented memory file still serves.
constexpr uint64_t kMaxExtent = uint64_t{2} << 20;

constexpr Range pages_of(Range bytes) {
  return {page_down(bytes.start), page_up(bytes.end).value_or(page_down(UINT64_MAX))};
}

// mm/shmem.c: to a writer, memory that cannot be accounted for is a full file system.
Errno error_of_writer(const Result<void>& filled) {
  return filled.error() == Errno::kNoMem ? Errno::kNoSpc : filled.error();
}

}  // namespace

bool SpaceQuota::try_charge(uint64_t bytes) {
  uint64_t used = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit_ || used > limit_ - bytes) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  return true;
}

Result<void> SpaceQuota::charge(uint64_t bytes) {
  if (try_charge(bytes)) return {};
  refusal_.set();
  return Errno::kNoSpc;
}

FileData::FileData(mm::MemoryFile& memory, mm::Storage storage, Ref<SpaceQuota> quota,
                   Identity identity, uint32_t linux_seals)
    : memory_(memory),
      storage_(storage),
      quota_(std::move(quota)),
      identity_(std::move(identity)),
      seals_(linux_seals) {}

FileData::~FileData() {
  std::vector<Range> freed;
  {
    Lock lock(mutex_);
    for (const auto& [offset, memory] : extents_) freed.push_back(memory);
  }
  release(freed);
}

void FileData::release(const std::vector<Range>& freed) {
  for (const Range& memory : freed) {
    memory_.unref(memory);
    quota_->release(memory.size());
  }
}

FileData::Run FileData::run_at_locked(uint64_t offset) const {
  const auto next = extents_.upper_bound(offset);
  if (next != extents_.begin()) {
    const auto& [start, memory] = *std::prev(next);
    const uint64_t inside = offset - start;
    if (inside < memory.size()) return {false, memory.start + inside, memory.size() - inside};
  }
  return {true, 0, next == extents_.end() ? UINT64_MAX : next->first - offset};
}

void FileData::insert_locked(uint64_t offset, Range memory) {
  allocated_ += memory.size();
  const auto next = extents_.lower_bound(offset);
  if (next != extents_.begin()) {
    auto& [start, before] = *std::prev(next);
    if (start + before.size() == offset && before.end == memory.start) {
      before.end = memory.end;
      return;
    }
  }
  extents_.emplace_hint(next, offset, memory);
}

// Memory for at most `bytes` of a hole: less where the quota or the memory file has no more, or
// none that is contiguous. Only the refusal of the last page makes the call fail, and is marked:
// ENOSPC by the quota or the disk, ENOMEM by the memory file.
Result<Range> FileData::allocate_some(uint64_t bytes) {
  for (; bytes > kPageSize; bytes = page_down(bytes / 2)) {
    if (!quota_->try_charge(bytes)) continue;
    Result<Range> memory = memory_.allocate(bytes, storage_);
    if (memory.ok()) return memory;
    quota_->release(bytes);
  }
  TRY(quota_->charge(kPageSize));
  Result<Range> memory = memory_.allocate(kPageSize, storage_);
  if (memory.ok()) return memory;
  quota_->release(kPageSize);
  return memory_.refuse(storage_);
}

// Gives every page in `pages` memory; what was got before an error stays.
Result<void> FileData::fill_locked(Range pages) {
  uint64_t at = pages.start;
  while (at < pages.end) {
    const Run run = run_at_locked(at);
    uint64_t length = std::min({run.length, pages.end - at, kMaxExtent});
    if (run.hole) {
      const Range memory = TRY(allocate_some(length));
      insert_locked(at, memory);
      length = memory.size();
    }
    at += length;
  }
  return {};
}

// Takes the extents of `pages` out; the caller unrefs them once no mapping shows them.
void FileData::cut_locked(Range pages, std::vector<Range>& freed) {
  auto at = extents_.upper_bound(pages.start);
  if (at != extents_.begin()) --at;
  while (at != extents_.end() && at->first < pages.end) {
    const auto [start, memory] = *at;
    const Range cut = Range{start, start + memory.size()}.intersect(pages);
    if (cut.empty()) {
      ++at;
      continue;
    }
    at = extents_.erase(at);
    allocated_ -= memory.size();
    if (cut.start > start) {
      insert_locked(start, {memory.start, memory.start + (cut.start - start)});
    }
    const uint64_t behind = start + memory.size() - cut.end;
    if (behind > 0) insert_locked(cut.end, {memory.end - behind, memory.end});
    freed.push_back({memory.start + (cut.start - start), memory.end - behind});
  }
}

void FileData::zero_locked(Range bytes) {
  uint64_t at = bytes.start;
  while (at < bytes.end) {
    const Run run = run_at_locked(at);
    const uint64_t length = std::min(run.length, bytes.end - at);
    if (!run.hole) safe_zero(memory_.data(run.memory), length);
    at += length;
  }
}

Result<size_t> FileData::read(IoBuffers& to, uint64_t offset) {
  Lock lock(mutex_);
  if (offset >= size_) return size_t{0};
  const uint64_t end = offset + std::min<uint64_t>(to.remaining(), size_ - offset);
  uint64_t at = offset;
  while (at < end) {
    const Run run = run_at_locked(at);
    const uint64_t length = std::min(run.length, end - at);
    const Result<size_t> done =
        run.hole ? to.put_zeros(length) : to.put(as_bytes_of(memory_.data(run.memory), length));
    if (!done.ok() && at == offset) return done.error();
    at += done.ok() ? *done : 0;
    if (!done.ok() || *done < length) break;
  }
  return static_cast<size_t>(at - offset);
}

Result<size_t> FileData::write(IoBuffers& from, Write& where) {
  Lock lock(mutex_);
  if (where.append) where.offset = size_;
  if (from.empty()) return size_t{0};
  if ((seals_ & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) return Errno::kPerm;
  const uint64_t limit = std::min<uint64_t>(where.size_limit, INT64_MAX);
  if (where.offset >= limit) return Errno::kFBig;
  uint64_t end = where.offset + std::min<uint64_t>(from.remaining(), limit - where.offset);
  if ((seals_ & F_SEAL_GROW) != 0 && end > size_) {
    // mm/shmem.c: shmem_write_begin refuses the page whose part would make the file longer.
    end = page_down(size_);
    if (end <= where.offset) return Errno::kPerm;
  }
  const Result<void> filled = fill_locked(pages_of({where.offset, end}));
  uint64_t at = where.offset;
  Errno error = error_of_writer(filled);
  while (at < end) {
    const Run run = run_at_locked(at);
    if (run.hole) break;
    const uint64_t length = std::min(run.length, end - at);
    const Result<size_t> done = from.take({memory_.data(run.memory), length});
    if (!done.ok()) error = done.error();
    at += done.ok() ? *done : 0;
    if (!done.ok() || *done < length) break;
  }
  if (at == where.offset) return error;
  size_ = std::max(size_, at);
  return static_cast<size_t>(at - where.offset);
}

Result<void> FileData::resize(uint64_t size) {
  if (size > INT64_MAX) return Errno::kFBig;
  std::vector<Range> freed;
  Range gone;
  {
    Lock lock(mutex_);
    if (size > size_ && (seals_ & F_SEAL_GROW) != 0) return Errno::kPerm;
    if (size < size_ && (seals_ & F_SEAL_SHRINK) != 0) return Errno::kPerm;
    gone = {pages_of({0, size}).end, UINT64_MAX};
    if (size < size_) {
      cut_locked(gone, freed);
      zero_locked({size, gone.start});  // what a later extension must not show again
    }
    size_ = size;
  }
  if (freed.empty()) return {};
  mappings_.invalidate(*this, {gone.start, page_down(UINT64_MAX)},
                       mm::MappingObserver::Gone::kTruncated);
  release(freed);
  return {};
}

Result<void> FileData::reserve(Range bytes, bool keep_size) {
  Lock lock(mutex_);
  if (!keep_size && bytes.end > size_ && (seals_ & F_SEAL_GROW) != 0) return Errno::kPerm;
  if (const Result<void> filled = fill_locked(pages_of(bytes)); !filled.ok()) {
    return error_of_writer(filled);
  }
  if (!keep_size) size_ = std::max(size_, bytes.end);
  return {};
}

Result<void> FileData::punch_hole(Range bytes) {
  const Range whole{page_up(bytes.start).value_or(UINT64_MAX), page_down(bytes.end)};
  std::vector<Range> freed;
  {
    Lock lock(mutex_);
    if ((seals_ & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) return Errno::kPerm;
    if (whole.empty()) {
      zero_locked(bytes);
      return {};
    }
    zero_locked({bytes.start, whole.start});
    zero_locked({whole.end, bytes.end});
    cut_locked(whole, freed);
  }
  if (freed.empty()) return {};
  mappings_.invalidate(*this, whole, mm::MappingObserver::Gone::kPunched);
  release(freed);
  return {};
}

Result<uint64_t> FileData::find(uint64_t offset, bool hole) {
  Lock lock(mutex_);
  uint64_t at = offset;
  while (at < size_) {
    const Run run = run_at_locked(at);
    if (run.hole == hole) return at;
    if (run.length >= size_ - at) break;
    at += run.length;
  }
  if (hole) return size_;
  return Errno::kNxIo;
}

uint64_t FileData::allocated() {
  Lock lock(mutex_);
  return allocated_;
}

uint64_t FileData::size() {
  Lock lock(mutex_);
  return size_;
}

uint32_t FileData::seals() {
  Lock lock(mutex_);
  return seals_;
}

Result<void> FileData::add_seals(uint32_t linux_seals) {
  Lock lock(mutex_);
  if ((seals_ & F_SEAL_SEAL) != 0) return Errno::kPerm;
  if ((linux_seals & ~seals_ & F_SEAL_WRITE) != 0 && mappings_.mapped_shared_writable()) {
    return Errno::kBusy;
  }
  seals_ |= linux_seals;
  return {};
}

Result<Range> FileData::page_in(Range file_range, bool) {
  Lock lock(mutex_);
  const uint64_t end = std::min(file_range.end, pages_of({0, size_}).end);
  if (file_range.start >= end) return Errno::kNxIo;
  Run run = run_at_locked(file_range.start);
  if (run.hole) {
    // Holes that are touched get memory, for reading too, as in Linux's shmem.
    const uint64_t length = std::min({run.length, end - file_range.start, kMaxExtent});
    const Result<void> filled = fill_locked({file_range.start, file_range.start + length});
    run = run_at_locked(file_range.start);
    if (run.hole) return filled.error();
  }
  const Range memory{run.memory, run.memory + std::min(run.length, end - file_range.start)};
  memory_.ref(memory);
  return memory;
}

Result<void> FileData::add_mapping(mm::MappingObserver& observer, Range file_range,
                                   bool shared_writable) {
  Lock lock(mutex_);
  if (shared_writable && (seals_ & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) return Errno::kPerm;
  mappings_.add(observer, file_range, shared_writable);
  return {};
}

void FileData::remove_mapping(mm::MappingObserver& observer, Range file_range,
                              bool shared_writable) {
  mappings_.remove(observer, file_range, shared_writable);
}

}  // namespace boxrun::fs
