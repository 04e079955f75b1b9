#include "src/report/collector.h"

#include <algorithm>
#include <utility>

namespace boxrun::report {

void Collector::take(std::span<const std::byte> packet) {
  Result<Message> message = decode(packet);
  if (!message) {
    ++bad_packets_;
    return;
  }
  std::visit([this](auto&& what) { take(std::forward<decltype(what)>(what)); },
             std::move(*message));
}

void Collector::take(Sighting&& sighting) {
  if (index_.contains(sighting.id)) {
    ++bad_packets_;
    return;
  }
  if (records_.size() >= kMaxRecords) {
    ++dropped_;
    return;
  }
  index_.emplace(sighting.id, records_.size());
  records_.push_back(std::move(sighting.record));
}

void Collector::take(const CountUpdate& update) {
  const auto found = index_.find(update.id);
  if (found == index_.end()) return;  // of one that was dropped
  Record& record = records_[found->second];
  record.count = std::max(record.count, update.count);
}

void Collector::take(const Unrecorded& unrecorded) {
  sender_unrecorded_ = std::max(sender_unrecorded_, unrecorded.count);
}

void Collector::take(Change&& change) {
  if (changes_.size() >= kMaxChanges) {
    ++changes_dropped_;
  } else {
    changes_.push_back(std::move(change));
  }
}

void Collector::take(Statistic&& statistic) {
  if (statistics_.size() < kMaxStatistics) statistics_.push_back(std::move(statistic));
}

}  // namespace boxrun::report
