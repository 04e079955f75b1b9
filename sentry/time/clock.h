#pragma once
#include <time.h>

#include <cstdint>

namespace boxrun {

// Nanoseconds since a clock's epoch; what every time inside the Sentry is counted in.
using Nanos = int64_t;
inline constexpr Nanos kSecond = 1'000'000'000;

constexpr timespec to_timespec(Nanos t) {
  // Floored, so that times before the epoch keep 0 <= tv_nsec < 1e9.
  const Nanos s = t >= 0 ? t / kSecond : -((-t + kSecond - 1) / kSecond);
  return {s, t - s * kSecond};
}
// Saturates where seconds do not fit (about 292 years).
constexpr Nanos from_timespec(const timespec& t) {
  if (t.tv_sec >= INT64_MAX / kSecond) return INT64_MAX;
  if (t.tv_sec <= INT64_MIN / kSecond) return INT64_MIN;
  return t.tv_sec * kSecond + t.tv_nsec;
}
constexpr bool valid_timespec(const timespec& t) {
  return t.tv_sec >= 0 && t.tv_nsec >= 0 && t.tv_nsec < kSecond;
}

// The clocks of a sandbox (clock_gettime(2)). They are the host's: a guest cannot set them. Fake
// clocks in tests derive from it.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Nanos realtime() const;
  virtual Nanos monotonic() const;
  virtual Nanos boottime() const;
};

}  // namespace boxrun
