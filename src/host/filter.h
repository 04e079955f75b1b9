// Seccomp allow-lists: one table of rows per kind of process, everything else kills the process.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "src/base/failure.h"

namespace boxrun::host {

// One condition on an argument: (argument & mask) == value. A mask of 0 is no condition.
struct ArgCheck {
  uint8_t index = 0;  // 0..5
  uint64_t mask = 0;
  uint64_t value = 0;
};

// One allowed system call. Rows with the same number are alternatives; within a row all checks must
// hold. Pointers that an argument leads to cannot be checked (seccomp(2)).
struct FilterRow {
  int number = -1;
  std::string_view user;  // who needs it, in a few words
  std::array<ArgCheck, 3> checks{};
};

// Conditions that read well in a table.
constexpr ArgCheck arg_is(uint8_t index, uint64_t value) { return {index, UINT64_MAX, value}; }
// For arguments the kernel takes as 32-bit integers: the upper half is not looked at by either
// side.
constexpr ArgCheck arg32_is(uint8_t index, uint32_t value) { return {index, UINT32_MAX, value}; }
constexpr ArgCheck arg_has(uint8_t index, uint64_t bits) { return {index, bits, bits}; }
constexpr ArgCheck arg_lacks(uint8_t index, uint64_t bits) { return {index, bits, 0}; }

// Which of our processes a table is for. Stubs are the platforms' business.
enum class ProcessKind : uint8_t { kMonitor, kGofer, kSentry };
std::string_view process_name(ProcessKind kind);

// The rows that every process of this kind has: what the C++ run time and its own code need.
std::vector<FilterRow> rows_of(ProcessKind kind);

// Everything install_filter would allow: rows_of(kind) and those of the platform or the Gofer.
std::vector<FilterRow> all_rows(ProcessKind kind, std::span<const FilterRow> extra);

// Puts the filter on all threads of the process, for good. clone3 answers ENOSYS (glibc then uses
// clone, whose flags can be checked), clone only makes threads. Needs no_new_privs.
MaybeFailure install_filter(std::span<const FilterRow> rows);

}  // namespace boxrun::host
