// What file system calls do, with paths and permissions, on the caller's behalf. Each function is
// the system call of its name without its user memory; errors are those of the manual page.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/vfs/access.h"
#include "sentry/vfs/caller.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/walk.h"
#include "src/base/result.h"

namespace boxrun::vfs {

// A path argument: where it starts when it is relative. The system call layer resolves dirfd.
struct At {
  Path start;  // must be a directory unless `path` is empty; ENOTDIR
  std::string_view path;
  // Who opened the descriptor that `start` is; null when it is none. Lets linkat with AT_EMPTY_PATH
  // name a file that the caller himself has opened (linkat(2), since Linux 6.10).
  Ref<Credentials> opener = nullptr;
};

// open(2), openat2(2): all flags. The caller checks them against each other first (build_open_flags
// is check_open_flags below) and waits while FileDescription::finish_open says kAgain.
struct OpenHow {
  int flags = 0;
  mode_t mode = 0;
  uint64_t resolve = 0;
};
Result<Ref<FileDescription>> open_at(Caller& caller, const At& at, const OpenHow& how);
// EINVAL for combinations that openat2 refuses. `strict`: unknown flags are refused, not ignored.
Result<OpenHow> check_open_flags(OpenHow how, bool strict);
// Opens a place that is already known: /proc/PID/fd/N, open_by_handle, execve.
Result<Ref<FileDescription>> open_place(Caller& caller, const Path& place, int flags);
// For execve: a regular file, executable, not on a noexec mount. EACCES. Denials are reported.
Result<Ref<FileDescription>> open_executable(Caller& caller, const At& at, Follow follow,
                                             bool allow_empty);

Result<void> make_node(Caller& caller, const At& at, FileType type, mode_t mode, uint64_t rdev);
Result<void> make_directory(Caller& caller, const At& at, mode_t mode);
// The inode of a bound socket (bind(2)); EADDRINUSE when the name exists. `endpoint` is attached
// to it.
Result<Path> make_socket(Caller& caller, const At& at, mode_t mode, Ref<RefCounted> endpoint);
Result<void> make_symlink(Caller& caller, const At& at, std::string_view target);
// `flags`: AT_SYMLINK_FOLLOW, AT_EMPTY_PATH.
Result<void> link_at(Caller& caller, const At& from, const At& to, int flags);
Result<void> unlink_file(Caller& caller, const At& at);
Result<void> remove_directory(Caller& caller, const At& at);
// `flags`: RENAME_*.
Result<void> rename_at(Caller& caller, const At& from, const At& to, uint32_t flags);

// Paths with AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH in `flags`.
Result<Path> find(Caller& caller, const At& at, int flags);
Result<Attributes> stat_at(Caller& caller, const At& at, int flags);
// faccessat2(2): with the real ids unless AT_EACCESS.
Result<void> access_at(Caller& caller, const At& at, AccessMask mask, int flags);
Result<std::string> read_link_at(Caller& caller, const At& at);
Result<Statistics> statistics_at(Caller& caller, const At& at);

// Changes to a place or to an open file.
Result<void> change_mode(Caller& caller, const Path& place, mode_t mode);
// -1 leaves an id alone.
Result<void> change_owner(Caller& caller, const Path& place, uid_t uid, gid_t gid);
// Empty: leave alone (UTIME_OMIT).
struct NewTimes {
  std::optional<TimeChange> atime, mtime;
};
Result<void> change_times(Caller& caller, const Path& place, NewTimes times);
Result<void> truncate_place(Caller& caller, const Path& place, uint64_t size);

Result<std::string> get_xattr(Caller& caller, const Path& place, std::string_view name);
Result<void> set_xattr(Caller& caller, const Path& place, std::string_view name,
                       std::string_view value, XattrCreate how);
Result<void> remove_xattr(Caller& caller, const Path& place, std::string_view name);
// The names, as listxattr(2) shows them to the caller.
Result<std::vector<std::string>> list_xattr(Caller& caller, const Path& place);

// getcwd(2): ENOENT when the directory has been removed.
Result<std::string> current_directory(Caller& caller);
Result<void> change_directory(Caller& caller, const Path& place);  // ENOTDIR, EACCES
Result<void> change_root(Caller& caller, const Path& place);       // EPERM without CAP_SYS_CHROOT

// EROFS, reported when the mount and not the file system is the reason.
Result<void> require_writable(Caller& caller, const Path& place);

}  // namespace boxrun::vfs
