#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "platforms/platform.h"
#include "platforms/systrap/control_file.h"
#include "platforms/systrap/layout.h"
#include "src/base/ref.h"

namespace boxrun::platform {

// A page of the control file that stubs map read-execute. Freed with its last user, who must have
// it out of reach of every stub by then.
class CodePage final : public RefCounted {
 public:
  static Result<Ref<CodePage>> create(ControlFile& file);
  ~CodePage() override { file_.free_code(number_); }

  std::span<std::byte, kPageSize> bytes() const { return file_.code(number_); }
  // mmap(2) at `address` of a stub.
  StubCall map_at(uint64_t address) const;

 private:
  CodePage(ControlFile& file, uint32_t number) : file_(file), number_(number) {}
  ControlFile& file_;
  const uint32_t number_;
};

// The call sites of one guest process that were made to jump to the stub's text instead of
// trapping. What stands before the `syscall` gives way to a jump; the `syscall` stays, so that a
// thread between the two just traps. Sites are, with the C library that uses them:
//
//   mov $number,%eax; syscall            most calls of glibc and musl
//   mov 8(%rsp),%r9; syscall             syscall(3) of glibc
//   xor %eax,%eax; syscall; cmp; ja; ret; a long nop       read(2) of glibc: a short jump, to a
//                                        jump in place of the nop, which nothing executes
//
// The jump leads to a trampoline on a page near by: it executes what gave way, then goes to
// boxrun_systrap_call or, where gs is the guest's own, to the `syscall`.
//
// A page of text is never changed in place: its next version is written, then mapped over it, so no
// thread sees half a jump. Not thread-safe. A copy is what a forked process has.
class CallPatches {
 public:
  explicit CallPatches(const SystrapLayout& layout) : layout_(layout) {}

  // The calls that bring in the next version of the page around `site`; none if it is no site of
  // the kinds above, or there are too many. To be followed by done(), with those that were made.
  std::vector<StubCall> plan(ControlFile& file, const AddressSpace::CallSite& site);
  void done(std::span<const StubCall> calls);

  // The calls that must come before `ops`: pages whose protection changes are the guest's own
  // again, all of them are when the trampolines go.
  std::vector<StubCall> make_way(std::span<const Op> ops);
  // Calls that were made: nothing holds pages any more that they unmapped or replaced.
  void unmapped(std::span<const StubCall> calls);

 private:
  static constexpr size_t kMaxPages = 128;
  static constexpr uint32_t kTrampolineSize = 64;
  static constexpr uint32_t kMaxTrampolines = kPageSize / kTrampolineSize;

  // Offsets in a page.
  struct Site {
    uint64_t start = 0;      // of what gives way
    uint64_t end = 0;        // of that, where the `syscall` begins
    uint64_t long_jump = 0;  // where there are five bytes for the jump to the trampoline
  };
  static bool find_site(std::span<const std::byte> page, uint64_t end, uint64_t number, Site& site);
  Result<void> prepare(ControlFile& file, const AddressSpace::CallSite& where, const Site& site);
  void write_trampoline(std::span<const std::byte> displaced, uint64_t ip) const;

  const SystrapLayout layout_;
  std::map<uint64_t, Ref<CodePage>> pages_;  // by guest address
  Ref<CodePage> trampolines_;
  uint64_t trampolines_at_ = 0;  // guest address
  uint32_t used_ = 1;            // trampolines; in place of the first is the address of the entry
  bool retired_ = false;         // the guest mapped something over the trampolines
  // Between plan() and done().
  Ref<CodePage> next_page_;
  Ref<CodePage> next_trampolines_;
  uint64_t next_at_ = 0;
  uint64_t next_trampolines_at_ = 0;
};

}  // namespace boxrun::platform
