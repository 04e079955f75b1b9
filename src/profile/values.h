// The small languages that profiles and options share: durations, sizes, actions, named choices.
#pragma once
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "src/profile/expected.h"
#include "src/profile/profile.h"

namespace boxrun::profile {

// "30s", "1.5m", "500ms"; units us ms s m h d; a bare number is seconds, as for timeout(1). At most
// 100 years. "0" and "0s" are zero.
Expected<std::chrono::nanoseconds> parse_duration(std::string_view text);

// "512M", "1.5GiB", "4096"; units K M G T, powers of 1024, with or without B or iB.
Expected<uint64_t> parse_size(std::string_view text);

// A whole number without sign.
Expected<uint64_t> parse_count(std::string_view text);

// allow | log | kill | errno:NAME, and NAME alone (EPERM, ENOSYS ...).
Expected<SyscallAction> parse_action(std::string_view text);
std::string to_text(const SyscallAction& action);

// "30s" for 30 seconds, "0s" for zero; "2G" for 2 GiB: as short as it can be said exactly.
std::string to_text(std::chrono::nanoseconds duration);
std::string size_to_text(uint64_t bytes);

template <class E>
struct Name {
  std::string_view name;
  E value;
};

inline constexpr Name<MountMode> kMountModes[] = {
    {"ro", MountMode::kReadOnly}, {"rw", MountMode::kReadWrite}, {"overlay", MountMode::kOverlay}};
inline constexpr Name<MountCache> kMountCaches[] = {{"shared", MountCache::kShared},
                                                    {"exclusive", MountCache::kExclusive}};
inline constexpr Name<NetworkMode> kNetworkModes[] = {{"none", NetworkMode::kNone},
                                                      {"loopback", NetworkMode::kLoopback}};
inline constexpr Name<Toolchain> kToolchains[] = {{"auto", Toolchain::kAuto},
                                                  {"none", Toolchain::kNone}};
inline constexpr Name<CwdMode> kCwdModes[] = {{"overlay", CwdMode::kOverlay},
                                              {"ro", CwdMode::kReadOnly},
                                              {"rw", CwdMode::kReadWrite},
                                              {"none", CwdMode::kNone}};
inline constexpr Name<HomeMode> kHomeModes[] = {
    {"empty", HomeMode::kEmpty}, {"ro", HomeMode::kReadOnly}, {"overlay", HomeMode::kOverlay}};
inline constexpr Name<OverlayData> kOverlayDatas[] = {{"memory", OverlayData::kMemory},
                                                      {"disk", OverlayData::kDisk}};
inline constexpr Name<report::Format> kFormats[] = {{"text", report::Format::kText},
                                                    {"json", report::Format::kJson}};
inline constexpr Name<report::When> kWhens[] = {{"always", report::When::kAlways},
                                                {"violation", report::When::kViolation},
                                                {"never", report::When::kNever}};
inline constexpr Name<report::FailOn> kFailOns[] = {{"none", report::FailOn::kNone},
                                                    {"low", report::FailOn::kLow},
                                                    {"medium", report::FailOn::kMedium},
                                                    {"high", report::FailOn::kHigh}};
inline constexpr Name<report::Color> kColors[] = {{"auto", report::Color::kAuto},
                                                  {"always", report::Color::kAlways},
                                                  {"never", report::Color::kNever}};
// What --platform and [platform] kind take; which of them work here, the factory knows.
inline constexpr std::string_view kPlatforms[] = {"auto", "ptrace", "systrap"};

// "'rq' is none of ro, rw, overlay; did you mean 'rw'?"
Error not_one_of(std::string_view text, std::span<const std::string_view> names);

// The value named `text` in one of the tables above.
template <class E, size_t N>
Expected<E> parse_choice(std::string_view text, const Name<E> (&names)[N]) {
  std::string_view all[N];
  for (size_t i = 0; i < N; ++i) {
    if (names[i].name == text) return names[i].value;
    all[i] = names[i].name;
  }
  return not_one_of(text, all);
}

template <class E, size_t N>
constexpr std::string_view name_of(E value, const Name<E> (&names)[N]) {
  for (const Name<E>& entry : names) {
    if (entry.value == value) return entry.name;
  }
  return "?";
}

// The candidate nearest to `text` by edit distance, or empty when none is near enough to be meant:
// the suggestion behind every "did you mean".
std::string_view nearest(std::string_view text, std::span<const std::string_view> candidates);

}  // namespace boxrun::profile
