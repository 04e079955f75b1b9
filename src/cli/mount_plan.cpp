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

std::string read_link(const std::string& path) {
  char text[PATH_MAX];
  const ssize_t size = ::readlink(path.c_str(), text, sizeof text);
  return size < 0 ? std::string() : std::string(text, static_cast<size_t>(size));
}

bool is_in_root(const std::string& path) { return path.rfind('/') == 0 && path.size() > 1; }

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
  return profile::absolute_path(profile::expand_home(glob, home), cwd);
}

bool is_within(std::string_view path, std::string_view directory) {
  if (directory == "/") return true;
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
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
                              MountCache cache, Asked asked, const std::string& origin) {
  const std::string real = real_path(source);
  if (real.empty()) {
    if (asked == Asked::kByList && errno == ENOENT) return false;
    return Error{fmt::format("{}: the source '{}' cannot be mounted: {}", origin, source,
                             strerrordesc_np(errno))};
  }
  if (source == target && is_in_root(source) && real != source) {
    const std::string text = read_link(source);
    const bool known =
        std::ranges::any_of(links_, [&](const SymlinkSpec& link) { return link.path == source; });
    if (!known) links_.push_back({source, text});
    if (host_path(real)) return true;
    return add_real(real, real, mode, cache, asked, origin);
  }
  return add_real(real, target, mode, cache, asked, origin);
}

Expected<bool> MountPlan::add_real(const std::string& real, const std::string& target,
                                   MountMode mode, MountCache cache, Asked asked,
                                   const std::string& origin) {
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
  struct stat status {};
  if (::stat(real.c_str(), &status) != 0) {
    return Error{fmt::format("{}: '{}': {}", origin, real, strerrordesc_np(errno))};
  }
  if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode)) {
    return Error{fmt::format("{}: '{}' is neither a directory nor a regular file", origin, real)};
  }
  MountSpec mount{real, follow_root_links(target), mode, cache, S_ISDIR(status.st_mode), origin,
                  hide_};
  if (is_hidden(hide_, real)) {
    const auto hides = [&](const std::string& glob) { return is_hidden({glob}, real); };
    if (asked == Asked::kByInference) {
      return Error{
          fmt::format("{}: '{}' is hidden by '{}'; name it with --ro or --overlay to show it",
                      origin, real, *std::ranges::find_if(hide_, hides))};
    }
    std::erase_if(mount.hide, hides);
  }
  std::erase_if(mounts_, [&](const MountSpec& earlier) { return earlier.target == mount.target; });
  mounts_.push_back(std::move(mount));
  return true;
}

void MountPlan::add_tmpfs(TmpfsSpec tmpfs) {
  tmpfs.path = follow_root_links(tmpfs.path);
  tmpfs_.push_back(std::move(tmpfs));
}

std::optional<std::string> MountPlan::host_path(const std::string& path) const {
  const std::string guest = follow_root_links(path);
  const MountSpec* best = nullptr;
  for (const MountSpec& mount : mounts_) {
    if (is_within(guest, mount.target) &&
        (best == nullptr || mount.target.size() >= best->target.size())) {
      best = &mount;
    }
  }
  if (best == nullptr) return std::nullopt;
  for (const TmpfsSpec& tmpfs : tmpfs_) {
    if (is_within(guest, tmpfs.path) && tmpfs.path.size() > best->target.size())
      return std::nullopt;
  }
  return best->source + guest.substr(best->target.size());
}

void MountPlan::finish(RunSpec& spec) {
  // What is mounted at the place of an empty directory takes its place.
  std::erase_if(tmpfs_, [&](const TmpfsSpec& tmpfs) {
    return std::ranges::any_of(mounts_,
                               [&](const MountSpec& mount) { return mount.target == tmpfs.path; });
  });
  std::ranges::stable_sort(mounts_, {}, [](const MountSpec& m) { return depth(m.target); });
  std::ranges::stable_sort(tmpfs_, {}, [](const TmpfsSpec& t) { return depth(t.path); });
  spec.mounts = std::move(mounts_);
  spec.symlinks = std::move(links_);
  spec.tmpfs = std::move(tmpfs_);
}

}  // namespace boxrun::cli
