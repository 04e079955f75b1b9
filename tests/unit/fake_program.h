// An ELF file for the fake platform: its "code" is the lambda that FakePlatform::add_program has at
// kFakeEntry, and it has data to work with.
#pragma once
#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "src/base/range.h"

namespace boxrun::test {

inline constexpr uint64_t kFakeEntry = 0x400100;  // in the first page of the file
inline constexpr uint64_t kFakeData = 0x10000000;
inline constexpr uint64_t kFakeDataSize = 0x10000;

inline std::string fake_program() {
  struct {
    Elf64_Ehdr header{};
    Elf64_Phdr segments[2]{};
  } file;
  std::copy_n(ELFMAG, SELFMAG, file.header.e_ident);
  file.header.e_ident[EI_CLASS] = ELFCLASS64;
  file.header.e_type = ET_EXEC;
  file.header.e_machine = EM_X86_64;
  file.header.e_entry = kFakeEntry;
  file.header.e_phoff = sizeof file.header;
  file.header.e_phentsize = sizeof(Elf64_Phdr);
  file.header.e_phnum = 2;
  const uint64_t code = page_down(kFakeEntry);
  file.segments[0] = {PT_LOAD, PF_R | PF_X, 0, code, code, kPageSize, kPageSize, kPageSize};
  file.segments[1] = {PT_LOAD, PF_R | PF_W, 0, kFakeData, kFakeData, 0, kFakeDataSize, kPageSize};
  std::string bytes(reinterpret_cast<const char*>(&file), sizeof file);
  bytes.resize(kPageSize);
  return bytes;
}

}  // namespace boxrun::test
