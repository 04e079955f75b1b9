#pragma once
#include <cstdint>

namespace boxrun {

// What the vDSO computes the time from: one page per sandbox, written by the Sentry, mapped
// read-only in every guest process just below the vDSO image. A sequence lock: odd while it is
// being written. Also compiled into the vDSO itself, so plain types only.
struct TimePage {
  uint32_t sequence;
  uint32_t valid;           // 0: the vDSO must make the system call
  uint64_t base_tsc;        // TSC at the moment the other bases speak of
  uint64_t max_delta;       // ticks after base_tsc for which they hold
  uint64_t ns_per_tick_32;  // nanoseconds per tick, 32.32 fixed point
  int64_t monotonic;        // nanoseconds at base_tsc
  int64_t realtime;
  int64_t boottime;
};

}  // namespace boxrun
