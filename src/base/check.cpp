#include "src/base/check.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" const char __executable_start[];  // NOLINT: set by the linker, and named so

namespace boxrun {
namespace {

// The return addresses on the stack, as offsets for `addr2line -e boxrun`. By frame pointers, which
// every build has: a sealed process can load no unwinder.
void print_callers() {
  constexpr int kMaxFrames = 24;
  auto* frame = static_cast<uintptr_t*>(__builtin_frame_address(0));
  for (int i = 0; i < kMaxFrames && frame != nullptr; i++) {
    char line[64];
    const int n = snprintf(line, sizeof line, "  at boxrun+%#lx\n",
                           frame[1] - reinterpret_cast<uintptr_t>(__executable_start));
    if (n > 0) (void)!write(STDERR_FILENO, line, static_cast<size_t>(n));
    auto* next = reinterpret_cast<uintptr_t*>(frame[0]);
    if (next <= frame) break;
    frame = next;
  }
}

}  // namespace

void check_failed(const char* file, int line, const char* text) {
  char message[512];
  int n = snprintf(message, sizeof message, "boxrun: %s:%d: CHECK failed: %s\n", file, line, text);
  if (n > static_cast<int>(sizeof message) - 1) n = sizeof message - 1;
  if (n > 0) (void)!write(STDERR_FILENO, message, static_cast<size_t>(n));
  print_callers();
  abort();
}

}  // namespace boxrun
