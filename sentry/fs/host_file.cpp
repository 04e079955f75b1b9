#include "sentry/fs/host_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "sentry/fs/host_terminal.h"
#include "sentry/fs/pipe.h"
#include "sentry/vfs/access.h"
#include "src/base/file_status.h"

namespace boxrun::fs {
namespace {

constexpr size_t kMaxPieces = 64;
constexpr size_t kMaxChunk = 1 << 20;  // per host call
// What a stream that poll(2) calls writable takes without blocking: a pipe has a page then, and a
// terminal copies at least this much into its buffer.
constexpr size_t kStreamChunk = 1024;

short host_poll(int fd, short events) {
  pollfd one{fd, events, 0};
  return ::poll(&one, 1, 0) > 0 ? one.revents : short{0};
}

// Pages of a regular file among the streams: the guest maps the host's file.
class HostPages final : public mm::PageSource {
 public:
  HostPages(Ref<HostHandle> handle, Identity identity)
      : handle_(std::move(handle)), identity_(std::move(identity)) {}
  int host_fd(bool writable) override {
    const bool read_write = (handle_->flags & O_ACCMODE) == O_RDWR;
    return writable && !read_write ? -1 : handle_->fd.get();
  }
  Result<Range> page_in(Range, bool) override { return Errno::kNxIo; }
  uint64_t size() override {
    const Result<struct stat> status = file_status(handle_->fd.get());
    return status.ok() ? static_cast<uint64_t>(status->st_size) : 0;
  }
  Result<void> add_mapping(mm::MappingObserver&, Range, bool) override { return {}; }
  void remove_mapping(mm::MappingObserver&, Range, bool) override {}
  Identity identity() override { return identity_; }

 private:
  const Ref<HostHandle> handle_;
  const Identity identity_;
};

class HostInode final : public vfs::Inode {
 public:
  HostInode(HostFiles& fs, Ref<HostHandle> handle, Ref<vfs::Terminal> terminal, std::string name)
      : Inode(fs, handle->type),
        handle_(std::move(handle)),
        terminal_(std::move(terminal)),
        name_(std::move(name)) {}

  Result<vfs::Attributes> attributes() override {
    const struct stat status = TRY(file_status(handle_->fd.get()));
    const auto nanos = [](const timespec& t) { return from_timespec(t); };
    vfs::Attributes out;
    out.dev = status.st_dev;
    out.ino = status.st_ino;
    out.type = vfs::file_type_of(status.st_mode);
    out.mode = status.st_mode & vfs::kPermissionBits;
    out.nlink = static_cast<uint32_t>(status.st_nlink);
    out.uid = status.st_uid;
    out.gid = status.st_gid;
    out.rdev = status.st_rdev;
    out.size = static_cast<uint64_t>(status.st_size);
    out.blocks = static_cast<uint64_t>(status.st_blocks);
    out.block_size = static_cast<uint32_t>(status.st_blksize);
    out.atime = nanos(status.st_atim);
    out.mtime = nanos(status.st_mtim);
    out.ctime = nanos(status.st_ctim);
    return out;
  }

  // Only what a redirection itself does to a file; the file is the user's, not the target's.
  Result<void> change(const vfs::AttributeChange& change) override {
    if (change.mode || change.uid || change.gid || !change.size) return Errno::kPerm;
    TRY(host_result(::ftruncate(handle_->fd.get(), static_cast<off_t>(*change.size))));
    return {};
  }

  Result<Ref<vfs::FileDescription>> open(const vfs::OpenRequest& request) override;
  Ref<mm::PageSource> page_source() override {
    if (type() != vfs::FileType::kRegular) return nullptr;
    const Result<struct stat> status = file_status(handle_->fd.get());
    if (!status.ok()) return nullptr;
    return make_ref<HostPages>(handle_,
                               mm::PageSource::Identity{status->st_dev, status->st_ino, name_});
  }

 private:
  const Ref<HostHandle> handle_;
  const Ref<vfs::Terminal> terminal_;
  const std::string name_;
};

class HostFile final : public vfs::FileDescription {
 public:
  HostFile(const vfs::OpenRequest& request, Ref<vfs::Inode> inode, Ref<HostHandle> handle,
           Ref<vfs::Terminal> terminal)
      : FileDescription(request, std::move(inode),
                        handle->seekable ? Positioning::kExternal : Positioning::kStream),
        handle_(std::move(handle)),
        terminal_(std::move(terminal)) {}

  Events ready() override {
    if (!handle_->watch) return kReadable | kWritable;
    constexpr short kAll = POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM;
    return static_cast<uint16_t>(host_poll(handle_->fd.get(), kAll));
  }
  WaitQueue* queue() override { return handle_->watch ? &handle_->queue : nullptr; }
  Ref<vfs::Terminal> terminal() override { return terminal_; }

  Result<uint64_t> ioctl(uint32_t command, uint64_t arg, mm::MemoryManager& memory,
                         vfs::IoctlCaller& caller) override {
    return host_ioctl(handle_->fd.get(), terminal_.get(), command, arg, memory, caller);
  }

  Result<void> cut_partial(IoBuffers& from) const override {
    if (handle_->type == vfs::FileType::kFifo) return cut_to_pages(from);
    return handle_->type == vfs::FileType::kSocket ? Result<void>(Errno::kFault) : Result<void>();
  }
  Result<void> sync(bool data_only) override {
    const int fd = handle_->fd.get();
    TRY(host_result(data_only ? ::fdatasync(fd) : ::fsync(fd)));
    return {};
  }

 private:
  Result<size_t> do_read(IoBuffers& to, uint64_t offset) override;
  Result<size_t> do_write(IoBuffers& from, uint64_t& offset,
                          const vfs::WriteOptions& options) override;
  Result<size_t> write_stream(IoBuffers& from);
  Result<uint64_t> do_seek(uint64_t, int64_t offset, int whence) override {
    return static_cast<uint64_t>(TRY(host_result(::lseek(handle_->fd.get(), offset, whence))));
  }

  const Ref<HostHandle> handle_;
  const Ref<vfs::Terminal> terminal_;
};

Result<size_t> moved(IoBuffers& buffers, ssize_t count) {
  // A signal of our own is no answer: the caller waits, or looks at his signals, and comes again.
  if (count < 0) return errno == EINTR ? Errno::kAgain : last_error();
  buffers.skip(static_cast<size_t>(count));
  return static_cast<size_t>(count);
}

Result<size_t> HostFile::do_read(IoBuffers& to, uint64_t offset) {
  iovec pieces[kMaxPieces];
  const int count = static_cast<int>(to.iovecs(pieces, kMaxChunk));
  const int fd = handle_->fd.get();
  const auto at = offset == kCurrent ? off_t{-1} : static_cast<off_t>(offset);
  if (count == 0) return size_t{0};
  if (!handle_->watch) return moved(to, ::preadv2(fd, pieces, count, at, 0));
  const ssize_t done = ::preadv2(fd, pieces, count, at, RWF_NOWAIT);
  if (done >= 0 || errno != EOPNOTSUPP) return moved(to, done);
  // Terminals know no RWF_NOWAIT. Somebody else who reads the same terminal may be faster; then
  // this call waits for the next line.
  if (host_poll(fd, POLLIN | POLLRDNORM) == 0) return Errno::kAgain;
  return moved(to, ::readv(fd, pieces, count));
}

Result<size_t> HostFile::do_write(IoBuffers& from, uint64_t& offset,
                                  const vfs::WriteOptions& options) {
  const int fd = handle_->fd.get();
  if (handle_->meter != nullptr) {
    from.truncate(TRY(handle_->meter->admit(from.remaining())));
  }
  if (handle_->watch) return write_stream(from);
  const auto at = offset == kCurrent ? off_t{-1} : static_cast<off_t>(offset);
  if (options.size_limit != UINT64_MAX && handle_->seekable) {
    const auto here = static_cast<uint64_t>(std::max<off_t>(::lseek(fd, 0, SEEK_CUR), 0));
    TRY(limit_write(from, at >= 0 ? offset : here, options));
  }
  iovec pieces[kMaxPieces];
  const int count = static_cast<int>(from.iovecs(pieces, kMaxChunk));
  return moved(from, ::pwritev2(fd, pieces, count, at, options.append ? RWF_APPEND : 0));
}

Result<size_t> HostFile::write_stream(IoBuffers& from) {
  const int fd = handle_->fd.get();
  iovec pieces[kMaxPieces];
  const int count = static_cast<int>(from.iovecs(pieces, kMaxChunk));
  const ssize_t done = ::pwritev2(fd, pieces, count, -1, RWF_NOWAIT);
  if (done >= 0 || errno != EOPNOTSUPP) return moved(from, done);
  const short ready = host_poll(fd, POLLOUT | POLLWRNORM);
  if (ready == 0) return Errno::kAgain;
  const int some = static_cast<int>(from.iovecs(pieces, kStreamChunk));
  return moved(from, ::writev(fd, pieces, some));
}

Result<Ref<vfs::FileDescription>> HostInode::open(const vfs::OpenRequest& request) {
  return open_host_handle(request, Ref<vfs::Inode>(this), handle_, terminal_);
}

}  // namespace

Result<Ref<vfs::FileDescription>> open_host_handle(const vfs::OpenRequest& request,
                                                   Ref<vfs::Inode> inode, Ref<HostHandle> handle,
                                                   Ref<vfs::Terminal> terminal) {
  // Opening /dev/stdin again: no more access than the caller gave.
  const int host = handle->flags & O_ACCMODE;
  const int wanted = request.flags & O_ACCMODE;
  if (host != O_RDWR && wanted != host) return Errno::kAcces;
  return Ref<vfs::FileDescription>(
      make_ref<HostFile>(request, std::move(inode), std::move(handle), std::move(terminal)));
}

HostFiles::HostFiles(uint64_t device, FdNotifier& notifier, OutputMeter* meter)
    : FileSystem({.type = "hostfiles", .device = device, .caches_names = false}),
      notifier_(notifier),
      meter_(meter) {
  Ref<HostHandle> nothing = make_ref<HostHandle>();
  nothing->type = vfs::FileType::kDirectory;
  root_ = make_ref<HostInode>(*this, std::move(nothing), nullptr, std::string());
}

Ref<HostFiles> HostFiles::create(uint64_t device, FdNotifier& notifier, OutputMeter* meter) {
  return adopt_ref(new HostFiles(device, notifier, meter));
}

Result<Ref<HostHandle>> HostFiles::make_handle(UniqueFd fd) const {
  Ref<HostHandle> handle = make_ref<HostHandle>();
  const struct stat status = TRY(file_status(fd.get()));
  handle->type = vfs::file_type_of(status.st_mode);
  handle->flags = TRY(host_result(::fcntl(fd.get(), F_GETFL)));
  handle->seekable = ::lseek(fd.get(), 0, SEEK_CUR) >= 0;
  handle->meter = meter_;
  handle->fd = std::move(fd);
  handle->watch = TRY(notifier_.watch(handle->fd.get(), handle->queue));
  return handle;
}

Result<Ref<vfs::Terminal>> HostFiles::terminal_of(const HostHandle& handle, uint64_t rdev) {
  if (handle.type != vfs::FileType::kCharDevice || !is_terminal(handle.fd.get())) {
    return Ref<vfs::Terminal>();
  }
  Ref<vfs::Terminal>& terminal = terminals_[rdev];
  if (!terminal) {
    UniqueFd copy = TRY(own_fd(::fcntl(handle.fd.get(), F_DUPFD_CLOEXEC, 0)));
    terminal =
        make_ref<HostTerminal>(TRY(make_handle(std::move(copy))), HostTerminal::Role::kOther);
  }
  return terminal;
}

Result<Ref<vfs::Terminal>> HostFiles::adopt_terminal(UniqueFd fd, uint64_t rdev) {
  Ref<vfs::Terminal> terminal =
      make_ref<HostTerminal>(TRY(make_handle(std::move(fd))), HostTerminal::Role::kControlling);
  terminals_[rdev] = terminal;
  return terminal;
}

Result<Ref<vfs::FileDescription>> HostFiles::adopt(const Ref<vfs::Mount>& mount, UniqueFd fd,
                                                   std::string name, Ref<Credentials> credentials) {
  Ref<HostHandle> handle = TRY(make_handle(std::move(fd)));
  const uint64_t rdev = TRY(file_status(handle->fd.get())).st_rdev;
  Ref<vfs::Terminal> terminal = TRY(terminal_of(*handle, rdev));
  const int flags = handle->flags & (O_ACCMODE | O_APPEND | O_NONBLOCK | vfs::kLargeFile);
  Ref<vfs::Inode> inode = make_ref<HostInode>(*this, std::move(handle), std::move(terminal), name);
  vfs::Path path{mount, dentries().make_root(std::move(name), inode)};
  const vfs::OpenRequest request{flags, std::move(path), std::move(credentials)};
  return inode->open(request);
}

}  // namespace boxrun::fs
