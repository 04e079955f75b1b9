// What the forked seed does before it jumps into stub text. It runs on a copy of the Sentry's
// memory after a raw clone: it may not allocate, lock or use anything else that belongs to a C
// library, and its file is compiled without sanitizers.
#pragma once
#include <linux/filter.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace boxrun::platform {

enum class SeedStep : uint32_t {
  kStart,
  kSession,
  kDescriptors,
  kThreadState,
  kSignals,
  kLimits,
  kCapabilities,
  kPrivileges,
  kFilter,
};
const char* seed_step_name(SeedStep step);

// Everything the child needs, prepared by the parent.
struct SeedChild {
  pid_t sentry = 0;
  int socket = -1;
  int memory_file = -1;
  int control_file = -1;
  uint64_t signal_handler = 0;  // 0: none
  uint64_t signal_restorer = 0;
  sock_fprog filter{};
  void* rseq_area = nullptr;
  size_t rseq_size = 0;  // 0: not registered
  // For boxrun_stub_seed, see there.
  uint64_t entry, below, above, above_size, message, request, descriptor, reply, page;
};

// When a step fails the child sends one packet, the step in its upper and the errno in its lower
// half, and ends.
[[noreturn]] void run_seed_child(const SeedChild& plan);

}  // namespace boxrun::platform
