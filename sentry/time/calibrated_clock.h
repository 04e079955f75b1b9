#pragma once
#include <atomic>
#include <optional>

#include "sentry/time/clock.h"
#include "sentry/time/time_page.h"
#include "src/base/sync.h"

namespace boxrun {

// The clock of a sandbox whose guests read the time without a system call. Publishes in a TimePage
// how the time follows from the TSC, and answers system calls by the same formula, so that a
// program never sees the two disagree. There is no timer behind it: whoever asks for the time
// through a system call after the page has gone stale measures anew, so an idle sandbox does not
// wake up. Without an invariant TSC the page stays invalid and the host is asked each time.
class CalibratedClock final : public Clock {
 public:
  // `page` is shared with the guest (read-only there) and outlives this object.
  explicit CalibratedClock(TimePage& page);

  Nanos realtime() const override;
  Nanos monotonic() const override;
  Nanos boottime() const override;

 private:
  // The host's clocks and the TSC, read within a few hundred cycles of each other.
  struct Sample {
    uint64_t tsc;
    Nanos monotonic, realtime, boottime;
  };
  static Sample take_sample();
  void refresh() const EXCLUDES(mutex_);
  void publish_locked(const Sample& now) const REQUIRES(mutex_);
  // The page's answer for one clock; nothing when it is stale or invalid.
  std::optional<Nanos> from_page(int64_t TimePage::*base) const;
  Nanos now(int64_t TimePage::*base, clockid_t id) const;

  TimePage& page_;
  const bool usable_;
  mutable Mutex mutex_{Rank::kTimers};
  mutable std::optional<Sample> first_ GUARDED_BY(mutex_);
};

}  // namespace boxrun
