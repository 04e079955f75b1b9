// The rows of the option table. A value that two options share is read by one of the functions on
// top; everything else is a line in the table.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "src/base/errno_text.h"
#include "src/cli/options.h"
#include "src/profile/read_file.h"
#include "src/profile/values.h"

namespace boxrun::cli {
namespace {

using profile::Error;
using profile::Expected;
using profile::parse_choice;
using profile::parse_count;
using profile::parse_duration;
using profile::parse_size;

template <class T, class U>
Expected<bool> store(Expected<T> value, U& out) {
  if (!value.ok()) return value.error();
  out = static_cast<U>(*value);
  return true;
}

template <std::chrono::nanoseconds profile::Limits::*Member>
Expected<bool> set_time(std::string_view value, Request& request) {
  return store(parse_duration(value), request.profile.limits.*Member);
}
template <uint64_t profile::Limits::*Member>
Expected<bool> set_size(std::string_view value, Request& request) {
  return store(parse_size(value), request.profile.limits.*Member);
}
template <uint64_t profile::Limits::*Member>
Expected<bool> set_count(std::string_view value, Request& request) {
  return store(parse_count(value), request.profile.limits.*Member);
}

// PATH[:DST]. The target begins at the last ":/", so that a source may hold colons.
Expected<bool> add_mount(std::string_view option, MountMode mode, std::string_view value,
                         Request& request) {
  profile::Mount mount;
  mount.mode = mode;
  mount.origin = fmt::format("{} {}", option, value);
  mount.layer = profile::Order::kByCommandLine;
  const size_t colon = value.rfind(":/");
  mount.source = value.substr(0, colon);
  if (colon != std::string_view::npos) mount.target = value.substr(colon + 1);
  if (mount.source.empty()) return Error{fmt::format("'{}' names no source", value)};
  request.profile.mounts.push_back(std::move(mount));
  return true;
}

Expected<bool> add_located(std::string_view option, std::string_view value,
                           std::vector<profile::Located>& out) {
  if (value.empty()) return Error{"the value is empty"};
  out.push_back(
      {std::string(value), fmt::format("{} {}", option, value), profile::Order::kByCommandLine});
  return true;
}

Expected<bool> add_env(std::string_view value, Request& request) {
  const size_t equals = value.find('=');
  const std::string name(value.substr(0, equals));
  if (name.empty()) return Error{fmt::format("'{}' names no variable", value)};
  EnvOption option{name, std::nullopt};
  if (equals != std::string_view::npos) option.value = value.substr(equals + 1);
  request.env.push_back(std::move(option));
  return true;
}

// One NAME=VALUE or NAME a line, as --env takes it; empty lines and lines with # are skipped.
Expected<bool> add_env_file(std::string_view value, Request& request) {
  const std::string path(value);
  const Result<std::string> text = profile::read_file(path);
  if (!text) {
    return Error{fmt::format("'{}' cannot be read: {}", path, errno_text(text.error()))};
  }
  size_t number = 0;
  for (std::string_view rest = *text; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    ++number;
    if (line.empty() || line[0] == '#') continue;
    const Expected<bool> added = add_env(line, request);
    if (!added.ok()) return Error{fmt::format("{}:{}: {}", path, number, added.error().message)};
  }
  return true;
}

Expected<bool> add_syscall_rule(std::string_view value, Request& request) {
  const size_t equals = value.find('=');
  profile::SyscallRule rule{std::string(value.substr(0, equals)), std::nullopt,
                            fmt::format("--deny-syscall {}", value)};
  if (rule.pattern.empty()) return Error{fmt::format("'{}' names no system call", value)};
  if (equals != std::string_view::npos) {
    const Expected<SyscallAction> action = profile::parse_action(value.substr(equals + 1));
    if (!action.ok()) return action.error();
    rule.action = *action;
  }
  request.profile.syscall_rules.push_back(std::move(rule));
  return true;
}

// FMT[=PATH].
Expected<bool> add_report(std::string_view value, Request& request) {
  const size_t equals = value.find('=');
  const Expected<report::Format> format = parse_choice(value.substr(0, equals), profile::kFormats);
  if (!format.ok()) return format.error();
  report::Output output{*format, {}};
  if (equals != std::string_view::npos) {
    output.path = value.substr(equals + 1);
    if (output.path.empty()) return Error{fmt::format("'{}' names no file", value)};
  }
  request.outputs.push_back(std::move(output));
  return true;
}

Expected<bool> set_platform(std::string_view value, Request& request) {
  if (std::ranges::find(profile::kPlatforms, value) == std::end(profile::kPlatforms)) {
    return profile::not_one_of(value, profile::kPlatforms);
  }
  request.profile.platform = value;
  return true;
}

Expected<bool> set_exit_code(std::string_view value, Request& request) {
  const Expected<uint64_t> code = parse_count(value);
  if (!code.ok()) return code.error();
  if (*code > 255) return Error{fmt::format("'{}' is more than 255", value)};
  request.violation_exit_code = static_cast<int>(*code);
  return true;
}

Expected<bool> set_status_fd(std::string_view value, Request& request) {
  const Expected<uint64_t> fd = parse_count(value);
  if (!fd.ok()) return fd.error();
  if (*fd > INT32_MAX || ::fcntl(static_cast<int>(*fd), F_GETFD) < 0) {
    return Error{fmt::format("descriptor {} is not open", value)};
  }
  request.status_fd = static_cast<int>(*fd);
  return true;
}

Expected<bool> set_hostname(std::string_view value, Request& request) {
  constexpr size_t kLongest = 64;  // __NEW_UTS_LEN
  if (value.empty() || value.size() > kLongest) return Error{"a host name has 1 to 64 characters"};
  request.hostname = value;
  return true;
}

Expected<bool> set_text(std::string_view value, std::string& out) {
  if (value.empty()) return Error{"the value is empty"};
  out = value;
  return true;
}

using V = std::string_view;
using R = Request;
constexpr Argument kNone = Argument::kNone;
constexpr Argument kValue = Argument::kRequired;
constexpr V kFiles = "Files";
constexpr V kProcess = "Process";
constexpr V kLimits = "Limits (0 is none)";
constexpr V kPolicy = "Policy";
constexpr V kReport = "Report";

// clang-format off
constexpr Option kOptions[] = {
    {'p', "profile", kValue, "NAME|FILE", "lay a profile over those before it; repeatable", kPolicy,
     [](V, R&) -> Expected<bool> { return true; }},  // see named_profiles
    {0, "platform", kValue, "auto|ptrace|systrap", "how system calls are trapped", kPolicy, set_platform},
    {0, "net", kValue, "none|loopback", "which network the target has", kPolicy,
     [](V v, R& r) { return store(parse_choice(v, profile::kNetworkModes), r.profile.network); }},
    {0, "deny-syscall", kValue, "NAME[=ERRNO|log|kill]", "deny system calls by name, glob or @group", kPolicy, add_syscall_rule},
    {0, "dry-run", kNone, "", "print what would be run, and how, and stop", kPolicy,
     [](V, R& r) -> Expected<bool> { return r.dry_run = true; }},

    {0, "ro", kValue, "PATH[:DST]", "mount a file or directory read-only", kFiles,
     [](V v, R& r) { return add_mount("--ro", MountMode::kReadOnly, v, r); }},
    {0, "rw", kValue, "PATH[:DST]", "mount it writable: the host's files change", kFiles,
     [](V v, R& r) { return add_mount("--rw", MountMode::kReadWrite, v, r); }},
    {0, "overlay", kValue, "PATH[:DST]", "mount it writable, changes stay in the sandbox", kFiles,
     [](V v, R& r) { return add_mount("--overlay", MountMode::kOverlay, v, r); }},
    {0, "overlay-data", kValue, "memory|disk", "where the changes in overlays are kept meanwhile", kFiles,
     [](V v, R& r) { return store(parse_choice(v, profile::kOverlayDatas), r.profile.overlay_data); }},
    {0, "tmpfs", kValue, "PATH", "mount an empty directory", kFiles,
     [](V v, R& r) { return add_located("--tmpfs", v, r.profile.tmpfs); }},
    {0, "hide", kValue, "GLOB", "hide what matches, also within mounts", kFiles,
     [](V v, R& r) { return add_located("--hide", v, r.profile.hide); }},
    {'C', "cwd", kValue, "DIR", "run in DIR instead of the current directory", kFiles,
     [](V v, R& r) { return set_text(v, r.cwd); }},

    {'e', "env", kValue, "NAME[=VALUE]", "set a variable, or let the caller's pass", kProcess, add_env},
    {0, "env-file", kValue, "FILE", "the same for each line of FILE", kProcess, add_env_file},
    {0, "pass-env", kValue, "GLOB", "let the caller's variables that match pass", kProcess,
     [](V v, R& r) -> Expected<bool> { r.profile.env_pass.emplace_back(v); return true; }},
    {0, "user", kValue, "NAME|UID", "run as another user (needs root)", kProcess,
     [](V v, R& r) { return set_text(v, r.user); }},
    {0, "hostname", kValue, "NAME", "the host name inside", kProcess, set_hostname},

    {'t', "timeout", kValue, "TIME", "end the target after TIME, as in 30s", kLimits, set_time<&profile::Limits::timeout>},
    {0, "kill-after", kValue, "TIME", "by SIGTERM, and for good TIME later", kLimits, set_time<&profile::Limits::kill_after>},
    {'m', "memory", kValue, "SIZE", "memory of all processes together, as in 512M", kLimits, set_size<&profile::Limits::memory>},
    {0, "cpu-time", kValue, "TIME", "CPU time of all processes together", kLimits, set_time<&profile::Limits::cpu_time>},
    {0, "pids", kValue, "N", "processes and threads at one time", kLimits, set_count<&profile::Limits::processes>},
    {0, "open-files", kValue, "N", "open descriptors per process", kLimits, set_count<&profile::Limits::open_files>},
    {0, "fsize", kValue, "SIZE", "size of a file that is written", kLimits, set_size<&profile::Limits::file_size>},
    {0, "output-limit", kValue, "SIZE", "bytes written to stdout and stderr", kLimits, set_size<&profile::Limits::output>},
    {0, "tmp-size", kValue, "SIZE", "bytes in each tmpfs, and in /dev/shm", kLimits, set_size<&profile::Limits::tmp_size>},
    {0, "overlay-size", kValue, "SIZE", "bytes of changes in each overlay", kLimits, set_size<&profile::Limits::overlay_size>},

    {0, "report", kValue, "text|json[=PATH]", "write a report, to stderr or to PATH; repeatable", kReport, add_report},
    {0, "report-on", kValue, "always|violation|never", "when there is a report on stderr", kReport,
     [](V v, R& r) { return store(parse_choice(v, profile::kWhens), r.report_on); }},
    {0, "fail-on", kValue, "none|low|medium|high", "violations from here on make the run fail", kReport,
     [](V v, R& r) { return store(parse_choice(v, profile::kFailOns), r.profile.fail_on); }},
    {0, "violation-exit-code", kValue, "N", "with this status (122)", kReport, set_exit_code},
    {0, "status-fd", kValue, "N", "write events as JSON lines to descriptor N", kReport, set_status_fd},
    {0, "trace", Argument::kOptional, "GROUP", "print system calls (of a group) as they happen", kReport,
     [](V v, R& r) -> Expected<bool> { r.trace.enabled = true; r.trace.group = v; return true; }},
    {0, "trace-file", kValue, "PATH", "print them to PATH instead of stderr", kReport,
     [](V v, R& r) { r.trace.enabled = true; return set_text(v, r.trace.path); }},
    {0, "stats", kNone, "", "print what the run cost: calls by time, stops, round trips", kReport,
     [](V, R& r) -> Expected<bool> { r.statistics = true; return true; }},
    {0, "color", kValue, "auto|always|never", "colour in the text report", kReport,
     [](V v, R& r) { return store(parse_choice(v, profile::kColors), r.color); }},
    {'q', "quiet", kNone, "", "say nothing but errors", kReport,
     [](V, R& r) -> Expected<bool> { r.verbosity = -1; return true; }},
    {'v', "verbose", kNone, "", "say on stderr, too, what --dry-run prints", kReport,
     [](V, R& r) -> Expected<bool> { r.verbosity = 1; return true; }},
    {'h', "help", kNone, "", "print this text", kReport,
     [](V, R& r) -> Expected<bool> { return r.help = true; }},
};
// clang-format on

}  // namespace

std::span<const Option> run_options() { return kOptions; }

}  // namespace boxrun::cli
