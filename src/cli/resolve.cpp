#include "src/cli/resolve.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "gofer/hide.h"
#include "src/base/errno_text.h"
#include "src/base/path.h"
#include "src/cli/command.h"
#include "src/cli/environment.h"
#include "src/cli/mount_plan.h"
#include "src/cli/toolchain.h"
#include "src/profile/expand.h"

namespace boxrun::cli {

using profile::absolute_path;
using profile::Error;
using profile::expand_glob;
using profile::expand_home;
using profile::Expected;
using profile::Located;
using profile::Order;
using Asked = MountPlan::Asked;

namespace {

// What most steps need: the request, who asks, and where paths start.
struct Resolving {
  const Request& request;
  const Caller& caller;
  RunSpec& spec;
  std::string base = {};  // the directory where relative paths start

  const profile::Profile& profile() const { return request.profile; }
  const std::string& home() const { return spec.identity.home; }
  std::string absolute(std::string_view path) const {
    return absolute_path(expand_home(path, home()), base);
  }
};

// Mount sources are real paths, patterns as people write them: each is taken as it is, which hides
// a link, and with its links resolved, which hides what they lead to.
Expected<std::vector<HideGlob>> hide_globs(const Resolving& r) {
  std::vector<HideGlob> globs;
  for (const Located& entry : r.profile().hide) {
    const std::string written = absolute_hide_glob(entry.value, r.home(), r.base);
    if (gofer::has_unfinished_class(written)) {
      return Error{fmt::format("{}: '{}' has a '[' without its ']'; '\\[' is the character itself",
                               entry.origin, entry.value)};
    }
    for (const std::string& glob : {written, real_hide_glob(written)}) {
      if (!gofer::HidePatterns::create(std::span(&glob, 1))) {
        return Error{
            fmt::format("{}: '{}' is no pattern for hidden files", entry.origin, entry.value)};
      }
      globs.push_back({glob, {entry.layer, Order::Rank::kHide}, entry.origin});
    }
  }
  // Of equal ones the one of the highest order stays.
  std::ranges::stable_sort(globs, std::ranges::greater(), &HideGlob::order);
  std::ranges::stable_sort(globs, {}, &HideGlob::glob);
  const auto same = [](const HideGlob& a, const HideGlob& b) { return a.glob == b.glob; };
  globs.erase(std::unique(globs.begin(), globs.end(), same), globs.end());
  return globs;
}

// Files that boxrun makes itself are none of the host's, which alone can be hidden. A pattern with
// glob characters may mean something else as well.
Expected<bool> check_hidden(const Resolving& r, const MountPlan& plan) {
  for (const Located& entry : r.profile().hide) {
    const std::string path = absolute_hide_glob(entry.value, r.home(), r.base);
    for (const char* const own : {"/proc", "/sys", "/dev"}) {
      if (!is_within(path, own) || profile::has_glob(path) || plan.touches(path)) continue;
      return Error{
          fmt::format("{}: '{}' cannot be hidden: {} is the sandbox's own, without files "
                      "of the host",
                      entry.origin, entry.value, own)};
    }
  }
  return true;
}

Expected<bool> add_list(const Resolving& r, const std::vector<Located>& paths, MountMode mode,
                        Asked asked, MountPlan& plan) {
  const MountCache cache =
      mode == MountMode::kReadOnly ? MountCache::kExclusive : MountCache::kShared;
  for (const Located& entry : paths) {
    for (const std::string& path : expand_glob(r.absolute(entry.value))) {
      Expected<bool> added = plan.add(path, path, mode, cache,
                                      {asked, {entry.layer, Order::Rank::kList}, entry.origin});
      if (!added.ok()) return added;
    }
  }
  return true;
}

Expected<bool> add_home(const Resolving& r, MountPlan& plan) {
  const profile::HomeMode mode = r.profile().home;
  if (r.home().empty() || r.home() == "/") return true;
  if (mode == profile::HomeMode::kEmpty) {
    return plan.add_tmpfs({r.home(), 0700, true}, {}, "[filesystem] home");
  }
  return plan.add(r.home(), r.home(),
                  mode == profile::HomeMode::kOverlay ? MountMode::kOverlay : MountMode::kReadOnly,
                  MountCache::kShared,
                  {Asked::kByInference, MountPlan::kInferred, "[filesystem] home"});
}

Expected<bool> add_cwd(const Resolving& r, MountPlan& plan) {
  // The root as a mount would be everything; in / the target sees the sandbox's own root.
  if (r.spec.cwd == "/" || r.profile().cwd == profile::CwdMode::kNone) return true;
  if (r.spec.cwd == "/proc" || r.spec.cwd == "/sys" || r.spec.cwd == "/dev") return true;
  MountMode mode = MountMode::kOverlay;
  if (r.profile().cwd == profile::CwdMode::kReadOnly) mode = MountMode::kReadOnly;
  if (r.profile().cwd == profile::CwdMode::kReadWrite) mode = MountMode::kReadWrite;
  return plan.add(r.spec.cwd, r.spec.cwd, mode, MountCache::kShared,
                  {Asked::kByInference, MountPlan::kInferred, "the current directory"});
}

Expected<bool> add_named(const Resolving& r, MountPlan& plan) {
  for (const profile::Mount& mount : r.profile().mounts) {
    const std::string source = r.absolute(mount.source);
    const std::string target = mount.target.empty() ? source : r.absolute(mount.target);
    const MountCache by_mode =
        mount.mode == MountMode::kReadWrite ? MountCache::kShared : MountCache::kExclusive;
    Expected<bool> added =
        plan.add(source, target, mount.mode, mount.cache.value_or(by_mode),
                 {Asked::kByName, {mount.layer, Order::Rank::kMount}, mount.origin});
    if (!added.ok()) return added;
  }
  return true;
}

Expected<bool> add_files(const Resolving& r, MountPlan& plan) {
  for (const Located& path : r.profile().tmpfs) {
    const std::string absolute = r.absolute(path.value);
    const bool shared = absolute == "/tmp" || absolute == "/var/tmp";
    const Expected<bool> added =
        plan.add_tmpfs({absolute, static_cast<mode_t>(shared ? 01777 : 0755), !shared},
                       {path.layer, Order::Rank::kTmpfs}, path.origin);
    if (!added.ok()) return added;
  }
  Expected<bool> added = add_list(r, r.profile().read, MountMode::kReadOnly, Asked::kByList, plan);
  if (added.ok()) added = add_home(r, plan);
  if (added.ok()) added = add_cwd(r, plan);
  if (added.ok()) {
    added = add_list(r, r.profile().write, MountMode::kReadWrite, Asked::kByName, plan);
  }
  return added.ok() ? add_named(r, plan) : added;
}

Expected<bool> choose_cwd(Resolving& r) {
  const std::string wanted = expand_home(r.request.cwd, r.home());
  if (r.caller.cwd.empty() && !wanted.starts_with('/')) {
    return Error{r.caller.cwd_problem + "; change to another one, or name one with --cwd"};
  }
  r.base = r.caller.cwd;
  r.spec.cwd = wanted.empty() ? r.base : real_path(r.absolute(wanted));
  if (r.spec.cwd.empty()) {
    return Error{fmt::format("--cwd '{}': {}", r.request.cwd, errno_text(last_error()))};
  }
  // Of a directory that is gone nothing is left that relative paths could mean.
  if (r.base.empty()) r.base = r.spec.cwd;
  return true;
}

void copy_policy(const Resolving& r) {
  const profile::Profile& profile = r.profile();
  r.spec.network = profile.network;
  r.spec.limits = profile.limits;
  r.spec.syscall_default = profile.syscall_default;
  for (const profile::SyscallRule& rule : profile.syscall_rules) {
    r.spec.syscall_rules.push_back(
        {rule.pattern, rule.action.value_or(profile.syscall_action), rule.origin});
  }
  report::Settings& report = r.spec.report;
  report.outputs = r.request.outputs;
  if (report.outputs.empty()) {
    for (const report::Format format : profile.report_formats)
      report.outputs.push_back({format, {}});
  }
  if (report.outputs.empty()) report.outputs.push_back({report::Format::kText, {}});
  // -q is about the terminal: files that were asked for are written all the same.
  if (r.request.verbosity < 0) {
    std::erase_if(report.outputs, [](const report::Output& output) { return output.path.empty(); });
  }
  report.when = r.request.report_on;
  report.fail_on = profile.fail_on;
  report.violation_exit_code = r.request.violation_exit_code;
  report.color = r.request.color;
}

// The host's directory for the data of overlays: TMPDIR as for mktemp(1), but without it not /tmp,
// which is memory on many hosts.
std::string overlay_directory(const Resolving& r) {
  if (r.profile().overlay_data == profile::OverlayData::kMemory) return {};
  const std::string chosen(r.caller.variable("TMPDIR"));
  if (chosen.empty()) return "/var/tmp";
  return chosen.front() == '/' ? chosen : r.base + "/" + chosen;
}

Expected<bool> resolve_into(Resolving& r, int& status) {
  Expected<IdentitySpec> identity = resolve_identity(r.caller, r.request.user);
  if (!identity.ok()) return identity.error();
  r.spec.identity = std::move(*identity);
  Expected<bool> done = choose_cwd(r);
  if (!done.ok()) return done;

  Expected<std::vector<HideGlob>> hide = hide_globs(r);
  if (!hide.ok()) return hide.error();
  MountPlan plan(std::move(*hide));
  done = add_files(r, plan);
  if (!done.ok()) return done;

  Environment environment = make_environment(r.caller, r.request, r.spec.identity);
  const std::string path(environment.value("PATH"));
  const bool automatic = r.profile().toolchain == profile::Toolchain::kAuto;
  const Expected<Program> program =
      find_program(r.spec.command, path, r.spec.cwd, plan, automatic, status);
  if (!program.ok()) return program.error();
  r.spec.program = program->path;
  if (automatic) {
    done = mount_toolchain(program->location, path, r.home(), plan);
    if (!done.ok()) return done;
  }
  done = check_hidden(r, plan);
  if (!done.ok()) return done;
  r.spec.env = std::move(environment.variables);
  r.spec.env_withheld = environment.withheld;
  plan.finish(r.spec);
  r.spec.overlay_directory = overlay_directory(r);
  copy_policy(r);
  return true;
}

}  // namespace

Expected<RunSpec> resolve(const Request& request, const Caller& caller, int& status) {
  status = kOwnFailure;
  RunSpec spec;
  spec.profile = request.profile.name;
  spec.platform = request.profile.platform;
  spec.command = request.command[0];
  spec.argv = request.command;
  spec.hostname = request.hostname.empty() ? "boxrun" : request.hostname;
  spec.trace = request.trace;
  spec.statistics = request.statistics;
  spec.status_fd = request.status_fd;
  Resolving resolving{request, caller, spec};
  const Expected<bool> done = resolve_into(resolving, status);
  if (!done.ok()) return done.error();
  return spec;
}

}  // namespace boxrun::cli
