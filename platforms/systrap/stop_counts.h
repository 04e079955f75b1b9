#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "platforms/platform.h"

namespace boxrun::platform {

enum class StopCount : uint8_t {
  kTrapped,  // system calls that were signals
  kPatched,  // those of patched call sites
  kFaults,
  kExceptions,
  kInterrupts,
  kAwake,       // stops that the host thread waited for awake
  kHostAsleep,  // turns whose end the host thread slept for, although it may spin
  kStubAsleep,  // the same of the stub
  kLast = kStubAsleep,
};

// What all contexts of a platform counted.
class StopTotals {
 public:
  static constexpr size_t kCounts = static_cast<size_t>(StopCount::kLast) + 1;
  using Counts = std::array<uint64_t, kCounts>;

  void add(const Counts& counts) {
    for (size_t i = 0; i < kCounts; i++) totals_[i].fetch_add(counts[i], std::memory_order_relaxed);
  }
  std::vector<Counter> counters() const {
    static constexpr std::array<std::string_view, kCounts> kNames{
        "calls trapped",     "calls patched",     "faults",
        "exceptions",        "interrupts",        "waited awake",
        "host thread slept", "guest thread slept"};
    std::vector<Counter> out;
    for (size_t i = 0; i < kCounts; i++) out.push_back({kNames[i], totals_[i].load()});
    return out;
  }

 private:
  std::array<std::atomic<uint64_t>, kCounts> totals_{};
};

// What one context counts, for itself: nobody else's cache line.
class StopCounter {
 public:
  explicit StopCounter(StopTotals& totals) : totals_(totals) {}
  ~StopCounter() { flush(); }
  StopCounter(const StopCounter&) = delete;
  StopCounter& operator=(const StopCounter&) = delete;

  void count(StopCount what) {
    uint64_t& value = counts_[static_cast<size_t>(what)];
    if (++value % 1024 == 0) flush();
  }

 private:
  void flush() {
    totals_.add(counts_);
    counts_ = {};
  }

  StopTotals& totals_;
  StopTotals::Counts counts_{};
};

}  // namespace boxrun::platform
