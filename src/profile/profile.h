// What a profile says, after TOML and before the host is looked at: paths are as written (with `~`
// and globs), nothing is resolved. CLI.md's page for users is boxrun-profile(5).
#pragma once
#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/base/errno.h"
#include "src/report/settings.h"

namespace boxrun::profile {

enum class MountMode : uint8_t { kReadOnly, kReadWrite, kOverlay };

// Who may change the files of a mount while the sandbox runs: only the sandbox (kExclusive, so its
// caches are the truth), or the host as well (kShared, revalidated on open).
enum class MountCache : uint8_t { kExclusive, kShared };

// The Sentry's networks. As long as it has no loopback interface (sentry/net/README.md), nobody can
// be reached in either.
enum class NetworkMode : uint8_t { kNone, kLoopback };

enum class Toolchain : uint8_t { kAuto, kNone };
enum class CwdMode : uint8_t { kOverlay, kReadOnly, kReadWrite, kNone };
enum class OverlayData : uint8_t { kMemory, kDisk };
enum class HomeMode : uint8_t { kEmpty, kReadOnly, kOverlay };

// Which of two entries about one file counts: that of the layer read later (each profile file is
// one, over those it extends; the command line is the last), and within a layer, where the order of
// keys means nothing, the higher rank: what one profile both lists and hides is hidden, what it
// asks to be empty (tmpfs) is empty, and what it mounts by name is shown.
struct Order {
  enum class Rank : uint8_t { kList, kHide, kTmpfs, kMount };
  static constexpr uint32_t kByCommandLine = UINT32_MAX;

  uint32_t layer = 0;
  Rank rank = Rank::kList;

  auto operator<=>(const Order&) const = default;
};

// A value with the place that decided it: "profile.toml:12" or "--ro ./data".
struct Located {
  std::string value;
  std::string origin;
  uint32_t layer = 0;  // of its Order
};

// One [[filesystem.mount]], --ro, --rw or --overlay.
struct Mount {
  std::string source;
  std::string target;  // empty: the same path as the source
  MountMode mode = MountMode::kReadOnly;
  std::optional<MountCache> cache;  // empty: by mode
  std::string origin;
  uint32_t layer = 0;  // of its Order
};

struct SyscallAction {
  enum class Kind : uint8_t { kAllow, kErrno, kLog, kKill };
  Kind kind = Kind::kErrno;
  Errno error = Errno::kPerm;  // of kErrno

  bool operator==(const SyscallAction&) const = default;
};

// One entry of [syscalls] deny, or one --deny-syscall.
struct SyscallRule {
  std::string pattern;  // a name, a glob as in "io_uring_*", or a group as in "@mount"
  std::optional<SyscallAction> action;  // empty: Profile::syscall_action
  std::string origin;
};

// Zero means no limit.
struct Limits {
  std::chrono::nanoseconds timeout{0};
  std::chrono::nanoseconds kill_after{0};  // after SIGTERM; zero: the end comes at once
  std::chrono::nanoseconds cpu_time{0};
  uint64_t memory = 0;        // bytes, of everything the guest can dirty
  uint64_t processes = 0;     // tasks: threads count
  uint64_t open_files = 0;    // per process
  uint64_t file_size = 0;     // bytes
  uint64_t output = 0;        // bytes written to stdout and stderr together
  uint64_t tmp_size = 0;      // bytes per tmpfs, /dev/shm among them
  uint64_t overlay_size = 0;  // bytes of changes per overlay
};

struct Profile {
  std::string name;
  std::string platform = "auto";
  uint32_t layers = 0;  // how many files were laid over each other

  Toolchain toolchain = Toolchain::kAuto;
  CwdMode cwd = CwdMode::kOverlay;
  HomeMode home = HomeMode::kEmpty;
  OverlayData overlay_data = OverlayData::kMemory;
  std::vector<Located> read;
  std::vector<Located> write;
  std::vector<Located> hide;
  std::vector<Located> tmpfs;
  std::vector<Mount> mounts;

  NetworkMode network = NetworkMode::kLoopback;

  std::vector<std::string> env_pass;  // names or globs
  std::vector<std::pair<std::string, std::string>> env_set;

  Limits limits;

  SyscallAction syscall_default{SyscallAction::Kind::kAllow, Errno::kPerm};
  SyscallAction syscall_action{SyscallAction::Kind::kErrno, Errno::kPerm};
  std::vector<SyscallRule> syscall_rules;

  std::vector<report::Format> report_formats;
  report::FailOn fail_on = report::FailOn::kNone;
};

}  // namespace boxrun::profile
