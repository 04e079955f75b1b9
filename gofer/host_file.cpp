#include "gofer/host_file.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace boxrun::gofer {
namespace {

// Newer than the C library's headers on Debian 12 (include/uapi/asm-generic/unistd.h).
constexpr long kFchmodat2 = 452;

// include/uapi/linux/magic.h, and the few whose magic is private to their source file.
constexpr uint32_t kForbidden[] = {
    0x00009fa0,  // proc
    0x62656572,  // sysfs
    0x0027e0eb,  // cgroup
    0x63677270,  // cgroup2
    0x00001cd1,  // devpts
    0x64626720,  // debugfs
    0x74726163,  // tracefs
    0x73636673,  // securityfs
    0x62656570,  // configfs
    0xcafe4a11,  // bpf
    0x6165676c,  // pstore
    0xde5e81e4,  // efivarfs
    0x65735543,  // fusectl
    0x42494e4d,  // binfmt_misc
    0x19800202,  // mqueue
    0xf97cff8c,  // selinuxfs
    0x43415d53,  // smackfs
    0x5a3c69f0,  // apparmorfs
    0x6e736673,  // nsfs
    0x534f434b,  // sockfs
    0x50495045,  // pipefs
    0x09041934,  // anon_inodefs
    0x50494446,  // pidfs
    0x6c6f6f70,  // binderfs
    0x07655821,  // resctrl
    0xabba1974,  // xenfs
    0x6e667364,  // nfsd
    0x67596969,  // rpc_pipefs
    0x444d4142,  // dma-buf
    0x00009fa2,  // usbdevfs
    0x00000187,  // autofs: a lookup may wait for a daemon
};

// "123" for descriptor 123, NUL-terminated.
std::array<char, 12> fd_name(int fd) {
  std::array<char, 12> name{};
  std::to_chars(name.data(), name.data() + name.size() - 1, fd);
  return name;
}

Time to_time(const statx_timestamp& t) { return {static_cast<uint64_t>(t.tv_sec), t.tv_nsec}; }

// Changes whenever contents or attributes do, as far as the clock tells.
uint32_t version_of(const struct statx& st) {
  const uint64_t mixed = static_cast<uint64_t>(st.stx_mtime.tv_sec) * 1000000007 +
                         st.stx_mtime.tv_nsec + static_cast<uint64_t>(st.stx_ctime.tv_sec) * 31 +
                         st.stx_ctime.tv_nsec * uint64_t{131} + st.stx_size;
  return static_cast<uint32_t>(mixed ^ mixed >> 32);
}

// An open descriptor for the f*xattr calls, which refuse O_PATH ones. Empty for anything but files
// and directories: those have no `user.` attributes (xattr(7)). `access` is what xattr(7) demands
// of the caller; a directory can only be opened for reading.
Result<UniqueFd> open_for_xattr(const ProcFds& proc, int fd, int access) {
  const HostStat st = TRY(stat_fd(fd));
  if (st.is(S_IFDIR)) return own_fd(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!st.is(S_IFREG)) return UniqueFd();
  return proc.reopen(fd, access | O_NONBLOCK);
}

}  // namespace

QidType qid_type(mode_t mode) {
  if (S_ISDIR(mode)) return QidType::kDir;
  return S_ISLNK(mode) ? QidType::kSymlink : QidType::kFile;
}

Result<HostStat> stat_fd(int fd) {
  struct statx st;
  if (statx(fd, kEmptyPath, AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &st) <
      0) {
    return last_error();
  }
  HostStat result;
  result.id = {makedev(st.stx_dev_major, st.stx_dev_minor), st.stx_ino, {}};
  if ((st.stx_mask & STATX_BTIME) != 0) result.id.born = to_time(st.stx_btime);
  Attr& attr = result.attr;
  attr.valid = kAttrBasic | ((st.stx_mask & STATX_BTIME) != 0 ? kAttrBtime : 0);
  attr.qid.type = qid_type(st.stx_mode);
  attr.qid.version = version_of(st);
  attr.mode = st.stx_mode;
  attr.uid = st.stx_uid;
  attr.gid = st.stx_gid;
  attr.nlink = st.stx_nlink;
  attr.rdev = makedev(st.stx_rdev_major, st.stx_rdev_minor);
  attr.size = st.stx_size;
  attr.blksize = st.stx_blksize;
  attr.blocks = st.stx_blocks;
  attr.atime = to_time(st.stx_atime);
  attr.mtime = to_time(st.stx_mtime);
  attr.ctime = to_time(st.stx_ctime);
  attr.btime = to_time(st.stx_btime);
  return result;
}

bool forbidden_file_system(uint64_t magic) {
  return std::ranges::find(kForbidden, static_cast<uint32_t>(magic)) != std::end(kForbidden);
}

Result<void> check_file_system(int fd) {
  struct statfs st;
  if (fstatfs(fd, &st) < 0) return last_error();
  if (forbidden_file_system(static_cast<uint64_t>(st.f_type))) return Errno::kAcces;
  return {};
}

Result<std::string_view> read_link_into(int fd, std::span<std::byte> room) {
  char* text = reinterpret_cast<char*>(room.data());
  const ssize_t size = readlinkat(fd, kEmptyPath, text, room.size());
  if (size < 0) return last_error();
  return std::string_view(text, static_cast<size_t>(size));
}

ProcFds ProcFds::open_own() {
  ProcFds proc;
  proc.directory_ = UniqueFd(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  // Some other file system may be mounted on /proc.
  struct statfs st;
  if (proc.directory_ && (fstatfs(proc.directory_.get(), &st) < 0 || st.f_type != 0x9fa0)) {
    proc.directory_.reset();
  }
  return proc;
}

Result<UniqueFd> ProcFds::reopen(int fd, int flags) const {
  if (!directory_) return Errno::kOpNotSupp;
  return own_fd(openat(directory_.get(), fd_name(fd).data(), flags | O_CLOEXEC | O_NOCTTY));
}

Result<void> ProcFds::link(int fd, int directory, const char* name) const {
  if (!directory_) return Errno::kOpNotSupp;
  if (linkat(directory_.get(), fd_name(fd).data(), directory, name, AT_SYMLINK_FOLLOW) < 0) {
    return last_error();
  }
  return {};
}

Result<void> ProcFds::change_mode(int fd, mode_t mode) const {
  if (syscall(kFchmodat2, fd, kEmptyPath, mode, AT_EMPTY_PATH) == 0) return {};
  if (errno != ENOSYS || !directory_) return last_error();
  if (fchmodat(directory_.get(), fd_name(fd).data(), mode, 0) < 0) return last_error();
  return {};
}

Result<void> change_owner(int fd, uid_t uid, gid_t gid) {
  if (fchownat(fd, kEmptyPath, uid, gid, AT_EMPTY_PATH) < 0) return last_error();
  return {};
}

Result<void> change_times(int fd, const timespec times[2]) {
  // AT_EMPTY_PATH for utimensat came with Linux 5.8. glibc refuses a null path only.
  if (utimensat(fd, kEmptyPath, times, AT_EMPTY_PATH) < 0) return last_error();
  return {};
}

bool xattr_allowed(std::string_view name) {
  return name.starts_with("user.") || name == "system.posix_acl_access" ||
         name == "system.posix_acl_default";
}

Result<size_t> get_xattr(const ProcFds& proc, int fd, const char* name,
                         std::span<std::byte> value) {
  const UniqueFd file = TRY(open_for_xattr(proc, fd, O_RDONLY));
  if (!file) return Errno::kNoData;
  return static_cast<size_t>(
      TRY(host_result(fgetxattr(file.get(), name, value.data(), value.size()))));
}

Result<size_t> list_xattrs(const ProcFds& proc, int fd, std::span<std::byte> names) {
  const UniqueFd file = TRY(open_for_xattr(proc, fd, O_RDONLY));
  if (!file) return size_t{0};
  char* list = reinterpret_cast<char*>(names.data());
  return static_cast<size_t>(TRY(host_result(flistxattr(file.get(), list, names.size()))));
}

Result<void> set_xattr(const ProcFds& proc, int fd, const char* name, Data value, int flags) {
  const UniqueFd file = TRY(open_for_xattr(proc, fd, O_WRONLY));
  if (!file) return Errno::kPerm;
  if (fsetxattr(file.get(), name, value.data(), value.size(), flags) < 0) return last_error();
  return {};
}

Result<void> remove_xattr(const ProcFds& proc, int fd, const char* name) {
  const UniqueFd file = TRY(open_for_xattr(proc, fd, O_WRONLY));
  if (!file) return Errno::kPerm;
  if (fremovexattr(file.get(), name) < 0) return last_error();
  return {};
}

}  // namespace boxrun::gofer
