// Assembles a seccomp filter, a classic BPF program (seccomp(2)).
#pragma once
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

namespace boxrun::platform {

inline constexpr uint64_t kVsyscallPage = 0xffffffffff600000;

// One argument that must have this value, all 64 bits of it.
struct Exactly {
  unsigned arg;
  uint64_t value;
};

class FilterAssembler {
 public:
  // Answers calls of another architecture with `foreign`, traps those from the vsyscall page, which
  // the host would serve itself, and leaves the number in the accumulator.
  void begin(uint32_t foreign) {
    load(offsetof(seccomp_data, arch));
    skip_if_equal(AUDIT_ARCH_X86_64, 1);
    ret(foreign);
    // In the top 4 GiB of addresses there is nothing but that page that user code can call.
    load(offsetof(seccomp_data, instruction_pointer) + 4);
    skip_unless_equal(static_cast<uint32_t>(kVsyscallPage >> 32), 1);
    ret(SECCOMP_RET_TRAP);
    load(offsetof(seccomp_data, nr));
  }
  void load(size_t offset) { emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<uint32_t>(offset)); }
  void ret(uint32_t action) { emit(BPF_RET | BPF_K, 0, 0, action); }
  void skip_if_equal(uint32_t value, uint8_t count) {
    emit(BPF_JMP | BPF_JEQ | BPF_K, count, 0, value);
  }
  void skip_unless_equal(uint32_t value, uint8_t count) {
    emit(BPF_JMP | BPF_JEQ | BPF_K, 0, count, value);
  }

  void skip_if_at_least(uint32_t value, uint8_t if_so, uint8_t if_not = 0) {
    emit(BPF_JMP | BPF_JGE | BPF_K, if_so, if_not, value);
  }

  void allow(int number, std::initializer_list<Exactly> args = {}) {
    allow(number, std::span(args.begin(), args.size()));
  }
  // Allows `number` when every argument matches. Expects the number in the accumulator and leaves
  // it there for the next row.
  void allow(int number, std::span<const Exactly> args) {
    // Per argument: load, compare, load, compare; then the verdict, and a reload of the number.
    const size_t size = args.size() * 4 + 1 + (args.size() == 0 ? 0 : 1);
    size_t left = size;
    skip_unless_equal(static_cast<uint32_t>(number), static_cast<uint8_t>(left));
    for (const Exactly& a : args) {
      for (const size_t half : {size_t{0}, size_t{4}}) {
        load(offsetof(seccomp_data, args) + size_t{a.arg} * 8 + half);
        left -= 2;
        // To the reload behind the verdict.
        skip_unless_equal(static_cast<uint32_t>(a.value >> (half * 8)),
                          static_cast<uint8_t>(left - 1));
      }
    }
    ret(SECCOMP_RET_ALLOW);
    if (args.size() != 0) load(offsetof(seccomp_data, nr));
  }

  std::vector<sock_filter> take() { return std::move(program_); }

 private:
  void emit(uint16_t code, uint8_t if_true, uint8_t if_false, uint32_t k) {
    program_.push_back({code, if_true, if_false, k});
  }
  std::vector<sock_filter> program_;
};

}  // namespace boxrun::platform
