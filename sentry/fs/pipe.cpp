#include "sentry/fs/pipe.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <utility>

#include "sentry/fs/pipe_buffer.h"
#include "sentry/vfs/anonymous.h"

namespace boxrun::fs {
namespace {

// One end, or both ends, of a pipe.
class PipeEnd final : public vfs::FileDescription {
 public:
  PipeEnd(const vfs::OpenRequest& request, Ref<vfs::Inode> inode, Ref<Pipe> pipe,
          Pipe::Ticket ticket)
      : FileDescription(request, std::move(inode), Positioning::kStream),
        pipe_(std::move(pipe)),
        ticket_(ticket) {}
  ~PipeEnd() override {
    if (pipe_->close_end(flags()) == Pipe::Left::kNobody) inode().detach(*pipe_);
  }

  Events ready() override { return pipe_->ready(flags(), ticket_.writers_seen); }
  WaitQueue* queue() override { return &pipe_->queue(); }
  Result<void> finish_open() override {
    return pipe_->arrived(ticket_) ? Result<void>() : Result<void>(Errno::kAgain);
  }
  Result<uint64_t> ioctl(uint32_t command, uint64_t arg, mm::MemoryManager& memory,
                         vfs::IoctlCaller& caller) override;

  Result<void> cut_partial(IoBuffers& from) const override { return cut_to_pages(from); }

  Pipe& pipe() { return *pipe_; }

 private:
  Result<size_t> do_read(IoBuffers& to, uint64_t) override { return pipe_->read(to); }
  Result<size_t> do_write(IoBuffers& from, uint64_t&, const vfs::WriteOptions&) override {
    return pipe_->write(from, (flags() & O_DIRECT) != 0);
  }

  const Ref<Pipe> pipe_;
  const Pipe::Ticket ticket_;
};

Result<uint64_t> PipeEnd::ioctl(uint32_t command, uint64_t arg, mm::MemoryManager& memory,
                                vfs::IoctlCaller& caller) {
  if (command != FIONREAD) return FileDescription::ioctl(command, arg, memory, caller);
  const auto bytes = static_cast<int32_t>(pipe_->unread());
  TRY(memory.write(mm::UserOut<int32_t>{arg}, bytes));
  return uint64_t{0};
}

}  // namespace

Result<PipePair> create_pipe(const PipeSystem& system, int flags, Ref<Credentials> credentials) {
  const vfs::Path path = vfs::AnonymousFileSystem::make(system.mount, vfs::FileType::kFifo, 0600,
                                                        "pipe:[%]", *credentials);
  const Ref<vfs::Inode> inode = path.dentry->inode();
  const Ref<Pipe> pipe = TRY(Pipe::create(system, false));
  static_cast<void>(inode->attach_if_none(pipe));  // for who opens /proc/PID/fd/N
  const auto end = [&](int mode) -> Ref<vfs::FileDescription> {
    const vfs::OpenRequest request{mode | (flags & (O_NONBLOCK | O_DIRECT)), path, credentials};
    return make_ref<PipeEnd>(request, inode, pipe, pipe->open_end(mode).value_or({}));
  };
  return PipePair{end(O_RDONLY), end(O_WRONLY)};
}

Result<Ref<vfs::FileDescription>> open_fifo(const PipeSystem& system, vfs::Inode& inode,
                                            const vfs::OpenRequest& request) {
  for (;;) {
    Ref<RefCounted> attached = inode.attachment();
    if (!attached) attached = inode.attach_if_none(TRY(Pipe::create(system, true)));
    Ref<Pipe> pipe = static_ref_cast<Pipe>(std::move(attached));
    Result<Pipe::Ticket> ticket = pipe->open_end(request.flags);
    if (ticket.ok()) {
      return Ref<vfs::FileDescription>(
          make_ref<PipeEnd>(request, Ref<vfs::Inode>(&inode), std::move(pipe), *ticket));
    }
    if (ticket.error() != Errno::kAgain) return ticket.error();
    inode.detach(*pipe);  // its last user is just leaving, and may not have got this far
  }
}

Pipe* pipe_of(vfs::FileDescription& file) {
  auto* end = dynamic_cast<PipeEnd*>(&file);
  return end != nullptr ? &end->pipe() : nullptr;
}

Result<void> cut_to_pages(IoBuffers& from) {
  from.truncate(page_down(from.remaining()));
  return from.empty() ? Result<void>(Errno::kFault) : Result<void>();
}

Result<size_t> pipe_capacity(vfs::FileDescription& file) {
  Pipe* pipe = pipe_of(file);
  if (pipe == nullptr) return Errno::kBadF;
  return pipe->capacity();
}

Result<size_t> set_pipe_capacity(vfs::FileDescription& file, uint64_t bytes,
                                 const Credentials& who) {
  Pipe* pipe = pipe_of(file);
  if (pipe == nullptr) return Errno::kBadF;
  return pipe->resize(bytes, who);
}

}  // namespace boxrun::fs
