#include "src/cli/boot_spec.h"

namespace boxrun::cli {
namespace {

using sentry::BootMount;
using sentry::BootSyscallRule;

BootMount::Mode boot_mode(MountMode mode) {
  switch (mode) {
    case MountMode::kReadOnly:
      return BootMount::Mode::kReadOnly;
    case MountMode::kReadWrite:
      return BootMount::Mode::kReadWrite;
    case MountMode::kOverlay:
      return BootMount::Mode::kOverlay;
  }
  return BootMount::Mode::kReadOnly;
}

BootSyscallRule boot_rule(std::string pattern, const SyscallAction& action, std::string origin) {
  BootSyscallRule rule{
      .pattern = std::move(pattern), .error = action.error, .origin = std::move(origin)};
  switch (action.kind) {
    case SyscallAction::Kind::kAllow:
      rule.action = BootSyscallRule::Action::kAllow;
      break;
    case SyscallAction::Kind::kErrno:
      rule.action = BootSyscallRule::Action::kErrno;
      break;
    case SyscallAction::Kind::kLog:
      rule.action = BootSyscallRule::Action::kLog;
      break;
    case SyscallAction::Kind::kKill:
      rule.action = BootSyscallRule::Action::kKill;
      break;
  }
  return rule;
}

sentry::BootLimits boot_limits(const profile::Limits& limits) {
  sentry::BootLimits boot;
  boot.memory = limits.memory;
  boot.processes = limits.processes;
  boot.open_files = limits.open_files;
  boot.file_size = limits.file_size;
  boot.cpu_time_ns = static_cast<uint64_t>(limits.cpu_time.count());
  boot.output = limits.output;
  boot.tmp_size = limits.tmp_size;
  boot.overlay_size = limits.overlay_size;
  return boot;
}

}  // namespace

sentry::BootSpec boot_spec(const RunSpec& spec) {
  sentry::BootSpec boot;
  boot.program = spec.program;
  boot.argv = spec.argv;
  boot.env = spec.env;
  boot.cwd = spec.cwd;
  boot.hostname = spec.hostname;
  boot.ignored_signals = spec.ignored_signals;
  boot.uid = spec.identity.uid;
  boot.gid = spec.identity.gid;
  boot.groups = spec.identity.groups;
  for (const MountSpec& mount : spec.mounts) {
    boot.mounts.push_back({.source = mount.source,
                           .target = mount.target,
                           .gofer_mount = static_cast<uint32_t>(boot.mounts.size()),
                           .mode = boot_mode(mount.mode),
                           .cache = mount.cache == MountCache::kShared
                                        ? BootMount::Cache::kShared
                                        : BootMount::Cache::kExclusive,
                           .is_directory = mount.is_directory});
  }
  for (const SymlinkSpec& link : spec.symlinks) boot.symlinks.push_back({link.path, link.text});
  for (const TmpfsSpec& tmpfs : spec.tmpfs) {
    boot.tmpfs.push_back({tmpfs.path, tmpfs.mode, tmpfs.owned_by_user});
  }
  boot.limits = boot_limits(spec.limits);
  boot.syscall_rules.push_back(boot_rule("*", spec.syscall_default, "the default of the profile"));
  for (const SyscallRuleSpec& rule : spec.syscall_rules) {
    boot.syscall_rules.push_back(boot_rule(rule.pattern, rule.action, rule.origin));
  }
  boot.trace_group = spec.trace.group;
  boot.statistics = spec.statistics;
  return boot;
}

}  // namespace boxrun::cli
