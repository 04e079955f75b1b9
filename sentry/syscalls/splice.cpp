// splice(2), tee(2) and vmsplice(2): bytes into, out of and between pipes. Where fs/splice.c passes
// pages on, the Sentry copies. Only pipes are waited for here; the other file waits as in read and
// write.
#include <fcntl.h>

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "sentry/fs/pipe.h"
#include "sentry/fs/pipe_loan.h"
#include "sentry/syscalls/io.h"
#include "sentry/syscalls/support.h"
#include "sentry/syscalls/transfer.h"

namespace boxrun::syscalls {
namespace {

using fs::PipeLoan;
using fs::PipeRoom;
using mm::Access;

constexpr uint32_t kKnownFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;
constexpr size_t kChunk = size_t{64} * 1024;

enum class Block : uint8_t { kNo, kYes };

Block block_of(Unsigned flags) {
  return (flags.value & SPLICE_F_NONBLOCK) != 0 ? Block::kNo : Block::kYes;
}
Block block_of(Unsigned flags, const FileDescription& pipe) {
  return pipe.nonblocking() ? Block::kNo : block_of(flags);
}

template <class Op>
auto attempt(Task& task, FileDescription& pipe, Events events, Block block, Op op)
    -> decltype(op()) {
  if (block == Block::kNo) return op();
  return task.block_on(*pipe.queue(), events, std::nullopt, op);
}

Result<PipeLoan> borrow(Task& task, FileDescription& pipe, Block block) {
  return attempt(task, pipe, kReadable, block, [&] { return PipeLoan::take(*fs::pipe_of(pipe)); });
}

Result<PipeRoom> reserve(Task& task, FileDescription& pipe, uint64_t size, Block block) {
  auto room = attempt(task, pipe, kWritable, block,
                      [&] { return PipeRoom::reserve(*fs::pipe_of(pipe), size); });
  if (room.error() == Errno::kPipe) return broken_pipe(task);
  return room;
}

// Besides pipes: what has contents, at an offset only if it has a position. The other files have
// neither splice_read nor splice_write in Linux.
bool can_splice(FileDescription& file, std::optional<int64_t> offset) {
  if (file.inode().is_directory()) return false;
  if (file.positioning() != FileDescription::Positioning::kStream) return true;
  return !offset && file.inode().type() != vfs::FileType::kUnknown;
}

// The room comes first: what a stream has given could not be put back.
Result<uint64_t> file_to_pipe(Task& task, FileDescription& in, std::optional<int64_t> offset,
                              FileDescription& out, uint64_t size, Block block) {
  if (!can_splice(in, offset)) return Errno::kInval;
  PipeRoom room = TRY(reserve(task, out, std::min<uint64_t>(size, kChunk), block));
  std::vector<std::byte> buffer(room.size());
  const uint64_t got = TRY(read_file(task, in, IoBuffers(std::span(buffer)),
                                     offset ? At::offset(*offset) : At::position(),
                                     block == Block::kNo ? Wait::kNo : Wait::kByFile));
  if (got == 0) return uint64_t{0};
  return room.fill(IoBuffers(std::span<const std::byte>(buffer).first(got)));
}

// fs/splice.c: iter_file_splice_write. Goes on after a short write, until an error says why.
Result<uint64_t> pipe_to_file(Task& task, FileDescription& in, FileDescription& out,
                              std::optional<int64_t> offset, uint64_t size, Block block) {
  if ((out.flags() & O_APPEND) != 0 || !can_splice(out, offset)) return Errno::kInval;
  PipeLoan loan = TRY(borrow(task, in, block));
  std::vector<std::byte> buffer(std::min<uint64_t>(size, kChunk));
  uint64_t done = 0;
  while (done < size) {
    const size_t want = std::min<uint64_t>(buffer.size(), size - done);
    const size_t got = loan.peek(0, std::span(buffer).first(want));
    if (got == 0) break;
    const auto at = offset ? At::offset(*offset + static_cast<int64_t>(done)) : At::position();
    const auto put =
        write_file(task, out, IoBuffers(std::span<const std::byte>(buffer).first(got)), at, {});
    if (!put.ok() && done == 0) return put.error();
    if (!put.ok() || *put == 0) break;
    loan.consume(*put);
    done += *put;
  }
  return done;
}

enum class Source : uint8_t { kConsume, kKeep };

uint64_t copy_between(PipeLoan& loan, PipeRoom& room, Source source) {
  std::vector<std::byte> buffer(std::min(room.size(), kChunk));
  uint64_t done = 0;
  while (room.size() > 0) {
    const size_t got = loan.peek(source == Source::kKeep ? done : 0,
                                 std::span(buffer).first(std::min(buffer.size(), room.size())));
    if (got == 0) break;
    done += room.fill(IoBuffers(std::span<const std::byte>(buffer).first(got))).value_or(0);
    if (source == Source::kConsume) loan.consume(got);
  }
  return done;
}

// fs/splice.c: ipipe_prep, opipe_prep, and again when another reader came in between. A wait for
// room keeps nobody from reading the source.
Result<uint64_t> pipe_to_pipe(Task& task, FileDescription& in, FileDescription& out, uint64_t size,
                              Block block, Source source) {
  if (fs::pipe_of(in) == fs::pipe_of(out)) return Errno::kInval;
  if (in.nonblocking() || out.nonblocking()) block = Block::kNo;
  for (;;) {
    (void)TRY(borrow(task, in, block));
    PipeRoom room = TRY(reserve(task, out, size, block));
    auto loan = borrow(task, in, Block::kNo);
    if (loan.ok()) return copy_between(*loan, room, source);
    if (block == Block::kNo) return loan.error();
  }
}

}  // namespace

Result<uint64_t> sys_splice(Task& task, Fd in, UserInOut<int64_t> in_offset, Fd out,
                            UserInOut<int64_t> out_offset, Size size, Unsigned flags) {
  if (size.value == 0) return uint64_t{0};
  if ((flags.value & ~kKnownFlags) != 0) return Errno::kInval;
  const auto source = TRY(task.fds().get(in.value));
  const auto target = TRY(task.fds().get(out.value));
  const bool from_pipe = fs::pipe_of(*source) != nullptr;
  const bool to_pipe = fs::pipe_of(*target) != nullptr;
  if ((from_pipe && in_offset) || (to_pipe && out_offset)) return Errno::kSPipe;
  const auto from = TRY(read_offset(task, in_offset));
  const auto to = TRY(read_offset(task, out_offset));
  if (!source->readable() || !target->writable()) return Errno::kBadF;
  if (!from_pipe && !to_pipe) return Errno::kInval;
  TRY(check_area(from, size.value));
  TRY(check_area(to, size.value));

  const uint64_t wanted = std::min(size.value, kMaxTransfer);
  if (from_pipe && to_pipe) {
    return pipe_to_pipe(task, *source, *target, wanted, block_of(flags), Source::kConsume);
  }
  const uint64_t moved =
      from_pipe ? TRY(pipe_to_file(task, *source, *target, to, wanted, block_of(flags, *source)))
                : TRY(file_to_pipe(task, *source, from, *target, wanted, block_of(flags, *target)));
  TRY(write_offset(task, in_offset, from, moved));
  TRY(write_offset(task, out_offset, to, moved));
  return moved;
}

Result<uint64_t> sys_tee(Task& task, Fd in, Fd out, Size size, Unsigned flags) {
  if ((flags.value & ~kKnownFlags) != 0) return Errno::kInval;
  if (size.value == 0) return uint64_t{0};
  const auto source = TRY(task.fds().get(in.value));
  const auto target = TRY(task.fds().get(out.value));
  if (!source->readable() || !target->writable()) return Errno::kBadF;
  if (fs::pipe_of(*source) == nullptr || fs::pipe_of(*target) == nullptr) return Errno::kInval;
  const uint64_t wanted = std::min(size.value, kMaxTransfer);
  return pipe_to_pipe(task, *source, *target, wanted, block_of(flags), Source::kKeep);
}

// O_NONBLOCK of the pipe is not asked, and an empty vector not where it goes (fs/splice.c).
Result<uint64_t> sys_vmsplice(Task& task, Fd fd, UserIn<iovec> vector, ULong count,
                              Unsigned flags) {
  if ((flags.value & ~kKnownFlags) != 0) return Errno::kInval;
  const auto file = TRY(task.fds().get(fd.value));
  if (!file->readable() && !file->writable()) return Errno::kBadF;
  const mm::Pinned pinned = TRY(task.mm().pin_iovec(
      vector.addr, count.value, file->writable() ? Access::kRead : Access::kWrite));
  IoBuffers memory = pinned.buffers();
  if (memory.empty()) return uint64_t{0};
  if (fs::pipe_of(*file) == nullptr) return Errno::kBadF;
  if (!file->writable()) {
    return attempt(task, *file, kReadable, block_of(flags), [&] { return file->read(memory); });
  }
  PipeRoom room = TRY(reserve(task, *file, memory.remaining(), block_of(flags)));
  memory.truncate(room.size());
  return room.fill(memory);
}

}  // namespace boxrun::syscalls
