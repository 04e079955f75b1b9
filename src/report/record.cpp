#include "src/report/record.h"

#include <fmt/format.h>

namespace boxrun::report {
namespace {

struct KindRow {
  std::string_view name;
  Severity severity;
};

// In the order of Kind. Reaching out of the box is high, reaching into what is private medium.
constexpr KindRow kKinds[] = {
    {"syscall.deny", Severity::kLow},       {"syscall.unimplemented", Severity::kLow},
    {"file.read", Severity::kMedium},       {"file.write", Severity::kMedium},
    {"file.exec", Severity::kMedium},       {"net.connect", Severity::kHigh},
    {"net.bind", Severity::kMedium},        {"net.dns", Severity::kMedium},
    {"limit.memory", Severity::kMedium},    {"limit.cpu_time", Severity::kMedium},
    {"limit.processes", Severity::kMedium}, {"limit.open_files", Severity::kLow},
    {"limit.file_size", Severity::kMedium}, {"limit.output", Severity::kMedium},
    {"limit.tmp_size", Severity::kMedium},  {"limit.overlay_size", Severity::kMedium},
    {"limit.timeout", Severity::kMedium},   {"process.lost", Severity::kMedium},
};
static_assert(std::size(kKinds) == static_cast<size_t>(kLastKind) + 1);

}  // namespace

std::string_view kind_name(Kind kind) { return kKinds[static_cast<size_t>(kind)].name; }

Severity default_severity(Kind kind) { return kKinds[static_cast<size_t>(kind)].severity; }

std::string_view severity_name(Severity severity) {
  static constexpr std::string_view kNames[] = {"low", "medium", "high"};
  return kNames[static_cast<size_t>(severity)];
}

std::string limit_text(std::chrono::nanoseconds limit) {
  return fmt::format("{:g}s", std::chrono::duration<double>(limit).count());
}

}  // namespace boxrun::report
