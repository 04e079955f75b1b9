// read(2), write(2) and their family. A handler pins the guest's buffer, then hands host memory to
// the file; nothing below sees a guest address.
#include "sentry/syscalls/io.h"

#include <fcntl.h>

#include "sentry/kernel/job_control.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/signals.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/support.h"
#include "sentry/syscalls/transfer.h"

namespace boxrun::syscalls {
namespace {

using mm::Access;

// The flags of preadv2(2) that are understood. RWF_HIPRI is a hint.
constexpr int kReadFlags = RWF_HIPRI | RWF_NOWAIT;
constexpr int kWriteFlags = RWF_HIPRI | RWF_NOWAIT | RWF_DSYNC | RWF_SYNC | RWF_APPEND;

// What is written when perhaps only the beginning of a buffer can be read.
Result<IoBuffers> readable_part(const FileDescription& file, const mm::Pinned& pinned) {
  IoBuffers from = pinned.buffers();
  if (!pinned.complete()) TRY(file.cut_partial(from));
  return from;
}

// preadv2's offset arrives in two halves; on x86-64 the low one has it all.
// -1 there means the file's own position.
Result<uint64_t> vector_read(Task& task, Fd fd, UserIn<iovec> vector, ULong count, int64_t offset,
                             bool positioned, int flags) {
  const auto file = TRY(task.fds().get(fd.value));
  if ((flags & ~kReadFlags) != 0) return Errno::kOpNotSupp;
  if (!file->readable()) return Errno::kBadF;
  const mm::Pinned pinned = TRY(task.mm().pin_iovec(vector.addr, count.value, Access::kWrite));
  if (positioned) TRY(check_area(offset, pinned.size()));
  return read_file(task, *file, pinned.buffers(), positioned ? At::offset(offset) : At::position(),
                   (flags & RWF_NOWAIT) != 0 ? Wait::kNo : Wait::kByFile);
}

Result<uint64_t> vector_write(Task& task, Fd fd, UserIn<iovec> vector, ULong count, int64_t offset,
                              bool positioned, int flags) {
  const auto file = TRY(task.fds().get(fd.value));
  if ((flags & ~kWriteFlags) != 0) return Errno::kOpNotSupp;
  if (!file->writable()) return Errno::kBadF;
  const mm::Pinned pinned = TRY(task.mm().pin_iovec(vector.addr, count.value, Access::kRead));
  if (positioned) TRY(check_area(offset, pinned.size()));
  WriteHow how;
  how.append = (flags & RWF_APPEND) != 0;
  how.data_sync = (flags & (RWF_DSYNC | RWF_SYNC)) != 0;
  how.wait = (flags & RWF_NOWAIT) != 0 ? Wait::kNo : Wait::kByFile;
  return write_file(task, *file, TRY(readable_part(*file, pinned)),
                    positioned ? At::offset(offset) : At::position(), how);
}

}  // namespace

Result<uint64_t> sys_read(Task& task, Fd fd, UserOut<Bytes> buffer, Size size) {
  const auto file = TRY(task.fds().get(fd.value));
  if (!file->readable()) return Errno::kBadF;
  const mm::Pinned pinned = TRY(task.mm().pin(buffer.addr, size.value, Access::kWrite));
  return read_file(task, *file, pinned.buffers(), At::position(), Wait::kByFile);
}

Result<uint64_t> sys_write(Task& task, Fd fd, UserIn<Bytes> buffer, Size size) {
  const auto file = TRY(task.fds().get(fd.value));
  if (!file->writable()) return Errno::kBadF;
  const mm::Pinned pinned = TRY(task.mm().pin(buffer.addr, size.value, Access::kRead));
  return write_file(task, *file, TRY(readable_part(*file, pinned)), At::position(), {});
}

Result<uint64_t> sys_pread64(Task& task, Fd fd, UserOut<Bytes> buffer, Size size, Offset offset) {
  if (offset.value < 0) return Errno::kInval;
  const auto file = TRY(task.fds().get(fd.value));
  if (!file->readable()) return Errno::kBadF;
  const mm::Pinned pinned = TRY(task.mm().pin(buffer.addr, size.value, Access::kWrite));
  TRY(check_area(offset.value, size.value));
  return read_file(task, *file, pinned.buffers(), At::offset(offset.value), Wait::kByFile);
}

Result<uint64_t> sys_pwrite64(Task& task, Fd fd, UserIn<Bytes> buffer, Size size, Offset offset) {
  if (offset.value < 0) return Errno::kInval;
  const auto file = TRY(task.fds().get(fd.value));
  if (!file->writable()) return Errno::kBadF;
  const mm::Pinned pinned = TRY(task.mm().pin(buffer.addr, size.value, Access::kRead));
  TRY(check_area(offset.value, size.value));
  return write_file(task, *file, TRY(readable_part(*file, pinned)), At::offset(offset.value), {});
}

Result<uint64_t> sys_readv(Task& task, Fd fd, UserIn<iovec> vector, ULong count) {
  return vector_read(task, fd, vector, count, 0, false, 0);
}
Result<uint64_t> sys_writev(Task& task, Fd fd, UserIn<iovec> vector, ULong count) {
  return vector_write(task, fd, vector, count, 0, false, 0);
}

Result<uint64_t> sys_preadv(Task& task, Fd fd, UserIn<iovec> vector, ULong count, Offset low,
                            ULong) {
  if (low.value < 0) return Errno::kInval;
  return vector_read(task, fd, vector, count, low.value, true, 0);
}
Result<uint64_t> sys_pwritev(Task& task, Fd fd, UserIn<iovec> vector, ULong count, Offset low,
                             ULong) {
  if (low.value < 0) return Errno::kInval;
  return vector_write(task, fd, vector, count, low.value, true, 0);
}

Result<uint64_t> sys_preadv2(Task& task, Fd fd, UserIn<iovec> vector, ULong count, Offset low,
                             ULong, Int flags) {
  if (low.value < -1) return Errno::kInval;
  return vector_read(task, fd, vector, count, low.value, low.value != -1, flags.value);
}
Result<uint64_t> sys_pwritev2(Task& task, Fd fd, UserIn<iovec> vector, ULong count, Offset low,
                              ULong, Int flags) {
  if (low.value < -1) return Errno::kInval;
  return vector_write(task, fd, vector, count, low.value, low.value != -1, flags.value);
}

Result<uint64_t> sys_lseek(Task& task, Fd fd, Offset offset, Unsigned whence) {
  const auto file = TRY(task.fds().get(fd.value));
  return file->seek(offset.value, static_cast<int>(whence.value));
}

Result<uint64_t> sys_ftruncate(Task& task, Fd fd, Offset size) {
  if (size.value < 0) return Errno::kInval;
  const auto file = TRY(task.fds().get(fd.value));
  const auto wanted = static_cast<uint64_t>(size.value);
  // Only growing is limited (fs/attr.c: inode_newsize_ok).
  if (wanted > task.group().limits().soft(RLIMIT_FSIZE) && wanted > TRY(file->attributes()).size) {
    return file_too_big(task);
  }
  return zero(file->truncate(wanted));
}

Result<uint64_t> sys_fallocate(Task& task, Fd fd, Int mode, Offset offset, Offset length) {
  if (offset.value < 0 || length.value <= 0) return Errno::kInval;
  const auto file = TRY(task.fds().get(fd.value));
  if (!file->writable()) return Errno::kBadF;
  if (length.value > INT64_MAX - offset.value) return Errno::kFBig;
  const auto end = static_cast<uint64_t>(offset.value + length.value);
  if ((mode.value & FALLOC_FL_KEEP_SIZE) == 0 && end > task.group().limits().soft(RLIMIT_FSIZE)) {
    return file_too_big(task);
  }
  return zero(file->allocate(mode.value, static_cast<uint64_t>(offset.value),
                             static_cast<uint64_t>(length.value)));
}

Result<uint64_t> sys_fsync(Task& task, Fd fd) {
  return zero(TRY(task.fds().get(fd.value))->sync(false));
}
Result<uint64_t> sys_fdatasync(Task& task, Fd fd) {
  return zero(TRY(task.fds().get(fd.value))->sync(true));
}

Result<uint64_t> sys_sync_file_range(Task& task, Fd fd, Offset offset, Offset length,
                                     Unsigned flags) {
  const auto file = TRY(task.fds().get(fd.value));
  constexpr uint32_t kKnown =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  if ((flags.value & ~kKnown) != 0 || offset.value < 0 || length.value < 0 ||
      length.value > INT64_MAX - offset.value) {
    return Errno::kInval;
  }
  if (file->positioning() == FileDescription::Positioning::kStream) return Errno::kSPipe;
  return zero(file->sync(true));
}

Result<uint64_t> sys_syncfs(Task& task, Fd fd) {
  const auto file = TRY(task.fds().get(fd.value));
  return zero(file->inode().file_system().sync());
}

Result<uint64_t> sys_sync(Task& task) {
  for (const auto& entry : task.kernel().root()->list()) (void)entry.mount->file_system().sync();
  return uint64_t{0};
}

// Advice changes nothing that a program could see, so only its arguments are checked
// (mm/fadvise.c: generic_fadvise).
Result<uint64_t> sys_fadvise64(Task& task, Fd fd, Offset, Offset length, Int advice) {
  const auto file = TRY(task.fds().get(fd.value));
  if (file->inode().type() == vfs::FileType::kFifo) return Errno::kSPipe;
  if (length.value < 0 || advice.value < 0 || advice.value > POSIX_FADV_NOREUSE) {
    return Errno::kInval;
  }
  return uint64_t{0};
}

Result<uint64_t> sys_readahead(Task& task, Fd fd, Offset offset, Size) {
  const auto file = TRY(task.fds().get(fd.value));
  if (!file->readable()) return Errno::kBadF;
  if (offset.value < 0 || file->inode().type() != vfs::FileType::kRegular) return Errno::kInval;
  return uint64_t{0};
}

}  // namespace boxrun::syscalls
