#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "sentry/time/clock.h"

namespace boxrun::trace {

// How many system calls took how long inside the Sentry, waiting included, for --stats.
// Thread-safe.
class CallTimes {
 public:
  struct Class {
    std::string_view name;
    Nanos below;
  };
  static constexpr std::array kClasses{
      Class{"calls below 1 us", 1'000},          Class{"calls below 10 us", 10'000},
      Class{"calls below 100 us", 100'000},      Class{"calls below 1 ms", 1'000'000},
      Class{"calls of 1 ms or more", INT64_MAX},
  };

  void count(Nanos took) {
    size_t i = 0;
    while (took >= kClasses[i].below && i + 1 < kClasses.size()) i++;
    counts_[i].fetch_add(1, std::memory_order_relaxed);
  }
  uint64_t of(size_t i) const { return counts_[i].load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<uint64_t>, kClasses.size()> counts_{};
};

}  // namespace boxrun::trace
