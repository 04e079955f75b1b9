#include "sentry/syscalls/dir.h"

#include <fcntl.h>

#include <cstring>
#include <vector>

#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

// Both layouts end with the name; they differ in where the type goes (fs/readdir.c).
enum class Layout : uint8_t { kLinuxDirent, kLinuxDirent64 };

// Encodes entries until the guest's buffer is full.
class Encoder final : public vfs::DirectorySink {
 public:
  Encoder(Layout layout, size_t room) : layout_(layout), room_(room) {}

  bool add(const Entry& entry) override {
    // d_ino, d_off, d_reclen, then [d_type,] name, NUL [, d_type], padded to 8 bytes.
    constexpr size_t kName64 = 19;
    constexpr size_t kNameOld = 18;
    const bool is_64 = layout_ == Layout::kLinuxDirent64;
    const size_t unpadded =
        is_64 ? kName64 + entry.name.size() + 1 : kNameOld + entry.name.size() + 2;
    const size_t length = (unpadded + 7) & ~size_t{7};
    if (bytes_.size() + length > room_) {
      full_ = true;
      return false;
    }
    const size_t at = bytes_.size();
    bytes_.resize(at + length);
    std::byte* record = &bytes_[at];
    const auto record_length = static_cast<uint16_t>(length);
    const auto type = static_cast<uint8_t>(entry.type);
    memcpy(record, &entry.ino, 8);
    memcpy(record + 8, &entry.next, 8);
    memcpy(record + 16, &record_length, 2);
    memcpy(record + (is_64 ? 18 : length - 1), &type, 1);
    memcpy(record + (is_64 ? kName64 : kNameOld), entry.name.data(), entry.name.size());
    return true;
  }

  bool nothing_fitted() const { return full_ && bytes_.empty(); }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  const Layout layout_;
  const size_t room_;
  std::vector<std::byte> bytes_;
  bool full_ = false;
};

Result<uint64_t> read_entries(Task& task, Fd fd, uint64_t to, uint32_t size, Layout layout) {
  const auto file = TRY(task.fds().get(fd.value));
  // A program's buffer is tens of KiB; more than this would only cost memory here.
  constexpr uint32_t kMaxRoom = 256 * 1024;
  Encoder encoder(layout, std::min(size, kMaxRoom));
  TRY(file->read_directory(encoder));
  if (encoder.nothing_fitted()) return Errno::kInval;
  TRY(task.mm().copy_out(to, encoder.bytes()));
  return encoder.bytes().size();
}

}  // namespace

Result<uint64_t> sys_mkdirat(Task& task, DirFd dirfd, UserPath path, Mode mode) {
  const PathArgument argument = TRY(path_argument(task, dirfd, path));
  FileCaller caller(task);
  return zero(vfs::make_directory(caller, argument.at(), mode.value & vfs::kPermissionBits));
}
Result<uint64_t> sys_mkdir(Task& task, UserPath path, Mode mode) {
  return sys_mkdirat(task, DirFd{AT_FDCWD}, path, mode);
}
Result<uint64_t> sys_rmdir(Task& task, UserPath path) {
  const PathArgument argument = TRY(path_argument(task, path));
  FileCaller caller(task);
  return zero(vfs::remove_directory(caller, argument.at()));
}

Result<uint64_t> sys_getdents(Task& task, Fd fd, UserOut<Bytes> entries, Unsigned size) {
  return read_entries(task, fd, entries.addr, size.value, Layout::kLinuxDirent);
}
Result<uint64_t> sys_getdents64(Task& task, Fd fd, UserOut<Bytes> entries, Unsigned size) {
  return read_entries(task, fd, entries.addr, size.value, Layout::kLinuxDirent64);
}

Result<uint64_t> sys_chdir(Task& task, UserPath path) {
  const vfs::Path place = TRY(place_of(task, DirFd{AT_FDCWD}, path, 0));
  FileCaller caller(task);
  return zero(vfs::change_directory(caller, place));
}
Result<uint64_t> sys_fchdir(Task& task, Fd fd) {
  const auto file = TRY(task.fds().get_raw(fd.value));
  FileCaller caller(task);
  return zero(vfs::change_directory(caller, file->path()));
}

Result<uint64_t> sys_getcwd(Task& task, UserOut<Bytes> buffer, ULong size) {
  FileCaller caller(task);
  const std::string path = TRY(vfs::current_directory(caller));
  const size_t length = path.size() + 1;
  if (length > vfs::kMaxPath) return Errno::kNameTooLong;
  if (length > size.value) return Errno::kRange;
  TRY(task.mm().copy_out(buffer.addr, as_bytes_of(path.c_str(), length)));
  return length;
}

Result<uint64_t> sys_chroot(Task& task, UserPath path) {
  const vfs::Path place = TRY(place_of(task, DirFd{AT_FDCWD}, path, 0));
  FileCaller caller(task);
  return zero(vfs::change_root(caller, place));
}

}  // namespace boxrun::syscalls
