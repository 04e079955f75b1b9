#include <elf.h>
#include <limits.h>

#include <cstring>
#include <map>
#include <string>

#include "sentry/loader/elf.h"
#include "sentry/loader/stack.h"
#include "src/base/bytes.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::loader;

namespace {

class BufferReader final : public ImageReader {
 public:
  explicit BufferReader(std::string bytes) : bytes_(std::move(bytes)) {}
  Result<size_t> read_at(uint64_t offset, std::span<std::byte> to) override {
    if (offset >= bytes_.size()) return size_t{0};
    const size_t n = std::min<size_t>(to.size(), bytes_.size() - offset);
    memcpy(to.data(), bytes_.data() + offset, n);
    return n;
  }

 private:
  std::string bytes_;
};

struct Builder {
  Elf64_Ehdr header{};
  std::vector<Elf64_Phdr> phdrs;
  std::string tail;  // starts at file offset 0x1000

  Builder() {
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_type = ET_DYN;
    header.e_machine = EM_X86_64;
    header.e_entry = 0x1010;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    load(0, 0, 0x800, 0x800, PF_R);
    load(0x1000, 0x1000, 0x20, 0x4000, PF_R | PF_X);
  }
  void load(uint64_t vaddr, uint64_t offset, uint64_t filesz, uint64_t memsz, uint32_t flags) {
    phdrs.push_back({PT_LOAD, flags, offset, vaddr, vaddr, filesz, memsz, 0x1000});
  }
  Result<ElfFile> parse() {
    header.e_phnum = static_cast<uint16_t>(phdrs.size());
    std::string file(reinterpret_cast<const char*>(&header), sizeof header);
    file.append(reinterpret_cast<const char*>(phdrs.data()), phdrs.size() * sizeof(Elf64_Phdr));
    if (!tail.empty()) {
      file.resize(0x1000);
      file += tail;
    }
    BufferReader reader(file);
    return parse_elf(reader);
  }
};

}  // namespace

TEST_CASE("a PIE is parsed") {
  Builder b;
  const auto elf = b.parse();
  REQUIRE(elf.ok());
  CHECK(elf->relocatable);
  CHECK(elf->entry == 0x1010);
  CHECK(elf->segments.size() == 2);
  CHECK(elf->phdr_vaddr == sizeof(Elf64_Ehdr));
  CHECK(elf->highest() == 0x5000);
  CHECK(elf->segments[1].prot == (platform::Prot::kRead | platform::Prot::kExec));
}

TEST_CASE("an interpreter is a terminated path") {
  Builder b;
  b.tail = std::string("/lib/ld.so\0", 11);
  b.phdrs.push_back({PT_INTERP, PF_R, 0x1000, 0, 0, 11, 11, 1});
  CHECK(b.parse()->interpreter == "/lib/ld.so");
  b.phdrs.back().p_filesz = 10;
  CHECK(b.parse().error() == Errno::kNoExec);
  b.phdrs.back().p_filesz = PATH_MAX + 1;
  CHECK(b.parse().error() == Errno::kNoExec);
}

TEST_CASE("what Linux would not run is ENOEXEC") {
  auto refused = [](auto change) {
    Builder b;
    change(b);
    return b.parse().error() == Errno::kNoExec;
  };
  CHECK(refused([](Builder& b) { b.header.e_ident[0] = 'x'; }));
  CHECK(refused([](Builder& b) { b.header.e_ident[EI_CLASS] = ELFCLASS32; }));
  CHECK(refused([](Builder& b) { b.header.e_machine = EM_AARCH64; }));
  CHECK(refused([](Builder& b) { b.header.e_type = ET_REL; }));
  CHECK(refused([](Builder& b) { b.header.e_phentsize = 32; }));
  CHECK(refused([](Builder& b) { b.phdrs.clear(); }));
  CHECK(refused([](Builder& b) { b.header.e_phoff = UINT64_MAX - 8; }));
  CHECK(refused([](Builder& b) { b.phdrs[1].p_filesz = 0x5000; }));
  CHECK(refused([](Builder& b) { b.phdrs[1].p_memsz = UINT64_MAX - 4; }));
  CHECK(refused([](Builder& b) { b.phdrs[1].p_vaddr = uint64_t{1} << 47; }));
  CHECK(refused([](Builder& b) { b.phdrs[1].p_offset = 0x1001; }));
  CHECK(refused([](Builder& b) { std::swap(b.phdrs[0], b.phdrs[1]); }));
}

TEST_CASE("the initial stack has the shape of the ABI") {
  StackContents c;
  c.argv = {"prog", "a b"};
  c.envp = {"HOME=/", "X=1"};
  c.filename = "/bin/prog";
  c.auxv = {{AT_PAGESZ, 4096}};
  const uint64_t top = 0x7ffff000;
  const auto stack = build_stack(c, top, 8 << 20);
  REQUIRE(stack.ok());
  CHECK(stack->start % 16 == 0);
  CHECK(stack->start + stack->bytes.size() == top);
  const auto word = [&](uint64_t i) {
    uint64_t v;
    memcpy(&v, &stack->bytes[i * 8], 8);
    return v;
  };
  const auto text = [&](uint64_t addr) {
    return std::string(reinterpret_cast<const char*>(&stack->bytes[addr - stack->start]));
  };
  CHECK(word(0) == 2);
  CHECK(text(word(1)) == "prog");
  CHECK(text(word(2)) == "a b");
  CHECK(word(3) == 0);
  CHECK(text(word(5)) == "X=1");
  CHECK(word(6) == 0);
  std::map<uint64_t, uint64_t> aux;
  for (uint64_t i = 7; word(i) != AT_NULL; i += 2) aux[word(i)] = word(i + 1);
  CHECK(aux[AT_PAGESZ] == 4096);
  CHECK(text(aux[AT_EXECFN]) == "/bin/prog");
  CHECK(text(aux[AT_PLATFORM]) == "x86_64");
  CHECK(stack->args.size() == 9);
  CHECK(text(stack->args.start) == "prog");
  CHECK(stack->args.end == stack->env.start);
}

TEST_CASE("too many arguments are E2BIG") {
  StackContents c;
  c.argv = {std::string(131072, 'x')};
  CHECK(build_stack(c, 0x7ffff000, 8 << 20).error() == Errno::k2Big);
  c.argv = {std::string(131071, 'x')};
  CHECK(build_stack(c, 0x7ffff000, 8 << 20).ok());
  c.argv.assign(20, std::string(131000, 'x'));
  CHECK(build_stack(c, 0x7ffff000, 8 << 20).error() == Errno::k2Big);
}
