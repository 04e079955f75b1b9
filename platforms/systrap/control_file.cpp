#include "platforms/systrap/control_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "src/base/check.h"

namespace boxrun::platform {

Result<std::unique_ptr<ControlFile>> ControlFile::create() {
  UniqueFd fd = TRY(own_fd(::memfd_create("boxrun-stubs", MFD_CLOEXEC)));
  if (::ftruncate(fd.get(), static_cast<off_t>(kSize)) != 0) return last_error();
  void* bytes =
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (bytes == MAP_FAILED) return last_error();
  return std::unique_ptr<ControlFile>(
      new ControlFile(std::move(fd), static_cast<std::byte*>(bytes)));
}

ControlFile::~ControlFile() { ::munmap(bytes_, kSize); }

Result<uint32_t> ControlFile::Numbers::take() {
  if (!free.empty()) {
    const uint32_t number = free.back();
    free.pop_back();
    return number;
  }
  if (next == limit) return Errno::kNoMem;
  return next++;
}

Result<uint32_t> ControlFile::new_page() {
  Lock lock(mutex_);
  return pages_.take();
}

Result<uint32_t> ControlFile::new_slot() {
  Lock lock(mutex_);
  return slots_.take();
}

Result<uint32_t> ControlFile::new_code() {
  Lock lock(mutex_);
  return code_.take();
}

// Whoever gets it next sees nothing of what was there.
void ControlFile::clear(uint64_t offset, uint64_t size) const {
  const int r = ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            static_cast<off_t>(offset), static_cast<off_t>(size));
  if (r != 0) std::memset(bytes_ + offset, 0, size);
}

void ControlFile::free_page(uint32_t page) {
  // One page with little in it: quicker than a hole.
  std::memset(bytes_ + page_offset(page), 0, kPageSize);
  Lock lock(mutex_);
  pages_.free.push_back(page);
}

void ControlFile::free_code(uint32_t code) {
  clear(code_offset(code), kPageSize);
  Lock lock(mutex_);
  code_.free.push_back(code);
}

void ControlFile::free_slot(uint32_t slot) {
  clear(slot_offset(slot), ThreadSlot::kSize);
  Lock lock(mutex_);
  slots_.free.push_back(slot);
}

MapperPage& ControlFile::page(uint32_t number) const {
  DCHECK(number < kMaxPages);
  return *reinterpret_cast<MapperPage*>(bytes_ + page_offset(number));
}

std::span<std::byte, kPageSize> ControlFile::code(uint32_t number) const {
  DCHECK(number < kMaxCode);
  return std::span<std::byte, kPageSize>(bytes_ + code_offset(number), kPageSize);
}

ThreadSlot& ControlFile::slot(uint32_t number) const {
  return *reinterpret_cast<ThreadSlot*>(slot_bytes(number));
}

std::byte* ControlFile::slot_bytes(uint32_t number) const {
  DCHECK(number < kMaxSlots);
  return bytes_ + slot_offset(number);
}

}  // namespace boxrun::platform
