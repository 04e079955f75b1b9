#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "sentry/mm/page_source.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::mm {

// The Sentry's own mapping of a piece of a host file that a guest maps. The file may be shorter
// than the window, or be truncated at any time: touch it with safe_copy only.
class HostWindow : public RefCounted {
 public:
  static constexpr uint64_t kSize = 2 << 20;  // aligned like that, too

  static Result<Ref<HostWindow>> create(Ref<PageSource> source, int host_fd, uint64_t start,
                                        bool writable);
  ~HostWindow() override;

  std::byte* data(uint64_t file_offset) const { return base_ + (file_offset - start_); }
  uint64_t end() const { return start_ + kSize; }
  const PageSource* source() const { return source_.get(); }
  bool serves(const PageSource* source, uint64_t start, bool writable) const {
    return source_.get() == source && start_ == start && (writable_ || !writable);
  }

 private:
  HostWindow(Ref<PageSource> source, uint64_t start, bool writable, std::byte* base);

  const Ref<PageSource> source_;
  const uint64_t start_;
  const bool writable_;
  std::byte* const base_;
};

// The windows of one mm that were used last. Guarded by the mm's lock.
class WindowCache {
 public:
  Result<Ref<HostWindow>> get(const Ref<PageSource>& source, int host_fd, uint64_t file_offset,
                              bool writable);
  // Removes the windows of a source whose mapping ends, for the caller to drop without locks:
  // they hold references on it.
  void take(const PageSource* source, std::vector<Ref<HostWindow>>& out);

 private:
  static constexpr size_t kMost = 32;
  std::vector<Ref<HostWindow>> windows_;  // the one used last at the end
};

}  // namespace boxrun::mm
