// Puts a parsed ELF file into a process's memory.
#pragma once
#include <cstdint>

#include "sentry/loader/elf.h"
#include "sentry/mm/memory_manager.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::loader {

using Aslr = mm::MemoryManager::Aslr;

struct Placed {
  uint64_t bias = 0;  // added to every address in the file
  uint64_t start = 0;
  uint64_t end = 0;  // one past the last byte, not rounded
};

// A program or dynamic linker as it is mapped.
struct ImageFile {
  Ref<mm::PageSource> source;
  Ref<RefCounted> opened;  // mm::MapRequest::opened
};

// Where a position-independent file goes.
enum class Where : uint8_t {
  kProgramBase,  // PIE: two thirds up the address space (ELF_ET_DYN_BASE), randomised
  kMmapBase,     // dynamic linkers, static PIE: where mmap would put it
};

// Maps every segment of `elf` from `file` and zeroes what the file does not have. ENOMEM, and
// EEXIST where the fixed addresses of an ET_EXEC file are taken.
Result<Placed> place_image(mm::MemoryManager& mm, const ElfFile& elf, const ImageFile& file,
                           Where where, Aslr aslr, const mm::Limits& limits);

// A random multiple of the page size below `limit` (a power of two); 0 with Aslr::kOff.
uint64_t random_offset(uint64_t limit, Aslr aslr);

}  // namespace boxrun::loader
