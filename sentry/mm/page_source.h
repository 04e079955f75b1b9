#pragma once
#include <cstdint>
#include <string>

#include "src/base/range.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::mm {

// Told when pages of a file go away under its mappings. Implemented by MemoryManager.
class MappingObserver {
 public:
  // File pages in `file_range` are gone (truncate, hole punch) or replaced: drop translations, so
  // that the next touch asks the PageSource again. Returns after the withdrawal is attested.
  virtual void invalidate(Range file_range) = 0;

 protected:
  ~MappingObserver() = default;
};

// What can stand behind a file mapping. Implemented by inodes (vfs), owned by reference from each
// vma. Called with the mm's map lock held (kMmMaps), so implementations take no lock of a smaller
// rank and do not wait for the Gofer, except in page_in, which is called without mm locks.
class PageSource : public RefCounted {
 public:
  // A host descriptor that the guest may map directly, at file offsets: donated regular files.
  // -1 when there is none: then page_in is used. `writable` asks for a shared writable mapping.
  virtual int host_fd(bool writable) = 0;
  // For sources without a host descriptor: the memory-file extent that holds the file's pages from
  // `file_range.start` on, with one reference per page for the caller. May return fewer bytes than
  // asked, at least one page. ENXIO beyond the end of the file (SIGBUS for the guest), ENOMEM.
  virtual Result<Range> page_in(Range file_range, bool for_write) = 0;
  // Current size in bytes.
  virtual uint64_t size() = 0;
  // Counts mappings: shared writable ones forbid F_SEAL_WRITE, any keep the observer informed.
  virtual void add_mapping(MappingObserver& observer, Range file_range, bool shared_writable) = 0;
  virtual void remove_mapping(MappingObserver& observer, Range file_range,
                              bool shared_writable) = 0;

  // For /proc/PID/maps.
  struct Identity {
    uint64_t dev = 0;
    uint64_t ino = 0;
    std::string path;
  };
  virtual Identity identity() = 0;
};

}  // namespace boxrun::mm
