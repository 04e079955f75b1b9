// Host calls on held descriptors. Attributes are only ever reached through a descriptor: the
// pathname argument is always kEmptyPath, so that the seccomp filter can pin its address.
#pragma once
#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <string_view>

#include "gofer/protocol.h"
#include "src/base/fd.h"
#include "src/base/result.h"

namespace boxrun::gofer {

// The one pathname that attribute calls are given, in read-only memory.
inline constexpr char kEmptyPath[1] = "";

// Which file a descriptor is. Equal ids are the same file: inode numbers are used again, times of
// birth (where the file system has them) are not.
struct FileId {
  uint64_t dev = 0;
  uint64_t ino = 0;
  Time born;
  bool operator==(const FileId&) const = default;
};

struct HostStat {
  FileId id;
  Attr attr;  // without qid.path
  bool is(mode_t type) const { return (attr.mode & S_IFMT) == type; }
};
Result<HostStat> stat_fd(int fd);

// File systems that are interfaces to the kernel rather than storage, or whose lookups wait for
// somebody (autofs): never entered, refused as mount sources.
bool forbidden_file_system(uint64_t magic);
// EACCES when `fd` is on one of them.
Result<void> check_file_system(int fd);

QidType qid_type(mode_t mode);

// The text of the symbolic link `fd`, written to `room`.
Result<std::string_view> read_link_into(int fd, std::span<std::byte> room);

// A descriptor of /proc/self/fd: the way to reopen exactly the file behind an O_PATH descriptor. It
// is opened before the root is emptied. Empty where /proc is not mounted; then files are reopened
// by name, and a few operations (link, O_TMPFILE, extended attributes of files) report EOPNOTSUPP.
class ProcFds {
 public:
  static ProcFds open_own();
  explicit operator bool() const { return static_cast<bool>(directory_); }
  int number() const { return directory_.get(); }

  Result<UniqueFd> reopen(int fd, int flags) const;
  Result<void> link(int fd, int directory, const char* name) const;

  // fchmodat2(2), and before Linux 6.6 fchmodat(2) in this directory. A symbolic link has no mode
  // of its own: EOPNOTSUPP.
  Result<void> change_mode(int fd, mode_t mode) const;

 private:
  UniqueFd directory_;
};

Result<void> change_owner(int fd, uid_t uid, gid_t gid);
Result<void> change_times(int fd, const timespec times[2]);

// Extended attributes of an O_PATH descriptor, through a short-lived open one. What is neither a
// file nor a directory has none.
Result<size_t> get_xattr(const ProcFds& proc, int fd, const char* name, std::span<std::byte> value);
Result<size_t> list_xattrs(const ProcFds& proc, int fd, std::span<std::byte> names);
Result<void> set_xattr(const ProcFds& proc, int fd, const char* name, Data value, int flags);
Result<void> remove_xattr(const ProcFds& proc, int fd, const char* name);
// Names that may cross the border: `user.` and POSIX ACLs. Everything else is the host's own
// business: file capabilities set by a guest would be real ones.
bool xattr_allowed(std::string_view name);

}  // namespace boxrun::gofer
