#include "src/profile/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "src/base/edit_distance.h"

namespace boxrun::profile {

std::string Error::text() const {
  if (file.empty()) return message;
  if (line == 0) return fmt::format("{}: {}", file, message);
  return fmt::format("{}:{}:{}: {}", file, line, column, message);
}

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Splits "1.5GiB" into 1.5 and "GiB". No sign, no exponent, no locale (strtod would take all).
struct Quantity {
  double number;
  std::string_view unit;
};
std::optional<Quantity> split_quantity(std::string_view text) {
  size_t i = 0;
  double number = 0;
  while (i < text.size() && is_digit(text[i])) number = number * 10 + (text[i++] - '0');
  if (i == 0) return std::nullopt;
  if (i + 1 < text.size() && text[i] == '.' && is_digit(text[i + 1])) {
    double scale = 1;
    for (++i; i < text.size() && is_digit(text[i]); ++i) {
      scale /= 10;
      number += (text[i] - '0') * scale;
    }
  }
  return Quantity{number, text.substr(i)};
}

}  // namespace

std::string_view nearest(std::string_view text, std::span<const std::string_view> candidates) {
  constexpr size_t kLongestName = 64;
  if (text.empty() || text.size() > kLongestName) return {};
  std::string_view best;
  // A third of the letters may be wrong; of very short words at least one.
  size_t limit = std::max<size_t>(1, text.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    if (candidate.size() > kLongestName) continue;
    const size_t distance = edit_distance(text, candidate);
    if (distance < limit && distance < std::max(text.size(), candidate.size())) {
      limit = distance;
      best = candidate;
    }
  }
  return best;
}

Error not_one_of(std::string_view text, std::span<const std::string_view> names) {
  std::string message = fmt::format("'{}' is none of {}", text, fmt::join(names, ", "));
  if (const std::string_view guess = nearest(text, names); !guess.empty()) {
    message += fmt::format("; did you mean '{}'?", guess);
  }
  return {message};
}

Expected<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  struct Unit {
    std::string_view name;
    double nanoseconds;
  };
  static constexpr Unit kUnits[] = {{"", 1e9},   {"us", 1e3},   {"ms", 1e6},   {"s", 1e9},
                                    {"m", 6e10}, {"h", 3.6e12}, {"d", 8.64e13}};
  constexpr double kLongest = 100 * 365.0 * 8.64e13;
  const std::optional<Quantity> quantity = split_quantity(text);
  if (quantity) {
    for (const Unit& unit : kUnits) {
      if (unit.name != quantity->unit) continue;
      const double value = quantity->number * unit.nanoseconds;
      if (value > kLongest) return Error{fmt::format("the duration '{}' is too long", text)};
      return std::chrono::nanoseconds(std::llround(value));
    }
  }
  return Error{fmt::format("'{}' is no duration; write it as in 500ms, 30s, 1.5m or 2h", text)};
}

Expected<uint64_t> parse_size(std::string_view text) {
  const std::optional<Quantity> quantity = split_quantity(text);
  if (quantity) {
    std::string_view unit = quantity->unit;
    if (unit.ends_with("iB") && unit.size() == 3) unit.remove_suffix(2);
    if (unit.ends_with('B')) unit.remove_suffix(1);
    constexpr std::string_view kPowers = "KMGT";
    const size_t power = unit.empty() ? 0 : kPowers.find(static_cast<char>(unit[0] & ~0x20)) + 1;
    if (unit.size() <= 1 && (unit.empty() || power != 0)) {
      const double value = std::ldexp(quantity->number, static_cast<int>(10 * power));
      // 2^62: far beyond any memory or file, and safe to add to.
      if (value > 0x1p62) return Error{fmt::format("the size '{}' is too large", text)};
      return static_cast<uint64_t>(value);
    }
  }
  return Error{fmt::format("'{}' is no size; write it as in 4096, 64K, 512M or 1.5G", text)};
}

Expected<uint64_t> parse_count(std::string_view text) {
  uint64_t value = 0;
  const bool digits = !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
  if (!digits || text.size() > 18) return Error{fmt::format("'{}' is no whole number", text)};
  for (const char c : text) value = value * 10 + static_cast<uint64_t>(c - '0');
  return value;
}

Expected<SyscallAction> parse_action(std::string_view text) {
  using Kind = SyscallAction::Kind;
  if (text == "allow") return SyscallAction{Kind::kAllow, Errno::kPerm};
  if (text == "log") return SyscallAction{Kind::kLog, Errno::kPerm};
  if (text == "kill") return SyscallAction{Kind::kKill, Errno::kPerm};
  std::string_view name = text;
  if (name.starts_with("errno:")) name.remove_prefix(6);
  const Errno error = errno_from_name(name);
  const int number = static_cast<int>(error);
  if (error != Errno::kOk && number < 512) return SyscallAction{Kind::kErrno, error};
  if (name.size() != text.size() || name.starts_with('E')) {
    return Error{fmt::format("'{}' is no errno name; write it as in errno:EPERM", name)};
  }
  static constexpr std::string_view kActions[] = {"allow", "errno:NAME", "log", "kill"};
  return not_one_of(text, kActions);
}

std::string to_text(const SyscallAction& action) {
  switch (action.kind) {
    case SyscallAction::Kind::kAllow:
      return "allow";
    case SyscallAction::Kind::kLog:
      return "log";
    case SyscallAction::Kind::kKill:
      return "kill";
    case SyscallAction::Kind::kErrno:
      break;
  }
  return fmt::format("errno:{}", errno_name(action.error));
}

std::string to_text(std::chrono::nanoseconds duration) {
  struct Unit {
    std::string_view name;
    int64_t nanoseconds;
  };
  static constexpr Unit kUnits[] = {{"d", 86'400'000'000'000}, {"h", 3'600'000'000'000},
                                    {"m", 60'000'000'000},     {"s", 1'000'000'000},
                                    {"ms", 1'000'000},         {"us", 1'000}};
  if (duration.count() == 0) return "0s";
  for (const Unit& unit : kUnits) {
    if (duration.count() % unit.nanoseconds == 0) {
      return fmt::format("{}{}", duration.count() / unit.nanoseconds, unit.name);
    }
  }
  return fmt::format("{}us", static_cast<double>(duration.count()) / 1e3);
}

std::string size_to_text(uint64_t bytes) {
  static constexpr std::string_view kUnits[] = {"", "K", "M", "G", "T"};
  size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{}{}", bytes, kUnits[unit]);
}

}  // namespace boxrun::profile
