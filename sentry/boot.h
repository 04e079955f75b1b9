// From a sealed, empty process to a running guest. The launcher (src/cli/launch) forks the Sentry,
// seals it, and calls run(); everything that needs rights the sealed Sentry lacks was made before
// and is handed over in the BootSpec.
#pragma once
#include <sys/types.h>

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "platforms/platform.h"
#include "sentry/mm/memory_file.h"
#include "src/base/failure.h"
#include "src/base/fd.h"
#include "src/base/result.h"

namespace boxrun::fs {
class FdNotifier;
}

namespace boxrun::sentry {

// One host file or directory that the Gofer serves, in the order they are to be mounted.
struct BootMount {
  enum class Mode : uint8_t { kReadOnly, kReadWrite, kOverlay };
  enum class Cache : uint8_t { kExclusive, kShared };
  std::string source;        // for /proc/mounts
  std::string target;        // absolute guest path
  uint32_t gofer_mount = 0;  // the Gofer's index of the mount
  Mode mode = Mode::kReadOnly;
  Cache cache = Cache::kExclusive;
  bool is_directory = true;
};

struct BootSymlink {
  std::string path;
  std::string text;
};

struct BootTmpfs {
  std::string path;
  mode_t mode = 0755;
  bool owned_by_user = false;
};

// Zero means no limit of its own.
struct BootLimits {
  uint64_t memory = 0;        // bytes; the size of the memory file
  uint64_t processes = 0;     // tasks
  uint64_t open_files = 0;    // RLIMIT_NOFILE
  uint64_t file_size = 0;     // RLIMIT_FSIZE
  uint64_t cpu_time_ns = 0;   // of all processes together
  uint64_t output = 0;        // bytes to the standard streams
  uint64_t tmp_size = 0;      // bytes per tmpfs, /dev/shm among them
  uint64_t overlay_size = 0;  // bytes in each overlay's upper layer
};

// A rule of the syscall policy, in order; the last match wins.
struct BootSyscallRule {
  enum class Action : uint8_t { kAllow, kErrno, kLog, kKill };
  std::string pattern;  // a name, a glob or an @group; "*" is the default
  Action action = Action::kErrno;
  Errno error = Errno::kPerm;
  std::string origin;  // "default.toml:21", for the report
};

// The caller's standard streams, looked at before the Sentry can open nothing any more.
struct HostStreams {
  HostStreams();
  HostStreams(HostStreams&&) noexcept;
  HostStreams& operator=(HostStreams&&) noexcept;
  ~HostStreams();

  std::unique_ptr<fs::FdNotifier> notifier;
  std::array<std::string, 3> names;  // "/dev/pts/3", "pipe:[17]"; empty: closed
  UniqueFd terminal;                 // /dev/tty, where one of them is our controlling terminal
  dev_t terminal_device = 0;
};
// Takes over the descriptors 0, 1 and 2 of this process. One that the caller had closed is false in
// `open`: then the number is taken by /dev/null, and the guest does not get it. Before sealing,
// where /proc tells what they are.
Result<HostStreams> prepare_streams(const std::array<bool, 3>& open);

struct BootSpec {
  std::string program;  // absolute guest path
  std::vector<std::string> argv;
  std::vector<std::string> env;
  std::string cwd;
  std::string hostname;
  uint64_t ignored_signals = 0;  // when the program starts: bit N - 1 for signal N
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;

  // How the Gofer shows owners it has no number for, who are shown as root. None where a user has
  // it.
  std::optional<uid_t> unmapped_uid;
  std::optional<gid_t> unmapped_gid;

  std::vector<BootMount> mounts;
  std::vector<BootSymlink> symlinks;
  std::vector<BootTmpfs> tmpfs;
  BootLimits limits;
  std::vector<BootSyscallRule> syscall_rules;

  UniqueFd trace_sink;      // none: no tracing
  std::string trace_group;  // empty: every system call
  bool statistics = false;  // sent to the monitor at the end

  mm::MemoryFile::Backing memory;
  std::unique_ptr<platform::Platform> platform;
  UniqueFd losses;  // platform::Options::losses
  std::vector<UniqueFd> gofer_channels;
  size_t kept_files = 256;  // host files that nobody has open, kept for whoever opens them again
  UniqueFd report_socket;   // report::Message packets, Sentry -> monitor
  UniqueFd control_socket;  // ControlMessage packets, both ways
  HostStreams streams;      // what the guest gets as 0, 1 and 2
};

// Checks what can be wrong with a spec before anything is forked or sealed: an unknown system call
// or group in a rule, with its origin. For the launcher.
MaybeFailure check_syscall_rules(const std::vector<BootSyscallRule>& rules);

// Runs the program until it has ended and reports through the control socket. Returns a failure
// when the sandbox could not be set up; what happened after that went over the control socket.
// The calling thread serves the control socket; the process should exit when run() returns.
MaybeFailure run(BootSpec spec);

}  // namespace boxrun::sentry
