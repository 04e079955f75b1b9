// What a file is (inode(7), statx(2)) and what may be asked to change about it.
#pragma once
#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "sentry/time/clock.h"

namespace boxrun::vfs {

// The values are those of S_IFMT >> 12, and so also those of d_type (getdents64(2)).
enum class FileType : uint8_t {
  kUnknown = 0,
  kFifo = S_IFIFO >> 12,
  kCharDevice = S_IFCHR >> 12,
  kDirectory = S_IFDIR >> 12,
  kBlockDevice = S_IFBLK >> 12,
  kRegular = S_IFREG >> 12,
  kSymlink = S_IFLNK >> 12,
  kSocket = S_IFSOCK >> 12,
};
constexpr FileType file_type_of(mode_t mode) {
  return static_cast<FileType>((mode & S_IFMT) >> 12);
}
constexpr mode_t type_bits(FileType type) { return static_cast<mode_t>(type) << 12; }

inline constexpr mode_t kPermissionBits = 07777;
inline constexpr mode_t kAccessBits = 0777;

struct Attributes {
  uint64_t dev = 0;
  uint64_t ino = 0;
  FileType type = FileType::kUnknown;
  mode_t mode = 0;  // permission bits only, including setuid, setgid and sticky
  uint32_t nlink = 1;
  uid_t uid = 0;
  gid_t gid = 0;
  uint64_t rdev = 0;    // of device nodes, as makedev(3)
  uint64_t size = 0;    // bytes
  uint64_t blocks = 0;  // of 512 bytes
  uint32_t block_size = 4096;
  Nanos atime = 0, mtime = 0, ctime = 0;
  std::optional<Nanos> btime;
  uint64_t flags = 0;       // STATX_ATTR_*
  uint64_t flags_mask = 0;  // which of them the file system knows

  mode_t st_mode() const { return type_bits(type) | mode; }
};

struct TimeChange {
  bool now = false;  // UTIME_NOW: the file system's own clock
  Nanos value = 0;
};

// A set of changes that are made together, or not at all. ctime follows by itself. Permission has
// been checked (access.h: prepare_change) before a file system sees one.
struct AttributeChange {
  std::optional<mode_t> mode;  // permission bits
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::optional<uint64_t> size;
  std::optional<TimeChange> atime, mtime;

  bool empty() const { return !mode && !uid && !gid && !size && !atime && !mtime; }
};

// A file to be made. The mode is final: the umask and setgid inheritance have been applied.
struct NewNode {
  FileType type = FileType::kRegular;
  mode_t mode = 0;
  uint64_t rdev = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::string symlink_target;
  bool linkable = true;  // of unnamed files: O_TMPFILE without O_EXCL
};

}  // namespace boxrun::vfs
