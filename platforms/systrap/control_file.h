#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "platforms/systrap/layout.h"
#include "src/base/fd.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::platform {

// The file of the pages that stubs share with the Sentry: mapper pages, code and slots, nothing of
// which is guest memory. All of it is mapped here, each stub maps what is its own. Thread-safe.
class ControlFile {
 public:
  static Result<std::unique_ptr<ControlFile>> create();
  ~ControlFile();

  int fd() const { return fd_.get(); }

  // Zeroed. ENOMEM when all are in use.
  Result<uint32_t> new_page();
  Result<uint32_t> new_slot();
  Result<uint32_t> new_code();
  // What is given back must be out of reach of every stub: unmapped, or its process has ended.
  void free_page(uint32_t page);
  void free_slot(uint32_t slot);
  void free_code(uint32_t code);

  MapperPage& page(uint32_t number) const;
  ThreadSlot& slot(uint32_t number) const;
  std::span<std::byte, kPageSize> code(uint32_t number) const;
  // The bytes of a slot, its alternate stack included.
  std::byte* slot_bytes(uint32_t number) const;
  static uint64_t page_offset(uint32_t number) { return uint64_t{number} * kPageSize; }
  static uint64_t code_offset(uint32_t number) { return kPagesSize + uint64_t{number} * kPageSize; }
  static uint64_t slot_offset(uint32_t number) {
    return kPagesSize + kCodeSize + uint64_t{number} * ThreadSlot::kSize;
  }

 private:
  static constexpr uint32_t kMaxPages = 16384;
  static constexpr uint64_t kPagesSize = kMaxPages * kPageSize;
  static constexpr uint32_t kMaxCode = 32768;
  static constexpr uint64_t kCodeSize = kMaxCode * kPageSize;
  static constexpr uint64_t kSize = kPagesSize + kCodeSize + kSlotsSize;

  // Numbers below `limit`: those given back first, then new ones.
  struct Numbers {
    uint32_t limit;
    uint32_t next = 0;
    std::vector<uint32_t> free = {};
    Result<uint32_t> take();
  };

  ControlFile(UniqueFd fd, std::byte* bytes) : fd_(std::move(fd)), bytes_(bytes) {}
  void clear(uint64_t offset, uint64_t size) const;

  const UniqueFd fd_;
  std::byte* const bytes_;
  Mutex mutex_{Rank::kStubFiles};
  Numbers pages_ GUARDED_BY(mutex_){kMaxPages};
  Numbers code_ GUARDED_BY(mutex_){kMaxCode};
  Numbers slots_ GUARDED_BY(mutex_){static_cast<uint32_t>(kMaxSlots)};
};

}  // namespace boxrun::platform
