#include <fmt/format.h>

#include <csignal>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "src/report/escape.h"
#include "src/report/report.h"

namespace boxrun::report {
namespace {

using Json = nlohmann::ordered_json;

// RFC 3339 in UTC with milliseconds.
std::string timestamp(int64_t nanoseconds) {
  constexpr int64_t kSecond = 1'000'000'000;
  // A time before 1970 or far beyond can only come from a Sentry that lies.
  if (nanoseconds < 0) nanoseconds = 0;
  const time_t seconds = nanoseconds / kSecond;
  tm utc{};
  ::gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     nanoseconds % kSecond / 1'000'000);
}

Json process_json(const Process& process) {
  return {{"pid", process.pid}, {"command", valid_utf8(process.command)}};
}

Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(valid_utf8(text));
}

Json record_json(const Record& record, const std::string& home) {
  static constexpr const char* kVerdicts[] = {"denied", "logged", "killed"};
  const Advice advice = advise(record, home);
  Json chain = Json::array();
  for (const Process& ancestor : record.chain) chain.push_back(process_json(ancestor));
  return {
      {"kind", kind_name(record.kind)},
      {"severity", severity_name(record.severity)},
      {"verdict", kVerdicts[static_cast<size_t>(record.verdict)]},
      {"syscall", text_or_null(record.syscall)},
      {"call", text_or_null(record.call)},
      {"target", text_or_null(record.target)},
      {"detail", text_or_null(record.detail)},
      {"errno", record.error == Errno::kOk ? Json(nullptr) : Json(errno_name(record.error))},
      {"pid", record.process.pid},
      {"command", valid_utf8(record.process.command)},
      {"chain", std::move(chain)},
      {"first", timestamp(record.first_time)},
      {"count", record.count},
      {"rule", text_or_null(record.rule)},
      {"allow", text_or_null(advice.option)},
      {"allow_caveat", text_or_null(advice.caveat)},
  };
}

Json end_json(const Summary& summary) {
  switch (summary.end) {
    case End::kExited:
      return {{"source", "target"}, {"code", summary.code}};
    case End::kSignaled: {
      const char* name = ::sigabbrev_np(summary.code);
      return {
          {"source", "target"},
          {"signal", name == nullptr ? std::to_string(summary.code) : fmt::format("SIG{}", name)}};
    }
    case End::kTimedOut:
      return {{"source", "timeout"}};
    case End::kFailed:
      break;
  }
  return {{"source", "boxrun"}, {"message", valid_utf8(summary.failure)}};
}

}  // namespace

std::string render_json(const Summary& summary) {
  Json argv = Json::array();
  for (const std::string& argument : summary.argv) argv.push_back(valid_utf8(argument));
  Json violations = Json::array();
  uint64_t counts[3] = {};
  for (const Record& record : summary.records) {
    violations.push_back(record_json(record, summary.home));
    ++counts[static_cast<size_t>(record.severity)];
  }
  Json changes = Json::array();
  for (const Change& change : summary.changes) {
    static constexpr const char* kOps[] = {"added", "modified", "deleted"};
    changes.push_back(
        {{"op", kOps[static_cast<size_t>(change.op)]}, {"path", valid_utf8(change.path)}});
  }
  const Json report = {
      {"v", 1},
      {"command", std::move(argv)},
      {"profile", valid_utf8(summary.profile)},
      {"platform", summary.platform},
      {"layers", summary.layers},
      {"started", timestamp(summary.started)},
      {"seconds", std::chrono::duration<double>(summary.duration).count()},
      {"end", end_json(summary)},
      {"counts",
       {{"high", counts[2]},
        {"medium", counts[1]},
        {"low", counts[0]},
        {"unrecorded", summary.unrecorded}}},
      {"violations", std::move(violations)},
      {"changes", std::move(changes)},
      {"changes_dropped", summary.changes_dropped},
      {"environment", {{"withheld", summary.env_withheld}}},
  };
  return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace boxrun::report
