#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "src/report/record.h"
#include "src/report/wire.h"

namespace boxrun::report {

// Everything that the Sentry streamed, in the monitor's memory: bounded whatever the Sentry sends,
// and complete as far as it got when the Sentry dies. Used by one thread.
class Collector {
 public:
  static constexpr size_t kMaxRecords = 1000;
  static constexpr size_t kMaxChanges = 10'000;
  static constexpr size_t kMaxStatistics = 100;

  // Takes one packet; what cannot be a message of an honest Sentry is counted and dropped.
  void take(std::span<const std::byte> packet);

  const std::vector<Record>& records() const { return records_; }
  const std::vector<Change>& changes() const { return changes_; }
  const std::vector<Statistic>& statistics() const { return statistics_; }
  // Violations that are counted but not among records().
  uint64_t unrecorded() const { return sender_unrecorded_ + dropped_; }
  uint64_t changes_dropped() const { return changes_dropped_; }
  uint64_t bad_packets() const { return bad_packets_; }

 private:
  void take(Sighting&& sighting);
  void take(const CountUpdate& update);
  void take(const Unrecorded& unrecorded);
  void take(Change&& change);
  void take(Statistic&& statistic);

  std::vector<Record> records_;
  std::unordered_map<uint32_t, size_t> index_;  // by the Sentry's id
  std::vector<Change> changes_;
  std::vector<Statistic> statistics_;
  uint64_t sender_unrecorded_ = 0;
  uint64_t dropped_ = 0;
  uint64_t changes_dropped_ = 0;
  uint64_t bad_packets_ = 0;
};

}  // namespace boxrun::report
