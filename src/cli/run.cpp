#include "src/cli/run.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <cstring>

#include "src/base/errno_text.h"
#include "src/base/path.h"
#include "src/base/write_all.h"
#include "src/cli/command.h"
#include "src/cli/ordinary_misses.h"
#include "src/cli/sandbox.h"
#include "src/report/escape.h"
#include "src/report/report.h"

namespace boxrun::cli {
namespace {

void complain(const std::string& text) {
  static_cast<void>(
      write_all(STDERR_FILENO, fmt::format("boxrun: {}\n", report::escape_text(text))));
}

// Says that what `option` was to get is not all there. Whoever closed the other end knows.
bool is_lost(const std::string& option, Errno error) {
  if (error == Errno::kOk || error == Errno::kPipe) return false;
  complain(fmt::format("{}: not all of it could be written: {}", option, errno_text(error)));
  return true;
}

std::string failure_text(const RunSpec& spec, const Outcome& outcome) {
  if (!outcome.failure) return "";
  Failure failure = *outcome.failure;
  if (outcome.cannot_execute) failure.what = "execute " + spec.command;
  return to_string(failure);
}

// The one limit that the monitor keeps itself.
report::Record timeout_record(const RunSpec& spec, const Outcome& outcome, int64_t started) {
  report::Record record;
  record.kind = report::Kind::kLimitTimeout;
  record.severity = report::default_severity(record.kind);
  record.verdict = report::Verdict::kKilled;
  record.target = report::limit_text(spec.limits.timeout);
  record.process.pid = outcome.target_pid;
  record.process.command =
      spec.argv.empty() ? "" : spec.argv[0].substr(spec.argv[0].rfind('/') + 1);
  record.first_time = started + spec.limits.timeout.count();
  return record;
}

// What a list mounts and a later `hide` takes away is no mount, and that is all the Sentry can say
// of it: why, and by which rule, is known here.
void say_what_is_hidden(std::vector<report::Record>& records,
                        const std::vector<HiddenSpec>& hidden) {
  for (report::Record& record : records) {
    if (record.detail != report::kNotMounted) continue;
    for (const HiddenSpec& spec : hidden) {
      if (!is_within(record.target, spec.path)) continue;
      record.detail = "hidden";
      record.rule = spec.origin;
    }
  }
}

std::vector<std::string> layer_names(const Outcome& outcome) {
  std::vector<std::string> names;
  for (int i = 0; i < host::kLayerCount; i++) {
    const auto layer = static_cast<host::Layer>(i);
    const bool gofer = outcome.gofer_layers.has(layer);
    const bool sentry = outcome.sentry_layers.has(layer);
    if (!gofer && !sentry) continue;
    const char* only = gofer && sentry ? "" : (gofer ? " (gofer)" : " (sentry)");
    names.push_back(fmt::format("{}{}", host::layer_name(layer), only));
  }
  return names;
}

report::Summary summarize(const RunSpec& spec, const Outcome& outcome, int64_t started,
                          const report::Collector& collector, const std::string& home) {
  report::Summary summary;
  summary.argv = spec.argv;
  summary.profile = spec.profile;
  summary.platform = outcome.platform.empty() ? spec.platform : outcome.platform;
  summary.layers = layer_names(outcome);
  summary.home = home;
  summary.end = outcome.end;
  summary.code = outcome.code;
  summary.failure = failure_text(spec, outcome);
  summary.started = started;
  summary.duration = outcome.duration;
  summary.records = collector.records();
  drop_ordinary_misses(summary.records);
  say_what_is_hidden(summary.records, spec.hidden);
  if (outcome.end == report::End::kTimedOut)
    summary.records.push_back(timeout_record(spec, outcome, started));
  summary.unrecorded = collector.unrecorded();
  summary.changes = collector.changes();
  summary.changes_dropped = collector.changes_dropped();
  summary.env_withheld = spec.env_withheld;
  return summary;
}

// What decided the exit status, in the words of CLI.md.
const char* source_of(const report::Summary& summary, int status) {
  switch (summary.end) {
    case report::End::kTimedOut:
      return "timeout";
    case report::End::kFailed:
      return "boxrun";
    case report::End::kSignaled:
      return "target";
    case report::End::kExited:
      return status == summary.code ? "target" : "policy";
  }
  return "boxrun";
}

// False when they could not be printed.
bool print_statistics(const std::vector<report::Statistic>& statistics) {
  std::string text =
      statistics.empty() ? "boxrun: statistics: there are none\n" : "boxrun: statistics\n";
  for (const report::Statistic& statistic : statistics) {
    text += fmt::format("  {:<26} {:>12}\n", report::escape_text(statistic.name), statistic.value);
  }
  return !is_lost("--stats", write_all(STDERR_FILENO, text).error());
}

std::string trace_option(const TraceSpec& trace) {
  return trace.path.empty() ? "--trace" : "--trace-file " + trace.path;
}

std::string signal_member(const report::Summary& summary) {
  if (summary.end != report::End::kSignaled) return "";
  const char* name = ::sigabbrev_np(summary.code);
  return name != nullptr ? fmt::format(R"(,"signal":"SIG{}")", name)
                         : fmt::format(R"(,"signal":"{}")", summary.code);
}

}  // namespace

StatusFd::StatusFd(int number) : number_(number) {
  if (number >= 0) copy_ = own_fd(::fcntl(number, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

bool StatusFd::write_exit(std::string_view source, int status, std::string_view more) const {
  if (number_ < 0) return true;
  const Result<void> done =
      copy_.ok() ? write_all(copy_->get(),
                             fmt::format("{{\"event\":\"exit\",\"source\":\"{}\",\"code\":{}{}}}\n",
                                         source, status, more))
                 : copy_.error();
  return !is_lost(fmt::format("--status-fd {}", number_), done.error());
}

int run_and_report(const RunSpec& spec, const KernelEntry& kernel,
                   const std::array<bool, 3>& streams, const std::string& home) {
  const StatusFd status_fd(spec.status_fd);
  std::string problem;
  const Result<report::Writer> writer = report::Writer::open(spec.report, problem);
  if (!writer) {
    complain(problem);
    status_fd.write_exit("boxrun", kOwnFailure);
    return kOwnFailure;
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const int64_t started = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  report::Collector collector;
  const Outcome outcome = run_sandbox(spec, kernel, streams, collector);

  const report::Summary summary = summarize(spec, outcome, started, collector, home);
  if (!summary.failure.empty()) complain(summary.failure);
  const bool violated = report::reaches(summary, spec.report.fail_on);
  int status = exit_status(outcome, violated, spec.report.violation_exit_code);
  const char* source = source_of(summary, status);
  bool complete = !is_lost(trace_option(spec.trace), outcome.trace_error);
  if (spec.statistics) complete = print_statistics(collector.statistics()) && complete;
  if (!(*writer).write(summary, problem)) {
    complain(problem);
    complete = false;
  }
  // Whoever asked for a report or a trace and got none must not take the run for a good one.
  if (!complete && status == 0) {
    status = kOwnFailure;
    source = "boxrun";
  }
  if (!status_fd.write_exit(source, status, signal_member(summary)) && status == 0)
    status = kOwnFailure;
  return status;
}

}  // namespace boxrun::cli
