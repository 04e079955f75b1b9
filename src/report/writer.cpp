#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "src/base/errno_text.h"
#include "src/base/write_all.h"
#include "src/report/escape.h"
#include "src/report/report.h"

namespace boxrun::report {
namespace {

// The value of a variable, empty when it is not set.
std::string_view variable(const char* name) {
  const char* value = ::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody changes it
  return value == nullptr ? std::string_view() : value;
}

// NO_COLOR and CLICOLOR_FORCE as their proposals have them: present and not empty.
bool use_color(Color color) {
  if (color != Color::kAuto) return color == Color::kAlways;
  if (!variable("NO_COLOR").empty()) return false;
  if (!variable("CLICOLOR_FORCE").empty()) return true;
  return ::isatty(STDERR_FILENO) == 1 && variable("TERM") != "dumb";
}

// A file's data counts as written when the disk has taken it: quotas and network file systems
// report only then. Pipes and devices know no fsync (EINVAL).
Result<void> flush(int fd) {
  if (::fsync(fd) == 0 || errno == EINVAL || errno == EROFS) return {};
  return last_error();
}

}  // namespace

bool reaches(const Summary& summary, FailOn threshold) {
  if (threshold == FailOn::kNone) return false;
  return std::any_of(summary.records.begin(), summary.records.end(), [&](const Record& record) {
    return static_cast<int>(record.severity) + 1 >= static_cast<int>(threshold);
  });
}

Result<Writer> Writer::open(const Settings& settings, std::string& problem) {
  Writer writer;
  writer.settings_ = settings;
  for (const Output& output : settings.outputs) {
    Target target{output, {}};
    if (!output.path.empty() && settings.when != When::kNever) {
      // No O_TRUNC yet: the last report is kept when this run does not even start.
      constexpr int kFlags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY;
      Result<UniqueFd> fd = own_fd(::open(output.path.c_str(), kFlags, 0666));
      if (!fd) {
        problem = fmt::format("the report file '{}' cannot be written: {}",
                              escape_text(output.path), errno_text(fd.error()));
        return fd.error();
      }
      target.fd = std::move(*fd);
    }
    writer.targets_.push_back(std::move(target));
  }
  return writer;
}

Result<void> Writer::write(const Summary& summary, std::string& problem) const {
  if (settings_.when == When::kNever) return {};
  const bool violated = !summary.records.empty() || summary.unrecorded != 0;
  Errno first = Errno::kOk;
  for (const Target& target : targets_) {
    if (!target.fd && settings_.when == When::kViolation && !violated) continue;
    const bool color = !target.fd && use_color(settings_.color);
    const std::string text =
        target.output.format == Format::kJson ? render_json(summary) : render_text(summary, color);
    const int fd = target.fd ? target.fd.get() : STDERR_FILENO;
    // A report shorter than the last one must not end in the last one's lines. Not for pipes.
    if (target.fd) (void)!::ftruncate(fd, 0);
    size_t written = 0;
    Result<void> done = write_all(fd, text, written);
    if (done && target.fd) done = flush(fd);
    if (done || done.error() == Errno::kPipe) continue;  // whoever closed the other end knows
    if (first == Errno::kOk) first = done.error();
    const std::string name = target.fd ? escape_text(target.output.path) : "stderr";
    problem += fmt::format("{}the report to '{}' is incomplete, {} of {} bytes were written: {}",
                           problem.empty() ? "" : "\n", name, written, text.size(),
                           errno_text(done.error()));
  }
  if (first != Errno::kOk) return first;
  return {};
}

}  // namespace boxrun::report
