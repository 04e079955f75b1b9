#include "sentry/time/clock.h"

namespace boxrun {
namespace {

Nanos read(clockid_t id) {
  timespec now{};
  clock_gettime(id, &now);
  return from_timespec(now);
}

}  // namespace

Nanos Clock::realtime() const { return read(CLOCK_REALTIME); }
Nanos Clock::monotonic() const { return read(CLOCK_MONOTONIC); }
Nanos Clock::boottime() const { return read(CLOCK_BOOTTIME); }

}  // namespace boxrun
