#pragma once
#include <optional>
#include <string>
#include <vector>

#include "src/cli/run_spec.h"
#include "src/profile/expected.h"

namespace boxrun::cli {

// One pattern of `hide`, absolute and accepted by gofer::HidePatterns.
struct HideGlob {
  std::string glob;
  profile::Order order;
  std::string origin;
};

// The file tree of the sandbox while it is put together: mounts, the root's symbolic links, empty
// directories, and which host file a guest path shows.
class MountPlan {
 public:
  // Who wants a mount decides two things: whether a source that is not there is an error, and
  // whether a hidden one is shown, because it was named.
  enum class Asked : uint8_t {
    kByName,       // --ro and its like: must exist
    kByList,       // read of the profile: may be absent
    kByInference,  // the current directory, the toolchain: must exist, hidden is an error
  };
  // Of what is inferred from the command line: above all profiles, below all options.
  static constexpr profile::Order kInferred = {profile::Order::kByCommandLine,
                                               profile::Order::Rank::kList};
  struct Claim {
    Asked asked;
    profile::Order order;  // a `hide` (unless by inference) or tmpfs above it takes it away
    std::string origin;
  };

  explicit MountPlan(std::vector<HideGlob> hide) : hide_(std::move(hide)) {}

  // Adds a mount of `source` (absolute, may have symbolic links) at `target` (absolute). A
  // directory of the root that is a symbolic link on the host becomes one in the guest.
  profile::Expected<bool> add(const std::string& source, const std::string& target, MountMode mode,
                              MountCache cache, const Claim& claim);
  profile::Expected<bool> add_tmpfs(TmpfsSpec tmpfs, profile::Order order,
                                    const std::string& origin);

  // The host path that the guest path `path` shows, following the root's links only; nothing where
  // no mount covers it.
  std::optional<std::string> host_path(const std::string& path) const;
  // Whether a file of the host at or below the path, or around it, is mounted: by the host's path
  // or the guest's.
  bool touches(const std::string& path) const;

  // Moves everything into `spec`, in the order in which RunSpec wants it.
  void finish(RunSpec& spec);

 private:
  template <class Spec>
  struct Planned {
    Spec spec;
    profile::Order order;
  };

  void add_usual_links();
  // Whether the guest sees the empty directory where both are at one path.
  static bool replaces(const Planned<TmpfsSpec>& tmpfs, const Planned<MountSpec>& mount) {
    return tmpfs.spec.path == mount.spec.target && tmpfs.order > mount.order;
  }
  void show_mount_points();
  std::string follow_root_links(const std::string& path) const;
  profile::Expected<bool> add_real(const std::string& real, const std::string& target,
                                   MountMode mode, MountCache cache, const Claim& claim);
  // Those of the globs that match one of a mount's paths, the one of the highest order last.
  std::vector<HideGlob> what_hides(const std::string& real, const std::string& target) const;

  std::vector<HideGlob> hide_;
  std::vector<Planned<MountSpec>> mounts_;
  std::vector<HiddenSpec> hidden_;
  std::vector<SymlinkSpec> links_;
  std::vector<Planned<TmpfsSpec>> tmpfs_;
};

// The globs of `hide` as absolute paths: `~` is the user's home, "**/.env" may be anywhere, any
// other relative one starts at `cwd`.
std::string absolute_hide_glob(std::string_view glob, std::string_view home, std::string_view cwd);

// The absolute glob with the symbolic links before its first name with a glob character resolved,
// as far as they lead somewhere: the paths that patterns are matched with have none.
std::string real_hide_glob(const std::string& glob);

// Whether one of the absolute globs matches the host path or a directory above it, as the Gofer
// will see it.
bool is_hidden(const std::vector<std::string>& globs, const std::string& path);

// realpath(3); empty on error, with errno.
std::string real_path(const std::string& path);

}  // namespace boxrun::cli
