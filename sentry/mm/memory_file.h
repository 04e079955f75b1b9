#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "src/base/fd.h"
#include "src/base/range.h"
#include "src/base/result.h"

namespace boxrun::mm {

// The one sparse file behind all anonymous guest memory, tmpfs data and memfds, mapped in the
// Sentry from end to end. The guest's stubs map it by offset. Its size is the sandbox's memory
// limit, so what can be allocated is what may be used. Thread-safe.
//
// Offsets are counted page by page: allocate() returns zeroed pages with one reference each;
// sharing (fork, MAP_SHARED) adds references; a page whose last reference goes may be reused.
// Pages that the guest could still reach through a stale translation must not be unref'd before
// AddressSpace::apply has returned (DESIGN, "Attested withdrawal").
class MemoryFile {
 public:
  // How an extent will be used: recycled small chunks, or 2 MiB pages at offsets congruent to
  // `guest` modulo 2 MiB.
  struct Hint {
    uint64_t guest = 0;
    bool huge = false;
  };

  // Takes over `file` (a memfd, or a file on a private tmpfs with huge=advise), sizes and maps it.
  static Result<std::unique_ptr<MemoryFile>> create(UniqueFd file, uint64_t limit_bytes);
  virtual ~MemoryFile() = default;

  // A contiguous, zeroed extent of `size` bytes (page multiple). ENOMEM when the limit is reached.
  virtual Result<Range> allocate(uint64_t size, Hint hint) = 0;
  virtual void ref(Range extent) = 0;
  virtual void unref(Range extent) = 0;
  // The prefix of `extent` whose pages all have exactly one reference (or all more than one):
  // its size in bytes, and which.
  struct Sharing {
    uint64_t size;
    bool exclusive;
  };
  virtual Sharing sharing(Range extent) const = 0;

  // The Sentry's own mapping. Valid while the caller holds a reference on the pages.
  virtual std::byte* data(uint64_t offset) const = 0;
  virtual int fd() const = 0;
  virtual uint64_t limit() const = 0;  // bytes
  virtual uint64_t used() const = 0;   // bytes with at least one reference
};

}  // namespace boxrun::mm
