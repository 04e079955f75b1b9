// What the system call layer hands to the VFS about who calls, and the small interfaces that upper
// layers implement for it.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "sentry/cred/credentials.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/terminal.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::vfs {

class FileDescription;
struct OpenRequest;

// An access that the profile, not ordinary permissions, refused.
struct Denial {
  enum class Kind : uint8_t {
    kHidden,      // exists, but the profile hides it: the guest sees ENOENT
    kNotGranted,  // lies outside every declared mount
    kReadOnly,    // write to a read-only mount: EROFS
    kNoExec,      // execution from a noexec mount: EACCES
    kDevice,      // a device node on a nodev mount: EACCES
    kConnect,     // a peer of the network
  } kind;
  // A path, absolute as far as it could be resolved; of the network "203.0.113.9:443".
  std::string_view target;
  Errno error;
  // Of a name that was to be made or removed: the directory that would have to be writable.
  std::string_view directory = {};
};

// Receives denials; implemented by sentry/syscalls. Called with no lock held.
class DenialSink {
 public:
  virtual void denied(const Denial& denial) = 0;

 protected:
  ~DenialSink() = default;
};

// Opens what its file system cannot: FIFOs by their inode, device nodes by number. Implemented by
// sentry/fs.
class SpecialFiles {
 public:
  // ENXIO when there is no such device, and for sockets.
  virtual Result<Ref<FileDescription>> open(Inode& inode, const OpenRequest& request) = 0;

 protected:
  ~SpecialFiles() = default;
};

// Whose controlling terminal /dev/tty is; implemented by the system call layer. Called with no lock
// held.
class TerminalOwner {
 public:
  virtual Ref<Terminal> controlling_terminal() = 0;  // null: none

 protected:
  ~TerminalOwner() = default;
};

// One caller for the time of one system call: borrowed, on its stack.
struct Caller {
  FsContext& fs;
  Ref<Credentials> credentials;
  MountNamespace& mounts;
  SpecialFiles& special_files;
  DenialSink* denials = nullptr;
  uint64_t file_size_limit = UINT64_MAX;  // RLIMIT_FSIZE, for truncate
  TerminalOwner* terminal = nullptr;      // asked when a character device is opened; null: none
};

// The part of a task that terminal ioctls concern (ioctl_tty(2)); implemented by the kernel.
class IoctlCaller {
 public:
  virtual const Credentials& credentials() const = 0;
  // Each answers ENOTTY when `terminal` is not the caller's controlling terminal.
  virtual Result<pid_t> foreground_group(Terminal& terminal) = 0;                  // TIOCGPGRP
  virtual Result<void> set_foreground_group(Terminal& terminal, pid_t group) = 0;  // TIOCSPGRP
  virtual Result<pid_t> session(Terminal& terminal) = 0;                           // TIOCGSID
  virtual Result<void> acquire(Terminal& terminal, bool steal) = 0;                // TIOCSCTTY
  virtual Result<void> release(Terminal& terminal) = 0;                            // TIOCNOTTY
  // Before an ioctl that changes the terminal: EINTR-like restarts after SIGTTOU when the caller
  // is in the background.
  virtual Result<void> check_change(Terminal& terminal) = 0;

 protected:
  ~IoctlCaller() = default;
};

}  // namespace boxrun::vfs
