#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "platforms/platform.h"
#include "src/base/result.h"

namespace boxrun::loader {

// Where the bytes of an executable come from: an open file, or a buffer in tests.
class ImageReader {
 public:
  // Fills `to` from `offset`; fewer bytes only at the end of the file.
  virtual Result<size_t> read_at(uint64_t offset, std::span<std::byte> to) = 0;

 protected:
  ~ImageReader() = default;
};

// One PT_LOAD header, checked: filesz <= memsz, nothing wraps, the end is a user address.
struct LoadSegment {
  uint64_t vaddr;
  uint64_t memsz;
  uint64_t offset;
  uint64_t filesz;
  platform::Prot prot;
};

// What execve needs to know of an x86-64 ELF file (elf(5)).
struct ElfFile {
  bool relocatable = false;  // ET_DYN: PIE, static PIE, or a dynamic linker
  uint64_t entry = 0;
  uint64_t phdr_vaddr = 0;  // of the program headers in memory; 0 when no segment holds them
  uint16_t phnum = 0;
  uint64_t alignment = 0;  // largest p_align of a PT_LOAD, a power of two >= 4096
  bool executable_stack = false;
  std::string interpreter;            // PT_INTERP; empty when static
  std::vector<LoadSegment> segments;  // ascending, at least one

  uint64_t lowest() const;   // page of the first segment
  uint64_t highest() const;  // one past the last byte in memory
};

// Reads and checks the headers. ENOEXEC for anything Linux would not run: not ELF, 32-bit, another
// machine, ET_REL, senseless headers (fs/binfmt_elf.c: load_elf_binary, load_elf_phdrs); errors of
// `file` are passed on. Every number in the file is taken as hostile.
Result<ElfFile> parse_elf(ImageReader& file);

}  // namespace boxrun::loader
