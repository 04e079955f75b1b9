#include "src/host/filter_program.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

namespace boxrun::host {
namespace {

using Program = std::vector<sock_filter>;

constexpr uint16_t kLoad = BPF_LD | BPF_W | BPF_ABS;
constexpr uint16_t kAnd = BPF_ALU | BPF_AND | BPF_K;
constexpr uint16_t kJumpIfEqual = BPF_JMP | BPF_JEQ | BPF_K;
constexpr uint16_t kJumpIfAtLeast = BPF_JMP | BPF_JGE | BPF_K;
constexpr uint16_t kJump = BPF_JMP | BPF_JA;
constexpr uint16_t kReturn = BPF_RET | BPF_K;
constexpr uint32_t kRefuse = SECCOMP_RET_ERRNO | ENOSYS;
constexpr uint32_t kX32Bit = 0x40000000;  // __X32_SYSCALL_BIT of asm/unistd.h

void append(Program& program, const Program& more) {
  program.insert(program.end(), more.begin(), more.end());
}

// Skips the next `skip` instructions when the half word at `offset` does not have the wanted bits.
void append_half_check(Program& program, uint32_t offset, uint32_t mask, uint32_t value,
                       uint8_t skip) {
  program.push_back({kLoad, 0, 0, offset});
  if (mask != UINT32_MAX) program.push_back({kAnd, 0, 0, mask});
  program.push_back({kJumpIfEqual, 0, skip, value});
}

// The checks of one row, in reverse so that each knows how far it is to the end of the row.
Program row_code(const FilterRow& row) {
  Program code = {{kReturn, 0, 0, SECCOMP_RET_ALLOW}};
  for (const ArgCheck& check : row.checks) {
    const auto offset =
        static_cast<uint32_t>(offsetof(seccomp_data, args) + sizeof(uint64_t) * check.index);
    for (const uint32_t half : {0U, 1U}) {  // little endian: the low half comes first
      const auto mask = static_cast<uint32_t>(check.mask >> (32 * half));
      if (mask == 0) continue;
      const auto value = static_cast<uint32_t>(check.value >> (32 * half));
      Program with;
      append_half_check(with, offset + 4 * half, mask, value, static_cast<uint8_t>(code.size()));
      append(with, code);
      code = std::move(with);
    }
  }
  return code;
}

bool is_unconditional(const FilterRow& row) {
  return std::all_of(row.checks.begin(), row.checks.end(),
                     [](const ArgCheck& c) { return c.mask == 0; });
}

// What happens to the call numbers from `first` up to the next interval's.
struct Interval {
  uint32_t first;
  Program code;  // ends in a return on every way
};

bool same(const Program& a, const Program& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const sock_filter& x, const sock_filter& y) {
                      return x.code == y.code && x.jt == y.jt && x.jf == y.jf && x.k == y.k;
                    });
}

void append_interval(std::vector<Interval>& intervals, uint32_t first, Program code) {
  if (!intervals.empty() && intervals.back().first == first) intervals.pop_back();
  if (!intervals.empty() && same(intervals.back().code, code)) return;
  intervals.push_back({first, std::move(code)});
}

// The alternatives of one number: whichever row's checks hold, else death.
Program number_code(std::span<const FilterRow> alternatives) {
  const auto is_free = std::find_if(alternatives.begin(), alternatives.end(), is_unconditional);
  if (is_free != alternatives.end()) return {{kReturn, 0, 0, SECCOMP_RET_ALLOW}};
  Program code;
  for (const FilterRow& row : alternatives) append(code, row_code(row));
  code.push_back({kReturn, 0, 0, SECCOMP_RET_KILL_PROCESS});
  return code;
}

std::vector<Interval> intervals_of(std::span<const FilterRow> rows) {
  std::vector<FilterRow> sorted(rows.begin(), rows.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const FilterRow& a, const FilterRow& b) { return a.number < b.number; });
  const Program kill = {{kReturn, 0, 0, SECCOMP_RET_KILL_PROCESS}};
  std::vector<Interval> intervals;
  append_interval(intervals, 0, kill);
  for (size_t i = 0, next = 0; i < sorted.size(); i = next) {
    while (next < sorted.size() && sorted[next].number == sorted[i].number) next++;
    const auto number = static_cast<uint32_t>(sorted[i].number);
    append_interval(intervals, number, number_code(std::span(sorted).subspan(i, next - i)));
    append_interval(intervals, number + 1, kill);
  }
  return intervals;
}

// A balanced tree of comparisons; the accumulator holds the number until an interval is found.
Program search_code(std::span<const Interval> intervals) {
  if (intervals.size() == 1) return intervals[0].code;
  const size_t middle = intervals.size() / 2;
  const Program left = search_code(intervals.first(middle));
  const auto distance = static_cast<uint32_t>(left.size());
  Program code;
  if (distance <= UINT8_MAX) {
    code.push_back({kJumpIfAtLeast, static_cast<uint8_t>(distance), 0, intervals[middle].first});
  } else {
    code.push_back({kJumpIfAtLeast, 0, 1, intervals[middle].first});
    code.push_back({kJump, 0, 0, distance});
  }
  append(code, left);
  append(code, search_code(intervals.subspan(middle)));
  return code;
}

}  // namespace

std::vector<sock_filter> compile_filter(std::span<const FilterRow> rows) {
  Program program = {
      {kLoad, 0, 0, offsetof(seccomp_data, arch)},
      {kJumpIfEqual, 1, 0, AUDIT_ARCH_X86_64},
      {kReturn, 0, 0, SECCOMP_RET_KILL_PROCESS},
      {kLoad, 0, 0, offsetof(seccomp_data, nr)},
      {kJumpIfAtLeast, 0, 1, kX32Bit},
      {kReturn, 0, 0, SECCOMP_RET_KILL_PROCESS},
      {kJumpIfEqual, 0, 1, SYS_clone3},
      {kReturn, 0, 0, kRefuse},
  };
  append(program, search_code(intervals_of(rows)));
  return program;
}

}  // namespace boxrun::host
