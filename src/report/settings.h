#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace boxrun::report {

// How much a violation matters; the order is the order of --fail-on.
enum class Severity : uint8_t { kLow, kMedium, kHigh };

enum class Format : uint8_t { kText, kJson };

// One --report FMT[=PATH]. An empty path means stderr.
struct Output {
  Format format = Format::kText;
  std::string path;
};

// When the report is written (--report-on).
enum class When : uint8_t { kAlways, kViolation, kNever };

// From which severity on a run counts as failed (--fail-on).
enum class FailOn : uint8_t { kNone, kLow, kMedium, kHigh };

enum class Color : uint8_t { kAuto, kAlways, kNever };

struct Settings {
  std::vector<Output> outputs;  // never empty after options and profile were merged
  When when = When::kViolation;
  FailOn fail_on = FailOn::kNone;
  int violation_exit_code = 122;  // instead of the target's 0 when fail_on was reached
  Color color = Color::kAuto;
};

}  // namespace boxrun::report
