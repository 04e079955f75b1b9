#include "sentry/loader/image.h"

#include <sys/random.h>

#include <vector>

namespace boxrun::loader {
namespace {

using mm::MapRequest;
using mm::Prot;

constexpr uint64_t kDynBase = 0x5555'5555'4000;     // arch/x86/include/asm/elf.h
constexpr uint64_t kDynRandom = uint64_t{1} << 40;  // 28 bits of pages

uint64_t align_down(uint64_t v, uint64_t alignment) { return v & ~(alignment - 1); }

Result<void> map_at(mm::MemoryManager& mm, Range pages, Prot prot, const ImageFile& file,
                    uint64_t offset, MapRequest::Placement placement, const mm::Limits& limits) {
  MapRequest request;
  request.addr = pages.start;
  request.length = pages.size();
  request.prot = prot;
  request.placement = placement;
  request.source = file.source;
  request.opened = file.opened;
  request.offset = offset;
  TRY(mm.map(request, limits));
  return {};
}

// The file's part, then the zeroes up to memsz: the rest of the last page by writing, whole pages
// by anonymous memory (fs/binfmt_elf.c: elf_load).
Result<void> map_segment(mm::MemoryManager& mm, const LoadSegment& segment, uint64_t bias,
                         const ImageFile& file, MapRequest::Placement placement,
                         const mm::Limits& limits) {
  const uint64_t start = segment.vaddr + bias;
  const uint64_t file_end = start + segment.filesz;
  const uint64_t end = start + segment.memsz;
  uint64_t anonymous_from = page_down(start);
  if (segment.filesz > 0) {
    anonymous_from = *page_up(file_end);
    TRY(map_at(mm, {page_down(start), anonymous_from}, segment.prot, file,
               page_down(segment.offset), placement, limits));
    // To the end of the page, beyond memsz: dynamic linkers allocate from there.
    if (end > file_end && platform::has(segment.prot, Prot::kWrite)) {
      TRY(mm.zero(file_end, anonymous_from - file_end));
    }
  }
  if (*page_up(end) > anonymous_from) {
    TRY(map_at(mm, {anonymous_from, *page_up(end)}, segment.prot, {}, 0, placement, limits));
  }
  return {};
}

// Finds room for `size` bytes at an aligned address without mapping anything yet: nobody else runs
// in this memory.
Result<uint64_t> find_room(mm::MemoryManager& mm, uint64_t hint, uint64_t size, uint64_t alignment,
                           const mm::Limits& limits) {
  MapRequest probe;
  probe.addr = hint;
  probe.length = size + (alignment > kPageSize ? alignment : 0);
  probe.noreserve = true;
  const uint64_t at = TRY(mm.map(probe, limits));
  TRY(mm.unmap(at, probe.length));
  return align_down(at + alignment - 1, alignment);
}

}  // namespace

uint64_t random_offset(uint64_t limit, Aslr aslr) {
  if (aslr == Aslr::kOff) return 0;
  uint64_t value = 0;
  if (getrandom(&value, sizeof value, 0) != sizeof value) return 0;
  return page_down(value & (limit - 1));
}

Result<Placed> place_image(mm::MemoryManager& mm, const ElfFile& elf, const ImageFile& file,
                           Where where, Aslr aslr, const mm::Limits& limits) {
  const uint64_t lowest = elf.lowest();
  const uint64_t size = *page_up(elf.highest()) - lowest;
  Placed placed;
  if (elf.relocatable) {
    const uint64_t hint =
        where == Where::kProgramBase
            ? align_down(kDynBase + random_offset(kDynRandom, aslr), elf.alignment)
            : 0;
    placed.bias = TRY(find_room(mm, hint, size, elf.alignment, limits)) - lowest;
  }
  placed.start = lowest + placed.bias;
  placed.end = elf.highest() + placed.bias;
  const auto placement =
      elf.relocatable ? MapRequest::Placement::kFixed : MapRequest::Placement::kFixedNoReplace;
  // Segments of one file may share a page, where the later one wins; only the first may collide
  // with what was there before.
  bool first = true;
  for (const LoadSegment& segment : elf.segments) {
    TRY(map_segment(mm, segment, placed.bias, file,
                    first ? placement : MapRequest::Placement::kFixed, limits));
    first = false;
  }
  return placed;
}

}  // namespace boxrun::loader
