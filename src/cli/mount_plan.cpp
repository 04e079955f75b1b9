#include "src/cli/mount_plan.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "gofer/hide.h"

#include "src/base/errno_text.h"
#include "src/base/path.h"
#include "src/profile/expand.h"

namespace boxrun::cli {

using profile::Error;
using profile::Expected;

namespace {

// File systems that are windows into the kernel: through proc alone every process of the user and
// its memory could be reached. The Gofer refuses them too; here the message can be better.
std::string_view kernel_file_system(const std::string& path) {
  struct statfs status {};
  if (::statfs(path.c_str(), &status) != 0) return {};
  switch (static_cast<unsigned>(status.f_type)) {
    case PROC_SUPER_MAGIC:
      return "proc";
    case SYSFS_MAGIC:
      return "sysfs";
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
      return "cgroup";
    case DEVPTS_SUPER_MAGIC:
      return "devpts";
    case DEBUGFS_MAGIC:
      return "debugfs";
    case TRACEFS_MAGIC:
      return "tracefs";
    case SECURITYFS_MAGIC:
      return "securityfs";
    case BPF_FS_MAGIC:
      return "bpf";
    default:
      return {};
  }
}

// The Sentry mounts these last, over what is there (sentry/boot_tree.cpp).
std::optional<Error> covered(const std::string& target, const std::string& origin) {
  for (const char* const own : {"/proc", "/sys"}) {
    if (is_within(target, own)) {
      return Error{fmt::format("{}: nothing can be mounted at '{}': {} is the sandbox's own",
                               origin, target, own)};
    }
  }
  return std::nullopt;
}

std::string read_link(const std::string& path) {
  char text[PATH_MAX];
  const ssize_t size = ::readlink(path.c_str(), text, sizeof text);
  return size < 0 ? std::string() : std::string(text, static_cast<size_t>(size));
}

bool is_in_root(const std::string& path) { return path.rfind('/') == 0 && path.size() > 1; }

constexpr const char* kSpecial = "*?[\\";

// The pattern that matches the path and nothing else.
std::string escape(std::string_view path) {
  std::string out;
  for (const char c : path) {
    if (std::strchr(kSpecial, c) != nullptr) out += '\\';
    out += c;
  }
  return out;
}

size_t depth(const std::string& path) {
  return static_cast<size_t>(std::count(path.begin(), path.end(), '/'));
}

}  // namespace

bool is_hidden(const std::vector<std::string>& globs, const std::string& path) {
  const Result<gofer::HidePatterns> patterns = gofer::HidePatterns::create(globs);
  return patterns.ok() && patterns->root_state(path)->hidden();
}

std::string absolute_hide_glob(std::string_view glob, std::string_view home, std::string_view cwd) {
  if (glob.starts_with("**/")) return "/" + std::string(glob);
  return profile::absolute_path(profile::expand_home(glob, escape(home)), escape(cwd));
}

std::string real_hide_glob(const std::string& glob) {
  size_t end = glob.find_first_of(kSpecial);
  end = end == std::string::npos ? glob.size() : glob.rfind('/', end);
  for (; end != 0; end = glob.rfind('/', end - 1)) {
    const std::string real = real_path(glob.substr(0, end));
    if (!real.empty()) return escape(real) + glob.substr(end);
  }
  return glob;
}

std::string real_path(const std::string& path) {
  char resolved[PATH_MAX];
  return ::realpath(path.c_str(), resolved) == nullptr ? std::string() : std::string(resolved);
}

std::string MountPlan::follow_root_links(const std::string& path) const {
  for (const SymlinkSpec& link : links_) {
    if (is_within(path, link.path)) {
      return profile::absolute_path(link.text + path.substr(link.path.size()), "/");
    }
  }
  return path;
}

Expected<bool> MountPlan::add(const std::string& source, const std::string& target, MountMode mode,
                              MountCache cache, const Claim& claim) {
  const std::string real = real_path(source);
  if (real.empty()) {
    if (claim.asked == Asked::kByList && errno == ENOENT) return false;
    return Error{fmt::format("{}: the source '{}' cannot be mounted: {}", claim.origin, source,
                             errno_text(last_error()))};
  }
  if (source == target && is_in_root(source) && real != source) {
    const std::string text = read_link(source);
    const bool known =
        std::ranges::any_of(links_, [&](const SymlinkSpec& link) { return link.path == source; });
    if (!known) links_.push_back({source, text});
    for (auto& tmpfs : tmpfs_) tmpfs.spec.path = follow_root_links(tmpfs.spec.path);
    if (host_path(real)) return true;
    return add_real(real, real, mode, cache, claim);
  }
  return add_real(real, target, mode, cache, claim);
}

std::vector<HideGlob> MountPlan::what_hides(const std::string& real,
                                            const std::string& target) const {
  std::vector<HideGlob> found;
  for (const HideGlob& glob : hide_) {
    if (is_hidden({glob.glob}, real) || is_hidden({glob.glob}, target)) found.push_back(glob);
  }
  std::ranges::stable_sort(found, {}, &HideGlob::order);
  return found;
}

Expected<bool> MountPlan::add_real(const std::string& real, const std::string& target,
                                   MountMode mode, MountCache cache, const Claim& claim) {
  const std::string& origin = claim.origin;
  if (target == "/") {
    return Error{
        fmt::format("{}: nothing can be mounted at /; mount its directories one by one", origin)};
  }
  if (const std::string_view name = kernel_file_system(real); !name.empty()) {
    return Error{
        fmt::format("{}: '{}' is on a {} file system of the host, which no mount may show; "
                    "the sandbox has its own",
                    origin, real, name)};
  }
  if (std::optional<Error> error = covered(follow_root_links(target), origin)) return *error;
  struct stat status {};
  if (::stat(real.c_str(), &status) != 0) {
    return Error{fmt::format("{}: '{}': {}", origin, real, errno_text(last_error()))};
  }
  if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode)) {
    return Error{fmt::format("{}: '{}' is neither a directory nor a regular file", origin, real)};
  }
  MountSpec mount{real, follow_root_links(target), mode, cache, S_ISDIR(status.st_mode), origin,
                  {}};
  const std::vector<HideGlob> hiding = what_hides(real, mount.target);
  if (!hiding.empty() && claim.asked == Asked::kByInference) {
    return Error{
        fmt::format("{}: '{}' is hidden by '{}'; name it with --ro or --overlay to show it", origin,
                    real, hiding.back().glob)};
  }
  if (!hiding.empty() && hiding.back().order > claim.order) {
    hidden_.push_back({mount.target, hiding.back().origin});
    return true;
  }
  for (const HideGlob& glob : hide_) {
    if (std::ranges::find(hiding, glob.glob, &HideGlob::glob) == hiding.end())
      mount.hide.push_back(glob.glob);
  }
  // The Gofer knows the host's paths; patterns may be of the guest's as well.
  if (mount.target != real) {
    const Result<gofer::HidePatterns> patterns = gofer::HidePatterns::create(mount.hide);
    if (patterns.ok()) {
      for (std::string& rest : patterns->rests_below(mount.target))
        mount.hide.push_back(std::move(rest));
    }
  }
  std::erase_if(mounts_, [&](const auto& earlier) { return earlier.spec.target == mount.target; });
  mounts_.push_back({std::move(mount), claim.order});
  return true;
}

Expected<bool> MountPlan::add_tmpfs(TmpfsSpec tmpfs, profile::Order order,
                                    const std::string& origin) {
  tmpfs.path = follow_root_links(tmpfs.path);
  if (std::optional<Error> error = covered(tmpfs.path, origin)) return *error;
  tmpfs_.push_back({std::move(tmpfs), order});
  return true;
}

std::optional<std::string> MountPlan::host_path(const std::string& path) const {
  const std::string guest = follow_root_links(path);
  const Planned<MountSpec>* best = nullptr;
  for (const auto& mount : mounts_) {
    if (is_within(guest, mount.spec.target) &&
        (best == nullptr || mount.spec.target.size() >= best->spec.target.size())) {
      best = &mount;
    }
  }
  if (best == nullptr) return std::nullopt;
  const std::string& target = best->spec.target;
  for (const auto& tmpfs : tmpfs_) {
    const bool is_deeper = tmpfs.spec.path.size() > target.size();
    if (replaces(tmpfs, *best) || (is_deeper && is_within(guest, tmpfs.spec.path)))
      return std::nullopt;
  }
  return best->spec.source + guest.substr(target.size());
}

bool MountPlan::touches(const std::string& path) const {
  const auto is_near = [&](const std::string& at) {
    return is_within(path, at) || is_within(at, path);
  };
  return std::ranges::any_of(mounts_, [&](const auto& mount) {
    return is_near(mount.spec.source) || is_near(mount.spec.target);
  });
}

// Other names of what is empty inside, for programs older than /run (FHS 3.0, 3.15): as the host
// has them, and where the guest has nothing else.
void MountPlan::add_usual_links() {
  for (const char* const path : {"/var/run", "/var/lock"}) {
    const std::string text = read_link(path);
    if (text.empty() || host_path(path)) continue;
    const std::string target = profile::absolute_path(text, "/var");
    const auto leads_into = [&](const std::string& at) { return is_within(target, at); };
    const auto path_of = [](const auto& tmpfs) { return tmpfs.spec.path; };
    const auto target_of = [](const auto& mount) { return mount.spec.target; };
    const auto is_in_the_way = [&](const auto& at) { return is_within(at, path); };
    if (std::ranges::any_of(tmpfs_, leads_into, path_of) &&
        std::ranges::none_of(tmpfs_, is_in_the_way, path_of) &&
        std::ranges::none_of(mounts_, is_in_the_way, target_of)) {
      links_.push_back({path, text});
    }
  }
}

// A mount that was asked for by name shows what a pattern hides; then there must be a place for it.
void MountPlan::show_mount_points() {
  for (auto& [outer, outer_order] : mounts_) {
    for (const auto& [inner, inner_order] : mounts_) {
      if (inner.target == outer.target || !is_within(inner.target, outer.target)) continue;
      const std::string place = outer.source + inner.target.substr(outer.target.size());
      if (is_hidden(outer.hide, place)) outer.shown.push_back(place);
    }
  }
}

void MountPlan::finish(RunSpec& spec) {
  // At one path there is either a mount or an empty directory.
  std::erase_if(mounts_, [&](const auto& mount) {
    return std::ranges::any_of(tmpfs_, [&](const auto& tmpfs) { return replaces(tmpfs, mount); });
  });
  std::erase_if(tmpfs_, [&](const auto& tmpfs) {
    return std::ranges::any_of(
        mounts_, [&](const auto& mount) { return mount.spec.target == tmpfs.spec.path; });
  });
  add_usual_links();
  show_mount_points();
  // Below another mount it is the Gofer that hides it.
  std::erase_if(hidden_, [&](const HiddenSpec& hidden) { return host_path(hidden.path); });
  for (auto& mount : mounts_) spec.mounts.push_back(std::move(mount.spec));
  for (auto& tmpfs : tmpfs_) spec.tmpfs.push_back(std::move(tmpfs.spec));
  std::ranges::stable_sort(spec.mounts, {}, [](const MountSpec& m) { return depth(m.target); });
  std::ranges::stable_sort(spec.tmpfs, {}, [](const TmpfsSpec& t) { return depth(t.path); });
  spec.hidden = std::move(hidden_);
  spec.symlinks = std::move(links_);
}

}  // namespace boxrun::cli
