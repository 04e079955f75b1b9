#include "sentry/loader/elf.h"

#include <elf.h>
#include <limits.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "src/base/bytes.h"
#include "src/base/range.h"

namespace boxrun::loader {
namespace {

using platform::Prot;

// Linux allows program headers of at most 64 KiB (fs/binfmt_elf.c: load_elf_phdrs).
constexpr size_t kMaxProgramHeaders = 65536 / sizeof(Elf64_Phdr);
constexpr uint64_t kUserEnd = uint64_t{1} << 47;

Result<void> read_exactly(ImageReader& file, uint64_t offset, std::span<std::byte> to) {
  if (TRY(file.read_at(offset, to)) != to.size()) return Errno::kNoExec;
  return {};
}

Result<Elf64_Ehdr> read_header(ImageReader& file) {
  Elf64_Ehdr header{};
  TRY(read_exactly(file, 0, writable_bytes_of(header)));
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return Errno::kNoExec;
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64)
    return Errno::kNoExec;
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) return Errno::kNoExec;
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return Errno::kNoExec;
  if (header.e_phnum < 1 || header.e_phnum > kMaxProgramHeaders) return Errno::kNoExec;
  return header;
}

Prot segment_prot(uint32_t flags) {
  Prot prot = Prot::kNone;
  if ((flags & PF_R) != 0) prot = prot | Prot::kRead;
  if ((flags & PF_W) != 0) prot = prot | Prot::kWrite;
  if ((flags & PF_X) != 0) prot = prot | Prot::kExec;
  return prot;
}

Result<void> add_segment(const Elf64_Phdr& ph, ElfFile& elf) {
  if (ph.p_memsz == 0) return {};
  if (ph.p_filesz > ph.p_memsz) return Errno::kNoExec;
  const auto memory = Range::make(ph.p_vaddr, ph.p_memsz);
  const auto in_file = Range::make(ph.p_offset, ph.p_filesz);
  if (!memory || memory->end > kUserEnd || !in_file || in_file->end > INT64_MAX - kPageSize) {
    return Errno::kNoExec;
  }
  // mmap could not place it otherwise.
  if (ph.p_vaddr % kPageSize != ph.p_offset % kPageSize) return Errno::kNoExec;
  if (!elf.segments.empty() && page_down(ph.p_vaddr) < page_down(elf.segments.back().vaddr)) {
    return Errno::kNoExec;
  }
  elf.segments.push_back(
      {ph.p_vaddr, ph.p_memsz, ph.p_offset, ph.p_filesz, segment_prot(ph.p_flags)});
  // An alignment that is no power of two is ignored, as Linux does (maximum_alignment).
  if (std::has_single_bit(ph.p_align)) elf.alignment = std::max(elf.alignment, ph.p_align);
  return {};
}

Result<void> read_interpreter(ImageReader& file, const Elf64_Phdr& ph, ElfFile& elf) {
  if (!elf.interpreter.empty()) return {};  // the first one counts
  if (ph.p_filesz < 2 || ph.p_filesz > PATH_MAX) return Errno::kNoExec;
  std::string path(ph.p_filesz, '\0');
  TRY(read_exactly(file, ph.p_offset, std::as_writable_bytes(std::span(path))));
  if (path.back() != '\0') return Errno::kNoExec;
  path.resize(strlen(path.c_str()));
  if (path.empty()) return Errno::kNoExec;
  elf.interpreter = std::move(path);
  return {};
}

}  // namespace

uint64_t ElfFile::lowest() const { return page_down(segments.front().vaddr); }

uint64_t ElfFile::highest() const {
  uint64_t end = 0;
  for (const LoadSegment& s : segments) end = std::max(end, s.vaddr + s.memsz);
  return end;
}

Result<ElfFile> parse_elf(ImageReader& file) {
  const Elf64_Ehdr header = TRY(read_header(file));
  std::vector<Elf64_Phdr> phdrs(header.e_phnum);
  TRY(read_exactly(file, header.e_phoff, std::as_writable_bytes(std::span(phdrs))));

  ElfFile elf;
  elf.relocatable = header.e_type == ET_DYN;
  elf.entry = header.e_entry;
  elf.phnum = header.e_phnum;
  elf.alignment = kPageSize;
  for (const Elf64_Phdr& ph : phdrs) {
    if (ph.p_type == PT_LOAD) TRY(add_segment(ph, elf));
    if (ph.p_type == PT_INTERP) TRY(read_interpreter(file, ph, elf));
    if (ph.p_type == PT_GNU_STACK) elf.executable_stack = (ph.p_flags & PF_X) != 0;
  }
  if (elf.segments.empty()) return Errno::kNoExec;
  for (const LoadSegment& s : elf.segments) {
    if (header.e_phoff >= s.offset && header.e_phoff - s.offset < s.filesz) {
      elf.phdr_vaddr = header.e_phoff - s.offset + s.vaddr;
      break;
    }
  }
  return elf;
}

}  // namespace boxrun::loader
