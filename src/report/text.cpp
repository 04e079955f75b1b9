#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "src/report/escape.h"
#include "src/report/report.h"

namespace boxrun::report {
namespace {

// A column is as wide as its widest entry up to this; longer entries push their own line.
constexpr size_t kWidestColumn = 56;
constexpr size_t kMostChanges = 10;

struct Row {
  std::string kind;
  std::string target;
  std::string result;
  std::string process;
};

std::string with_tilde(const std::string& path, const std::string& home) {
  if (home.empty() || home == "/" || !path.starts_with(home)) return path;
  if (path.size() != home.size() && path[home.size()] != '/') return path;
  return "~" + path.substr(home.size());
}

bool is_syscall(const Record& record) {
  return record.kind == Kind::kSyscallDeny || record.kind == Kind::kSyscallUnimplemented;
}

std::string target_cell(const Record& record, const std::string& home) {
  if (is_syscall(record)) return escape_text(record.call);
  if (record.kind == Kind::kNetConnect || record.kind == Kind::kNetBind) {
    if (record.detail.empty()) return escape_text(record.target);
    return fmt::format("{} \"{}\"", escape_text(record.target), escape_text(record.detail));
  }
  const std::string target = escape_text(with_tilde(record.target, home));
  return record.detail.empty() ? target
                               : fmt::format("{} ({})", target, escape_text(record.detail));
}

std::string result_cell(const Record& record) {
  const std::string call =
      is_syscall(record) || record.syscall.empty() ? "" : escape_text(record.syscall) + " ";
  if (record.verdict == Verdict::kKilled) return call + "-> killed";
  if (record.verdict == Verdict::kLogged) return call + "-> let pass";
  return fmt::format("{}-> {}", call, errno_name(record.error));
}

std::string process_text(const Process& process) {
  return fmt::format("{}[{}]", escape_text(process.command), process.pid);
}

std::string process_cell(const Record& record) {
  std::string cell = process_text(record.process);
  for (const Process& ancestor : record.chain) cell += " < " + process_text(ancestor);
  if (record.count > 1) cell += fmt::format("  x{}", record.count);
  return cell;
}

std::string_view severity_cell(Severity severity) {
  static constexpr std::string_view kNames[] = {"LOW ", "MED ", "HIGH"};
  return kNames[static_cast<size_t>(severity)];
}

std::string_view severity_color(Severity severity) {
  static constexpr std::string_view kColors[] = {"\033[36m", "\033[33m", "\033[1;31m"};
  return kColors[static_cast<size_t>(severity)];
}

size_t width(const std::vector<Row>& rows, std::string Row::*cell) {
  size_t widest = 0;
  for (const Row& row : rows) {
    if ((row.*cell).size() <= kWidestColumn) widest = std::max(widest, (row.*cell).size());
  }
  return widest;
}

std::string tally(const Summary& summary) {
  size_t counts[3] = {};
  for (const Record& record : summary.records) ++counts[static_cast<size_t>(record.severity)];
  const uint64_t total = summary.records.size() + summary.unrecorded;
  if (total == 0) return "no violations";
  std::string parts;
  for (const Severity severity : {Severity::kHigh, Severity::kMedium, Severity::kLow}) {
    const size_t n = counts[static_cast<size_t>(severity)];
    if (n != 0) {
      parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", n, severity_name(severity));
    }
  }
  if (summary.unrecorded != 0) {
    parts += fmt::format("{}{} more", parts.empty() ? "" : ", ", summary.unrecorded);
  }
  return fmt::format("{} violation{} ({})", total, total == 1 ? "" : "s", parts);
}

std::string ending(const Summary& summary) {
  const std::string path = summary.argv.empty() ? std::string("target") : summary.argv[0];
  const std::string name = escape_text(path.substr(path.rfind('/') + 1));
  const double seconds = std::chrono::duration<double>(summary.duration).count();
  switch (summary.end) {
    case End::kExited:
      return fmt::format("{} exited {} after {:.2f} s", name, summary.code, seconds);
    case End::kSignaled: {
      const char* signal = ::sigabbrev_np(summary.code);
      const std::string what =
          signal == nullptr ? fmt::format("signal {}", summary.code) : fmt::format("SIG{}", signal);
      return fmt::format("{} died of {} after {:.2f} s", name, what, seconds);
    }
    case End::kTimedOut:
      return fmt::format("{} timed out after {:.2f} s", name, seconds);
    case End::kFailed:
      break;
  }
  return fmt::format("boxrun failed after {:.2f} s: {}", seconds, escape_text(summary.failure));
}

std::string advice_line(const Advice& advice) {
  if (advice.option.empty()) return fmt::format("        no option allows it: {}\n", advice.caveat);
  if (advice.caveat.empty()) return fmt::format("        allow with: {}\n", advice.option);
  return fmt::format("        allow with: {}  ({})\n", advice.option, advice.caveat);
}

std::string changes_line(const Summary& summary) {
  std::string line = "  changed:";
  const size_t shown = std::min(summary.changes.size(), kMostChanges);
  for (size_t i = 0; i < shown; ++i) {
    const Change& change = summary.changes[i];
    line +=
        fmt::format(" {} {}{}", "AMD"[static_cast<size_t>(change.op)],
                    escape_text(with_tilde(change.path, summary.home)), i + 1 < shown ? " " : "");
  }
  const uint64_t more = summary.changes.size() - shown + summary.changes_dropped;
  if (more != 0) line += fmt::format("  and {} more", more);
  return line + "   (discarded)\n";
}

}  // namespace

std::string render_text(const Summary& summary, bool color) {
  std::vector<Row> rows;
  for (const Record& record : summary.records) {
    rows.push_back({std::string(kind_name(record.kind)), target_cell(record, summary.home),
                    result_cell(record), process_cell(record)});
  }
  const size_t kind = width(rows, &Row::kind);
  const size_t target = width(rows, &Row::target);
  const size_t result = width(rows, &Row::result);

  std::string out = fmt::format("boxrun: {}; {}  [{}, profile {}]\n", tally(summary),
                                ending(summary), summary.platform, escape_text(summary.profile));
  for (size_t i = 0; i < rows.size(); ++i) {
    const Record& record = summary.records[i];
    const std::string_view begin = color ? severity_color(record.severity) : "";
    out += fmt::format("  {}{}{}  {:<{}}  {:<{}}   {:<{}}   {}\n", begin,
                       severity_cell(record.severity), color ? "\033[0m" : "", rows[i].kind, kind,
                       rows[i].target, target, rows[i].result, result, rows[i].process);
    out += advice_line(advise(record, summary.home));
  }
  if (!summary.changes.empty()) out += changes_line(summary);
  if (summary.env_withheld != 0) {
    out += fmt::format("  environment: {} variable{} withheld\n", summary.env_withheld,
                       summary.env_withheld == 1 ? "" : "s");
  }
  return out;
}

}  // namespace boxrun::report
