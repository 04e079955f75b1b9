#pragma once
#include <cstdint>
#include <string>

#include "platforms/platform.h"
#include "sentry/mm/page_source.h"
#include "src/base/range.h"
#include "src/base/ref.h"

namespace boxrun::mm {

// What a range of guest addresses means: what the guest asked for (struct vm_area_struct).
// A value of the mm's first RangeMap.
struct Vma {
  platform::Prot prot = platform::Prot::kNone;
  platform::Prot max_prot = platform::Prot::kNone;
  bool shared = false;
  bool grows_down = false;
  bool locked = false;
  bool noreserve = false;
  bool dont_fork = false;
  bool wipe_on_fork = false;
  bool dont_dump = false;
  // Memory comes in small steps at first: it was reserved first and made accessible later (thread
  // stacks, heaps of allocators), or MADV_NOHUGEPAGE. Only a heuristic: no reason not to join.
  bool lazy = false;
  Ref<PageSource> source;  // null: private anonymous memory
  Ref<RefCounted> opened;  // the open file that was mapped, kept open: it knows its name
  uint64_t offset = 0;     // in source, of the first byte
  int host_fd = -1;        // what the source gave to map; kept open by our add_mapping
  std::string name;

  bool anonymous() const { return source == nullptr; }
  bool writable() const { return platform::has(prot, platform::Prot::kWrite); }
  bool shared_writable() const { return shared && platform::has(max_prot, platform::Prot::kWrite); }
  Range file_range(Range whole, Range part) const {
    return {offset + (part.start - whole.start), offset + (part.end - whole.start)};
  }

  void advance(uint64_t by) {
    if (source) offset += by;
  }
  bool continued_by(const Vma& next, uint64_t by) const {
    return prot == next.prot && max_prot == next.max_prot && shared == next.shared &&
           grows_down == next.grows_down && locked == next.locked && noreserve == next.noreserve &&
           dont_fork == next.dont_fork && wipe_on_fork == next.wipe_on_fork &&
           dont_dump == next.dont_dump && source == next.source && opened == next.opened &&
           host_fd == next.host_fd && (!source || offset + by == next.offset) && name == next.name;
  }
};

// What is behind a range of guest addresses: what the platform was told to map there.
// A value of the mm's second RangeMap; each range lies within one vma.
struct Pages {
  enum class Kind : uint8_t {
    kPrivate,  // pages of the memory file that belong to this mapping, one reference each
    kSource,   // pages of the memory file that page_in gave, one reference each
    kHost,     // the host file of the vma's source
  };
  Kind kind = Kind::kPrivate;
  platform::Prot prot = platform::Prot::kNone;  // as installed
  // Not to be written through, whatever the vma allows: a private mapping copies first, a shared
  // one asks its source with for_write.
  bool cow = false;
  uint64_t offset = 0;     // in the memory file or in the host file
  int host_fd = -1;        // kHost
  Ref<PageSource> source;  // kHost, kSource

  bool in_memory_file() const { return kind != Kind::kHost; }
  Range extent(uint64_t size) const { return {offset, offset + size}; }

  void advance(uint64_t by) { offset += by; }
  bool continued_by(const Pages& next, uint64_t by) const {
    return kind == next.kind && prot == next.prot && cow == next.cow &&
           offset + by == next.offset && host_fd == next.host_fd && source == next.source;
  }
};

// What the platform installs for a page. On x86-64 without protection keys everything accessible
// is readable (mm/mmap.c: protection_map).
constexpr platform::Prot installed_prot(platform::Prot prot, bool cow) {
  using platform::Prot;
  if (prot == Prot::kNone) return Prot::kNone;
  const Prot usable = prot | Prot::kRead;
  return cow ? usable & (Prot::kRead | Prot::kExec) : usable;
}

}  // namespace boxrun::mm
