// sendfile(2) and copy_file_range(2): file to file through a buffer of the Sentry.
#include <fcntl.h>

#include <array>
#include <memory>

#include "sentry/syscalls/io.h"
#include "sentry/syscalls/support.h"
#include "sentry/syscalls/transfer.h"

namespace boxrun::syscalls {
namespace {

constexpr size_t kChunk = size_t{64} * 1024;

// Moves up to `size` bytes; what was read and could not be written is put back by moving the
// source's position, where it has one.
Result<uint64_t> copy(Task& task, FileDescription& in, std::optional<int64_t> in_offset,
                      FileDescription& out, std::optional<int64_t> out_offset, uint64_t size) {
  const auto buffer = std::make_unique<std::array<std::byte, kChunk>>();
  uint64_t done = 0;
  while (done < size) {
    const auto want = std::span(*buffer).first(std::min<uint64_t>(kChunk, size - done));
    const auto moved = static_cast<int64_t>(done);
    const auto got = read_file(task, in, IoBuffers(want),
                               in_offset ? At::offset(*in_offset + moved) : At::position(),
                               done == 0 ? Wait::kByFile : Wait::kNo);
    if (!got.ok()) return done > 0 ? Result<uint64_t>(done) : Result<uint64_t>(got.error());
    if (*got == 0) break;
    const auto put = write_file(task, out, IoBuffers(std::span<const std::byte>(want.first(*got))),
                                out_offset ? At::offset(*out_offset + moved) : At::position(), {});
    const uint64_t written = put.ok() ? *put : 0;
    if (written < *got && !in_offset) {
      (void)in.seek(static_cast<int64_t>(written) - static_cast<int64_t>(*got), SEEK_CUR);
    }
    done += written;
    if (!put.ok() && done == 0) return put.error();
    if (written < *got) break;
  }
  return done;
}

// Both files regular, no overlap within one (fs/read_write.c: generic_copy_file_checks).
Result<void> check_copy(FileDescription& in, FileDescription& out) {
  if (in.inode().is_directory() || out.inode().is_directory()) return Errno::kIsDir;
  if (in.inode().type() != vfs::FileType::kRegular ||
      out.inode().type() != vfs::FileType::kRegular) {
    return Errno::kInval;
  }
  if (!in.readable() || !out.writable() || (out.flags() & O_APPEND) != 0) return Errno::kBadF;
  return {};
}

// fs/splice.c: splice_direct_to_actor wants a source with a position, because what was read from a
// stream and cannot be written would be lost. Into a pipe sockets may go, too.
bool can_send(FileDescription& in, FileDescription& out) {
  if (in.positioning() != FileDescription::Positioning::kStream) return true;
  return in.inode().type() == vfs::FileType::kSocket && out.inode().type() == vfs::FileType::kFifo;
}

}  // namespace

Result<uint64_t> sys_sendfile(Task& task, Fd out, Fd in, UserInOut<int64_t> offset, Size size) {
  const auto source = TRY(task.fds().get(in.value));
  if (!source->readable()) return Errno::kBadF;
  const auto target = TRY(task.fds().get(out.value));
  if (!target->writable()) return Errno::kBadF;
  if ((target->flags() & O_APPEND) != 0) return Errno::kInval;
  const auto at = TRY(read_offset(task, offset));
  if (at && source->positioning() == FileDescription::Positioning::kStream) return Errno::kSPipe;
  if (!can_send(*source, *target)) return Errno::kInval;
  TRY(check_area(at, size.value));
  const uint64_t moved =
      TRY(copy(task, *source, at, *target, std::nullopt, std::min(size.value, kMaxTransfer)));
  TRY(write_offset(task, offset, at, moved));
  return moved;
}

Result<uint64_t> sys_copy_file_range(Task& task, Fd in, UserInOut<int64_t> in_offset, Fd out,
                                     UserInOut<int64_t> out_offset, Size size, Unsigned flags) {
  const auto source = TRY(task.fds().get(in.value));
  const auto target = TRY(task.fds().get(out.value));
  if (flags.value != 0) return Errno::kInval;
  const auto from = TRY(read_offset(task, in_offset));
  const auto to = TRY(read_offset(task, out_offset));
  TRY(check_copy(*source, *target));
  // Beyond the last offset there is nothing to read, and no place to write to.
  const auto left = [](std::optional<int64_t> at) {
    return static_cast<uint64_t>(INT64_MAX - at.value_or(0));
  };
  const uint64_t wanted = std::min({size.value, kMaxTransfer, left(from), left(to)});
  if (&source->inode() == &target->inode()) {
    const auto start = from ? static_cast<uint64_t>(*from) : source->position();
    const auto dest = to ? static_cast<uint64_t>(*to) : target->position();
    if (start < dest + wanted && dest < start + wanted) return Errno::kInval;
  }
  const uint64_t moved = TRY(copy(task, *source, from, *target, to, wanted));
  TRY(write_offset(task, in_offset, from, moved));
  TRY(write_offset(task, out_offset, to, moved));
  return moved;
}

}  // namespace boxrun::syscalls
