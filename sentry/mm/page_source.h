#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "src/base/range.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::mm {

class PageSource;

// Told when pages of a file go away under its mappings. Implemented by MemoryManager.
class MappingObserver {
 public:
  // Why pages go: truncate(2) takes private copies along, a punched hole or a replaced page leaves
  // them (mm/memory.c: unmap_mapping_range, even_cows).
  enum class Gone : uint8_t { kTruncated, kPunched };

  // The pages of `source` in `file_range` are gone: drops their translations, so that the next
  // touch asks the source again. Returns after the withdrawal is attested. The caller may hold
  // locks of a rank below kMmMaps.
  virtual void invalidate(PageSource& source, Range file_range, Gone gone) = 0;

 protected:
  ~MappingObserver() = default;
};

// What can stand behind a file mapping. Implemented by inodes (vfs), owned by reference from each
// vma. Every method is called without any lock of the mm, so an implementation may take its inode
// lock, and page_in may wait for the Gofer.
class PageSource : public RefCounted {
 public:
  // A host descriptor that the guest may map directly, at file offsets: donated regular files.
  // -1 when there is none: then page_in is used. `writable` asks for a shared writable mapping.
  // The descriptor stays open for as long as mappings of this source are added.
  virtual int host_fd(bool writable) = 0;
  // For sources without a host descriptor: the memory-file extent that holds the file's pages from
  // `file_range.start` on, with one reference per page for the caller. May return fewer bytes than
  // asked, at least one page. With `for_write` the guest may write to the extent, without it never
  // does. ENXIO beyond the end of the file (SIGBUS for the guest), ENOMEM.
  virtual Result<Range> page_in(Range file_range, bool for_write) = 0;
  // Current size in bytes.
  virtual uint64_t size() = 0;
  // Counts mappings: shared writable ones forbid F_SEAL_WRITE (EPERM where it is set), any keep
  // the observer informed. Balanced by bytes: ranges may be removed in other pieces than they were
  // added in. `shared_writable` means that writing is possible or could be made so by mprotect.
  virtual Result<void> add_mapping(MappingObserver& observer, Range file_range,
                                   bool shared_writable) = 0;
  virtual void remove_mapping(MappingObserver& observer, Range file_range,
                              bool shared_writable) = 0;

  // msync(2): makes what was written through shared mappings durable.
  virtual Result<void> sync(Range file_range);
  // madvise(MADV_REMOVE): frees the pages, which then read as zeros. EOPNOTSUPP by default.
  virtual Result<void> punch_hole(Range file_range);

  // For /proc/PID/maps.
  struct Identity {
    uint64_t dev = 0;
    uint64_t ino = 0;
    std::string path;
  };
  virtual Identity identity() = 0;
};

// The observers of one PageSource, for implementations of add_mapping and remove_mapping.
// Thread-safe. Its lock is held while observers are told, so that none can go away meanwhile.
class MappingList {
 public:
  void add(MappingObserver& observer, Range file_range, bool shared_writable);
  void remove(MappingObserver& observer, Range file_range, bool shared_writable);
  void invalidate(PageSource& source, Range file_range, MappingObserver::Gone gone);
  bool mapped();
  bool mapped_shared_writable();

 private:
  struct Entry {
    MappingObserver* observer;
    uint64_t bytes;
    uint64_t writable_bytes;
  };
  Mutex mutex_{Rank::kMappings};
  std::vector<Entry> entries_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::mm
