// One run, completely decided: what `run` hands to launch after the options were merged over the
// profile and the host was looked at. Nothing in it needs interpretation: paths are absolute,
// lists are final, names are resolved. Plain data, owned by the monitor.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "src/profile/profile.h"
#include "src/report/settings.h"

namespace boxrun::cli {

using profile::MountCache;
using profile::MountMode;
using profile::NetworkMode;
using profile::SyscallAction;

// A host file or directory that the Gofer serves. Sorted so that a mount point's parents come
// first; at most one per target.
struct MountSpec {
  std::string source;  // absolute host path without symlinks; it existed when it was looked at
  std::string target;  // absolute guest path; missing parents are directories owned by root
  MountMode mode = MountMode::kReadOnly;
  MountCache cache = MountCache::kExclusive;
  bool is_directory = true;
  std::string origin;  // what asked for it, for error messages: "default.toml:9", "--ro x"
  // Globs over absolute host paths that the Gofer withholds below this mount. `*` and `?` stay
  // within one name, `**` is any number of names; a match hides all that is below it, too.
  std::vector<std::string> hide;
  std::vector<std::string> shown;  // absolute paths that are there all the same: mount points
};

// What a list of a profile names and a later `hide` takes away again: it is not mounted.
struct HiddenSpec {
  std::string path;    // absolute guest path
  std::string origin;  // of the `hide` that did it
};

// A symbolic link of the guest's tree as it is on the host: /bin -> usr/bin, /var/run -> /run.
struct SymlinkSpec {
  std::string path;
  std::string text;
};

// An empty directory in the Sentry's memory: /tmp, the home directory.
struct TmpfsSpec {
  std::string path;
  mode_t mode = 0755;
  bool owned_by_user = false;  // otherwise by root
};

// One row of the syscall policy, in order; the last match wins.
struct SyscallRuleSpec {
  std::string pattern;  // a name, a glob or an @group, for the Sentry's table to resolve
  SyscallAction action;
  std::string origin;
};

// Who the target is inside. The numbers are both the guest's and the host's.
struct IdentitySpec {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::string name;
  std::string home;
  std::string shell;
};

// --trace[=GROUP] and --trace-file PATH; an empty path is stderr.
struct TraceSpec {
  bool enabled = false;
  std::string group;
  std::string path;
};

struct RunSpec {
  std::string profile;             // for the report's first line
  std::string platform = "auto";   // auto | ptrace | systrap
  std::string preferred_platform;  // what auto tries first; may be empty
  std::string program;             // what execve is given: absolute, or relative to cwd
  std::string command;             // as the user wrote it, for messages
  std::vector<std::string> argv;
  std::vector<std::string> env;  // NAME=VALUE
  uint32_t env_withheld = 0;     // how many variables of the caller did not pass
  std::string cwd;               // absolute guest path
  std::string hostname;
  IdentitySpec identity;
  uint64_t ignored_signals = 0;  // by the caller: bit N - 1 for signal N; so will the target

  std::vector<MountSpec> mounts;
  std::vector<HiddenSpec> hidden;
  std::vector<SymlinkSpec> symlinks;
  std::vector<TmpfsSpec> tmpfs;
  std::string overlay_directory;  // of the host, for the data of overlays; empty: memory

  NetworkMode network = NetworkMode::kLoopback;
  profile::Limits limits;
  SyscallAction syscall_default{SyscallAction::Kind::kAllow, Errno::kPerm};
  std::vector<SyscallRuleSpec> syscall_rules;

  report::Settings report;
  TraceSpec trace;
  bool statistics = false;  // --stats
  int status_fd = -1;       // --status-fd: one JSON object a line; borrowed, -1 when not asked for
};

}  // namespace boxrun::cli
