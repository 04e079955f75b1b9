// flock(2) and the record locks of fcntl(2).
#include <fcntl.h>
#include <sys/file.h>

#include "sentry/syscalls/dispatcher.h"
#include "sentry/syscalls/fd.h"
#include "sentry/syscalls/support.h"
#include "sentry/vfs/file_lock.h"

namespace boxrun::syscalls {
namespace {

// The bytes that a struct flock speaks of (fs/locks.c: flock64_to_posix_lock). EINVAL, EOVERFLOW.
Result<Range> range_of(FileDescription& file, const struct flock& raw) {
  int64_t start = raw.l_start;
  int64_t base = 0;
  switch (raw.l_whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      base = static_cast<int64_t>(file.position());
      break;
    case SEEK_END:
      base = static_cast<int64_t>(TRY(file.attributes()).size);
      break;
    default:
      return Errno::kInval;
  }
  if (start > INT64_MAX - base) return Errno::kOverflow;
  start += base;
  if (start < 0) return Errno::kInval;
  if (raw.l_len == 0) return Range{static_cast<uint64_t>(start), UINT64_MAX};
  if (raw.l_len < 0) {
    // A negative length means the bytes before the start.
    if (raw.l_len == INT64_MIN || start < -raw.l_len) return Errno::kInval;
    return Range{static_cast<uint64_t>(start + raw.l_len), static_cast<uint64_t>(start)};
  }
  if (raw.l_len - 1 > INT64_MAX - start) return Errno::kOverflow;
  return Range{static_cast<uint64_t>(start),
               static_cast<uint64_t>(start) + static_cast<uint64_t>(raw.l_len)};
}

vfs::LockOwner owner_of(Task& task, FileDescription& file, bool description) {
  if (description) return {&file, true, -1};
  return {&task.fds(), false, task.tgid()};
}

void describe(const vfs::RecordLock& lock, struct flock& out) {
  out.l_type = lock.kind == vfs::LockKind::kExclusive ? F_WRLCK : F_RDLCK;
  out.l_whence = SEEK_SET;
  out.l_start = static_cast<off_t>(lock.range.start);
  out.l_len = lock.range.end == UINT64_MAX ? 0 : static_cast<off_t>(lock.range.size());
  out.l_pid = lock.owner.description ? -1 : lock.owner.pid;
}

Result<void> set_lock(Task& task, FileDescription& file, const vfs::RecordLock& lock, bool wait) {
  vfs::FileLocks& locks = file.inode().locks();
  if (!wait) return locks.lock(lock);
  vfs::LockWaits& waits = services_of(task).lock_waits;
  // Each attempt records whom it waits for, so that a circle is seen when it closes.
  const void* waiting_for = nullptr;
  const auto forget = [&] {
    if (waiting_for != nullptr) waits.remove(lock.owner.owner, waiting_for);
    waiting_for = nullptr;
  };
  const auto result = task.block_on(locks.queue(), kAllEvents, std::nullopt, [&]() -> Result<void> {
    forget();
    vfs::LockOwner blocker;
    const auto attempt = locks.lock(lock, &blocker);
    if (attempt.error() == Errno::kAgain && !lock.owner.description && !blocker.description) {
      TRY(waits.add(lock.owner.owner, blocker.owner));
      waiting_for = blocker.owner;
    }
    return attempt.ok() ? Result<void>() : Result<void>(attempt.error());
  });
  forget();
  return result.ok() ? Result<void>() : Result<void>(result.error());
}

}  // namespace

Result<uint64_t> record_lock(Task& task, int fd, int command, UserInOut<struct flock> argument) {
  const auto file = TRY(task.fds().get(fd));
  struct flock raw = TRY(task.mm().read(argument.in()));
  const bool description =
      command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
  if (description && raw.l_pid != 0) return Errno::kInval;
  const Range range = TRY(range_of(*file, raw));
  const vfs::LockOwner owner = owner_of(task, *file, description);
  const bool get = command == F_GETLK || command == F_OFD_GETLK;
  if (raw.l_type == F_UNLCK && !get) {
    file->inode().locks().unlock(owner, range);
    return uint64_t{0};
  }
  if (raw.l_type != F_RDLCK && raw.l_type != F_WRLCK) return Errno::kInval;
  const vfs::RecordLock lock{
      raw.l_type == F_WRLCK ? vfs::LockKind::kExclusive : vfs::LockKind::kShared, range, owner};
  if (get) {
    if (const auto conflict = file->inode().locks().test(lock)) {
      describe(*conflict, raw);
    } else {
      raw.l_type = F_UNLCK;
    }
    return zero(task.mm().write(argument.out(), raw));
  }
  const bool allowed = raw.l_type == F_WRLCK ? file->writable() : file->readable();
  if (!allowed) return Errno::kBadF;
  return zero(set_lock(task, *file, lock, command == F_SETLKW || command == F_OFD_SETLKW));
}

Result<uint64_t> sys_flock(Task& task, Fd fd, Int operation) {
  const auto file = TRY(task.fds().get(fd.value));
  vfs::FileLocks& locks = file->inode().locks();
  switch (operation.value & ~LOCK_NB) {
    case LOCK_UN:
      locks.unflock(file.get());
      return uint64_t{0};
    case LOCK_SH:
    case LOCK_EX:
      break;
    default:
      return Errno::kInval;
  }
  const auto kind =
      (operation.value & LOCK_EX) != 0 ? vfs::LockKind::kExclusive : vfs::LockKind::kShared;
  const auto attempt = [&] { return locks.flock(file.get(), kind); };
  if ((operation.value & LOCK_NB) != 0) return zero(attempt());
  return zero(task.block_on(locks.queue(), kAllEvents, std::nullopt, attempt));
}

}  // namespace boxrun::syscalls
