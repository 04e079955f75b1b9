// How violations travel from the Sentry to the monitor: one message per packet of a SEQPACKET
// socket. The Sentry is the less trusted side, so decoding copies, checks every field and bounds
// every length; what does not fit is cut off by the sender.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "src/base/result.h"
#include "src/report/record.h"

namespace boxrun::report {

inline constexpr size_t kMaxPacket = size_t{32} * 1024;
inline constexpr size_t kMaxText = 4096;   // of each string of a record; PATH_MAX
inline constexpr size_t kMaxCommand = 64;  // of a process's name
inline constexpr size_t kMaxChain = 32;    // ancestors

// The first sighting of a violation. `id` is the sender's, small and dense.
struct Sighting {
  uint32_t id = 0;
  Record record;

  bool operator==(const Sighting&) const = default;
};
// How often violation `id` has been seen by now.
struct CountUpdate {
  uint32_t id = 0;
  uint64_t count = 0;

  bool operator==(const CountUpdate&) const = default;
};
// Sightings that were not recorded one by one because there were too many different ones.
struct Unrecorded {
  uint64_t count = 0;

  bool operator==(const Unrecorded&) const = default;
};

// Something that was counted, for --stats.
struct Statistic {
  std::string name;  // at most kMaxCommand bytes
  uint64_t value = 0;

  bool operator==(const Statistic&) const = default;
};

using Message = std::variant<Sighting, CountUpdate, Unrecorded, Change, Statistic>;

// Always at most kMaxPacket bytes: texts and the chain are cut to the limits above.
std::vector<std::byte> encode(const Message& message);

// Errors: EBADMSG for anything that encode() cannot have written.
Result<Message> decode(std::span<const std::byte> packet);

}  // namespace boxrun::report
