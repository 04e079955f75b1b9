#include "src/cli/print.h"

#include <fmt/format.h>

#include "src/cli/options.h"
#include "src/profile/values.h"
#include "src/report/escape.h"

namespace boxrun::cli {

using profile::name_of;
using report::escape_text;
using report::shell_word;

namespace {

std::string synopsis(const Option& option) {
  std::string text = option.letter == 0 ? "    " : fmt::format("-{}, ", option.letter);
  text += fmt::format("--{}", option.name);
  if (option.argument == Argument::kRequired) text += fmt::format(" {}", option.metavar);
  if (option.argument == Argument::kOptional) text += fmt::format("[={}]", option.metavar);
  return text;
}

std::string limit(uint64_t value, bool is_size) {
  if (value == 0) return "none";
  return is_size ? profile::size_to_text(value) : std::to_string(value);
}
std::string limit(std::chrono::nanoseconds value) {
  return value.count() == 0 ? "none" : profile::to_text(value);
}

std::string describe_limits(const profile::Limits& limits) {
  return fmt::format(
      "limits    timeout {}, kill-after {}, cpu-time {}, memory {}, pids {}, open-files {}, fsize "
      "{}, "
      "output {}, tmp-size {}, overlay-size {}\n",
      limit(limits.timeout), limit(limits.kill_after), limit(limits.cpu_time),
      limit(limits.memory, true), limit(limits.processes, false), limit(limits.open_files, false),
      limit(limits.file_size, true), limit(limits.output, true), limit(limits.tmp_size, true),
      limit(limits.overlay_size, true));
}

std::string describe_mount(const MountSpec& mount) {
  std::string line = fmt::format("mount     {}", shell_word(mount.target));
  if (mount.source != mount.target) line += fmt::format(" from {}", shell_word(mount.source));
  return line + fmt::format(" {} {}, {} hidden patterns ({})\n",
                            name_of(mount.mode, profile::kMountModes),
                            name_of(mount.cache, profile::kMountCaches), mount.hide.size(),
                            escape_text(mount.origin));
}

}  // namespace

std::string help_text() {
  std::string text =
      "usage: boxrun [OPTIONS] [--] COMMAND [ARG...]\n"
      "       boxrun run [OPTIONS] [--] COMMAND [ARG...]\n"
      "       boxrun doctor | syscalls | version | help\n"
      "\n"
      "Runs COMMAND under a Linux kernel of its own: no system call of it reaches this machine's\n"
      "kernel, no file but the mounted ones can be reached, and what was denied is reported.\n";
  std::string_view group;
  for (const Option& option : run_options()) {
    if (option.group != group) {
      group = option.group;
      text += fmt::format("\n{}:\n", group);
    }
    text += fmt::format("  {:<38} {}\n", synopsis(option), option.help);
  }
  text +=
      "\nExit status: the target's own; 122 for violations (--fail-on), 124 timed out, 125 boxrun\n"
      "itself failed, 126 COMMAND cannot be executed, 127 not found, 128+N died of signal N.\n";
  return text;
}

std::string describe(const RunSpec& spec) {
  std::string out =
      fmt::format("profile   {}\nplatform  {}\n", escape_text(spec.profile), spec.platform);
  out += fmt::format("program   {}\n", shell_word(spec.program));
  out += "argv     ";
  for (const std::string& argument : spec.argv) out += " " + shell_word(argument);
  out += fmt::format("\ncwd       {}\n", shell_word(spec.cwd));
  out += fmt::format("identity  uid {}, gid {}, {} groups, user {}, home {}\n", spec.identity.uid,
                     spec.identity.gid, spec.identity.groups.size(), shell_word(spec.identity.name),
                     shell_word(spec.identity.home));
  out += fmt::format("hostname  {}\n", spec.hostname);
  for (const MountSpec& mount : spec.mounts) out += describe_mount(mount);
  for (const HiddenSpec& hidden : spec.hidden) {
    out += fmt::format("hidden    {} ({})\n", shell_word(hidden.path), escape_text(hidden.origin));
  }
  for (const SymlinkSpec& link : spec.symlinks) {
    out += fmt::format("symlink   {} -> {}\n", shell_word(link.path), shell_word(link.text));
  }
  for (const TmpfsSpec& tmpfs : spec.tmpfs) {
    out += fmt::format("tmpfs     {} mode {:04o}, owner {}\n", shell_word(tmpfs.path), tmpfs.mode,
                       tmpfs.owned_by_user ? spec.identity.name : "root");
  }
  out += fmt::format("network   {}{}\n", name_of(spec.network, profile::kNetworkModes),
                     spec.network == NetworkMode::kLoopback ? ", so far without an interface" : "");
  for (const std::string& variable : spec.env)
    out += fmt::format("env       {}\n", shell_word(variable));
  out += fmt::format("env       {} variables withheld\n", spec.env_withheld);
  if (!spec.overlay_directory.empty()) {
    out += fmt::format("overlays  their data on disk, in {}\n", shell_word(spec.overlay_directory));
  }
  out += describe_limits(spec.limits);
  out += fmt::format("syscalls  default {}\n", profile::to_text(spec.syscall_default));
  for (const SyscallRuleSpec& rule : spec.syscall_rules) {
    out += fmt::format("syscalls  {} {} ({})\n", escape_text(rule.pattern),
                       profile::to_text(rule.action), escape_text(rule.origin));
  }
  for (const report::Output& output : spec.report.outputs) {
    out += fmt::format("report    {} to {}\n", name_of(output.format, profile::kFormats),
                       output.path.empty() ? "stderr" : shell_word(output.path));
  }
  out += fmt::format(
      "report    on {}, fail on {} with {}\n", name_of(spec.report.when, profile::kWhens),
      name_of(spec.report.fail_on, profile::kFailOns), spec.report.violation_exit_code);
  return out;
}

}  // namespace boxrun::cli
