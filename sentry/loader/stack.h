#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "src/base/range.h"
#include "src/base/result.h"

namespace boxrun::loader {

// The strings and vectors that execve(2) puts on a new program's stack.
struct StackContents {
  std::vector<std::string> argv;
  std::vector<std::string> envp;
  std::string filename;                // AT_EXECFN
  std::array<std::byte, 16> random{};  // AT_RANDOM
  // Auxiliary vector without AT_RANDOM, AT_EXECFN, AT_PLATFORM and AT_NULL, which are added here.
  std::vector<std::pair<uint64_t, uint64_t>> auxv;
};

// A stack built below `top`, as bytes to be copied to `start`.
struct Stack {
  uint64_t start = 0;  // where bytes go; also the initial rsp, 16-byte aligned
  std::vector<std::byte> bytes;
  Range args;  // the argument strings, for /proc/PID/cmdline
  Range env;
  std::vector<std::byte> auxv;  // for /proc/PID/auxv and PR_GET_AUXV
};

// E2BIG when the strings and pointers exceed what Linux allows under `stack_limit` bytes: a quarter
// of RLIMIT_STACK, at least 128 KiB, at most 6 MiB; one string 128 KiB (fs/exec.c:
// bprm_stack_limits, MAX_ARG_STRLEN).
Result<Stack> build_stack(const StackContents& contents, uint64_t top, uint64_t stack_limit);

}  // namespace boxrun::loader
