#pragma once
#include <string_view>

namespace boxrun::abi {

// kSys_read and so on: Linux's own names, so that they can be found by searching for them.
enum SyscallNumber : int {
#define BOXRUN_SYSCALL(number, name) kSys_##name = number,  // NOLINT
#include "src/abi/syscall_numbers.def"
#undef BOXRUN_SYSCALL
};

struct SyscallName {
  int number;
  std::string_view name;
};
// For those who know calls by name only: profiles, completions.
inline constexpr SyscallName kSyscallNames[] = {
#define BOXRUN_SYSCALL(number, name) {number, #name},
#include "src/abi/syscall_numbers.def"
#undef BOXRUN_SYSCALL
};

}  // namespace boxrun::abi
