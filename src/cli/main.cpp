#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "sentry/boot.h"
#include "src/base/errno_text.h"
#include "src/base/write_all.h"
#include "src/cli/caller.h"
#include "src/cli/command.h"
#include "src/cli/doctor.h"
#include "src/cli/options.h"
#include "src/cli/platform_choice.h"
#include "src/cli/print.h"
#include "src/cli/resolve.h"
#include "src/cli/run.h"
#include "src/cli/syscalls.h"
#include "src/host/process.h"
#include "src/profile/load.h"
#include "src/profile/values.h"
#include "src/report/escape.h"

namespace boxrun::cli {
namespace {

using profile::Error;
using profile::Expected;

// stdio would buffer, look at the locale and need flushing: one write is enough.
void put(int fd, const std::string& text) { (void)!::write(fd, text.data(), text.size()); }

int fail(int status, const std::string& message) {
  put(STDERR_FILENO, fmt::format("boxrun: {}\n", report::escape_text(message)));
  return status;
}

std::string usage_text(const std::string& message) { return message + "; see `boxrun --help`"; }

int usage_error(const std::string& message) { return fail(kOwnFailure, usage_text(message)); }

// For the caller a closed or full stdout must not look like success.
int print(const std::string& text) {
  const Result<void> done = write_all(STDOUT_FILENO, text);
  if (done) return 0;
  return fail(kOwnFailure, fmt::format("cannot write to stdout: {}", errno_text(done.error())));
}

std::vector<std::string> profile_folders(const Caller& caller) {
  std::vector<std::string> folders;
  if (const std::string_view config = caller.variable("XDG_CONFIG_HOME"); config.starts_with('/')) {
    folders.push_back(std::string(config) + "/boxrun/profiles");
  } else if (const std::string_view home = caller.variable("HOME"); home.starts_with('/')) {
    folders.push_back(std::string(home) + "/.config/boxrun/profiles");
  }
  folders.emplace_back("/etc/boxrun/profiles");
  return folders;
}

// What the words ask for: a run, a text (--help, --dry-run), or nothing, because of `problems`.
struct Asked {
  std::optional<RunSpec> run;
  std::string home;
  std::string text;  // for stdout; before a run for stderr (-v)
  std::vector<std::string> problems;
  int status = 0;
};

Asked only_text(std::string text) { return {.text = std::move(text)}; }

Asked refused(std::string problem, int status = kOwnFailure) {
  return {.problems = {std::move(problem)}, .status = status};
}

Asked misused(const std::string& message) { return refused(usage_text(message)); }

Asked read_request(std::span<char* const> arguments) {
  const Expected<CommandLine> line = parse_command_line(arguments);
  if (!line.ok()) return misused(line.error().message);
  const Caller caller = this_caller();
  std::vector<profile::Located> names = named_profiles(*line);
  if (names.empty()) names.push_back({"default", ""});
  profile::Loaded loaded = profile::load_profiles(names, profile_folders(caller));
  if (!loaded.errors.empty()) {
    Asked asked{.status = kOwnFailure};
    for (const Error& error : loaded.errors) asked.problems.push_back(error.text());
    return asked;
  }

  Request request;
  request.profile = std::move(loaded.profile);
  const Expected<bool> applied = apply_options(*line, request);
  if (!applied.ok()) return misused(applied.error().message);
  if (request.help) return only_text(help_text());
  if (const Expected<bool> known = check_trace_group(request.trace.group); !known.ok())
    return misused("option '--trace': " + known.error().message);
  if (line->words.empty()) return misused("no COMMAND was given");
  request.command = line->words;

  int status = kOwnFailure;
  Expected<RunSpec> spec = resolve(request, caller, status);
  if (!spec.ok()) return refused(spec.error().message, status);
  if (request.dry_run) return only_text(describe(*spec));
  Asked asked = only_text(request.verbosity > 0 ? describe(*spec) : "");
  asked.run = std::move(*spec);
  asked.home = caller.variable("HOME");
  return asked;
}

int run(std::span<char* const> arguments) {
  const uint64_t ignored_signals = host::ignored_signals();
  Asked asked = read_request(arguments);
  int status = asked.status;
  if (!asked.run && asked.problems.empty()) status = print(asked.text);
  // From here on whoever closed the other end of what we write to still has our exit status.
  host::ignore_broken_pipes();
  for (const std::string& problem : asked.problems) fail(status, problem);
  if (!asked.run) {
    if (status != 0) StatusFd(status_fd_of(arguments)).write_exit("boxrun", status);
    return status;
  }
  if (!asked.text.empty()) static_cast<void>(write_all(STDERR_FILENO, asked.text));
  asked.run->ignored_signals = ignored_signals;
  const KernelEntry kernel{sentry::check_syscall_rules, sentry::run};
  const auto streams = host::occupy_standard_streams();
  if (asked.run->platform == "auto") asked.run->preferred_platform = remembered_platform();
  return run_and_report(*asked.run, kernel, streams, asked.home);
}

struct Command {
  std::string_view name;
  int (*run)(std::span<char* const> arguments);
};

int doctor(std::span<char* const> arguments) {
  const bool json = arguments.size() == 1 && std::string_view(arguments[0]) == "--json";
  if (!arguments.empty() && !json) return usage_error("doctor takes no argument but --json");
  const std::vector<HostCheck> checks = examine_host();
  const int status = print(json ? doctor_json(checks) : doctor_text(checks));
  return status == 0 && !is_usable(checks) ? kOwnFailure : status;
}

int syscalls(std::span<char* const> arguments) {
  std::string format = "table";
  if (!arguments.empty()) {
    const std::string_view first = arguments[0];
    if (first.starts_with("--format=") && arguments.size() == 1) {
      format = first.substr(9);
    } else if (first == "--format" && arguments.size() == 2) {
      format = arguments[1];
    } else {
      return usage_error("syscalls takes no argument but --format table|json");
    }
  }
  if (format == "table") return print(syscalls_table());
  if (format == "json") return print(syscalls_json());
  static constexpr std::string_view kFormats[] = {"table", "json"};
  return usage_error("--format: " + profile::not_one_of(format, kFormats).message);
}

int version(std::span<char* const> arguments) {
  if (!arguments.empty()) return usage_error("version takes no argument");
  return print("boxrun " BOXRUN_VERSION "\n");
}

int help(std::span<char* const> arguments) {
  if (!arguments.empty()) return usage_error("help takes no argument");
  return print(help_text());
}

constexpr Command kCommands[] = {{"run", run},   {"version", version}, {"--version", version},
                                 {"help", help}, {"doctor", doctor},   {"syscalls", syscalls}};

// Words that mean something to later versions: a script must not change its meaning with them.
constexpr std::string_view kReserved[] = {"learn", "why",  "profile", "apply",     "ps",
                                          "exec",  "kill", "report",  "completion"};

int dispatch(std::span<char* const> arguments) {
  if (arguments.empty()) return usage_error("no COMMAND was given");
  const std::string_view word = arguments[0];
  for (const Command& command : kCommands) {
    if (command.name == word) return command.run(arguments.subspan(1));
  }
  if (std::ranges::find(kReserved, word) != std::end(kReserved)) {
    return usage_error(
        fmt::format("'{}' is a command that this version does not have; `boxrun -- {}` runs a "
                    "program of that name",
                    word, word));
  }
  return run(arguments);
}

}  // namespace
}  // namespace boxrun::cli

int main(int argc, char** argv) {
  try {
    const std::span<char* const> all(argv, static_cast<size_t>(argc));
    return boxrun::cli::dispatch(all.subspan(all.empty() ? 0 : 1));
  } catch (const std::exception& error) {
    return boxrun::cli::fail(boxrun::cli::kOwnFailure,
                             fmt::format("internal error: {}", error.what()));
  }
}
