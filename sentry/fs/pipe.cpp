#include "sentry/fs/pipe.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <bit>
#include <deque>
#include <memory>
#include <utility>

#include "sentry/vfs/anonymous.h"

namespace boxrun::fs {
namespace {

constexpr size_t kSmallCapacity = 2 * kPipeBuf;  // PIPE_MIN_DEF_BUFFERS: when the quota is used up

// What both ends share. As in Linux, room is counted in pages: a write goes into pages of its own,
// but for an odd end that still fits into the last page. So the same writes fit, and in the same
// parts.
class Pipe final : public RefCounted {
 public:
  Pipe(const PipeSystem& system, bool is_fifo)
      : quota_(system.quota),
        is_fifo_(is_fifo),
        charged_(quota_->charge(kPipeCapacity).ok() ? kPipeCapacity : 0),
        capacity_(charged_ != 0 ? kPipeCapacity : kSmallCapacity) {}
  ~Pipe() override { quota_->release(charged_); }

  WaitQueue& queue() { return queue_; }

  // --- ends
  // What open(2) of a FIFO waits for: that the count of the other end has changed.
  struct Ticket {
    bool waits_reader = false, waits_writer = false;
    uint64_t readers_seen = 0, writers_seen = 0;
  };
  // EAGAIN when the pipe of a FIFO has just lost its last user: the caller takes a new one.
  Result<Ticket> open_end(int flags) EXCLUDES(mutex_);
  enum class Left : uint8_t { kSomebody, kNobody };
  Left close_end(int flags) EXCLUDES(mutex_);
  bool arrived(const Ticket& ticket) EXCLUDES(mutex_);

  Result<size_t> read(IoBuffers& to) EXCLUDES(mutex_);
  Result<size_t> write(IoBuffers& from, bool packets) EXCLUDES(mutex_);
  // `writers_seen`: how many writers there had been when this reader opened without waiting.
  Events ready(int flags, uint64_t writers_seen) EXCLUDES(mutex_);
  size_t unread() EXCLUDES(mutex_);
  size_t capacity() EXCLUDES(mutex_);
  Result<size_t> resize(uint64_t bytes, const Credentials& who) EXCLUDES(mutex_);

 private:
  // One page's worth of bytes.
  struct Segment {
    size_t offset;  // of the first unread byte in the page
    size_t length;
    bool packet;  // read alone, and never added to
  };
  size_t pages_locked() const REQUIRES(mutex_) { return capacity_ / kPipeBuf; }
  bool full_locked() const REQUIRES(mutex_) { return segments_.size() >= pages_locked(); }
  void grow_locked(size_t bytes) REQUIRES(mutex_);
  Result<void> append_locked(IoBuffers& from, bool packets) REQUIRES(mutex_);
  Result<size_t> put_locked(IoBuffers& from, size_t size) REQUIRES(mutex_);
  Result<size_t> get_locked(IoBuffers& to, size_t size) REQUIRES(mutex_);
  void drop_locked(size_t size) REQUIRES(mutex_);

  const Ref<SpaceQuota> quota_;
  const bool is_fifo_;
  WaitQueue queue_;

  Mutex mutex_{Rank::kPipe};
  uint64_t charged_ GUARDED_BY(mutex_);
  size_t capacity_ GUARDED_BY(mutex_);
  // A ring of ring_size_ bytes, grown as needed: `start_` is the oldest of `length_` bytes.
  std::unique_ptr<std::byte[]> ring_ GUARDED_BY(mutex_);
  size_t ring_size_ GUARDED_BY(mutex_) = 0, start_ GUARDED_BY(mutex_) = 0;
  size_t length_ GUARDED_BY(mutex_) = 0;
  std::deque<Segment> segments_ GUARDED_BY(mutex_);
  int readers_ GUARDED_BY(mutex_) = 0, writers_ GUARDED_BY(mutex_) = 0;
  uint64_t readers_ever_ GUARDED_BY(mutex_) = 0, writers_ever_ GUARDED_BY(mutex_) = 0;
  bool dead_ GUARDED_BY(mutex_) = false;
};

bool reads(int flags) { return (flags & O_ACCMODE) != O_WRONLY; }
bool writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

Result<Pipe::Ticket> Pipe::open_end(int flags) {
  Ticket ticket;
  {
    Lock lock(mutex_);
    if (dead_) return Errno::kAgain;
    // fs/pipe.c: fifo_open.
    const bool both = reads(flags) && writes(flags);
    if (is_fifo_ && !both && writes(flags) && readers_ == 0 && (flags & O_NONBLOCK) != 0) {
      return Errno::kNxIo;
    }
    ticket.readers_seen = readers_ever_;
    ticket.writers_seen = writers_ever_;
    if (is_fifo_ && !both && (flags & O_NONBLOCK) == 0) {
      ticket.waits_writer = reads(flags) && writers_ == 0;
      ticket.waits_reader = writes(flags) && readers_ == 0;
    }
    // A reader that does not wait sees no hang-up before a writer has come; one that has found a
    // writer does.
    if (!is_fifo_ || writers_ != 0 || both) ticket.writers_seen = UINT64_MAX;
    if (reads(flags)) readers_++, readers_ever_++;
    if (writes(flags)) writers_++, writers_ever_++;
  }
  queue_.notify(kReadable | kWritable, INT32_MAX);
  return ticket;
}

bool Pipe::arrived(const Ticket& ticket) {
  Lock lock(mutex_);
  if (ticket.waits_writer && writers_ever_ == ticket.writers_seen) return false;
  return !ticket.waits_reader || readers_ever_ != ticket.readers_seen;
}

Pipe::Left Pipe::close_end(int flags) {
  Left left = Left::kSomebody;
  {
    Lock lock(mutex_);
    if (reads(flags)) readers_--;
    if (writes(flags)) writers_--;
    dead_ = readers_ == 0 && writers_ == 0;
    if (dead_) left = Left::kNobody;
  }
  queue_.notify(kReadable | kWritable | kHangup | kError, INT32_MAX);
  return left;
}

void Pipe::grow_locked(size_t bytes) {
  if (bytes <= ring_size_) return;
  const size_t size = std::bit_ceil(std::max(bytes, kPipeBuf));
  auto bigger = std::make_unique_for_overwrite<std::byte[]>(size);
  const size_t first = std::min(length_, ring_size_ - start_);
  if (length_ > 0) {
    std::copy_n(ring_.get() + start_, first, bigger.get());
    std::copy_n(ring_.get(), length_ - first, bigger.get() + first);
  }
  ring_ = std::move(bigger);
  ring_size_ = size;
  start_ = 0;
}

// Copies `size` bytes behind the others, or as many as can be read.
Result<size_t> Pipe::put_locked(IoBuffers& from, size_t size) {
  grow_locked(length_ + size);
  size_t done = 0;
  while (done < size) {
    const size_t at = (start_ + length_ + done) & (ring_size_ - 1);
    const size_t piece = std::min(size - done, ring_size_ - at);
    const Result<size_t> taken = from.take({ring_.get() + at, piece});
    if (!taken.ok() && done == 0) return taken.error();
    done += taken.ok() ? *taken : 0;
    if (!taken.ok() || *taken < piece) break;
  }
  length_ += done;
  return done;
}

// fs/pipe.c: pipe_write.
Result<void> Pipe::append_locked(IoBuffers& from, bool packets) {
  const size_t odd = from.remaining() % kPipeBuf;
  if (odd != 0 && !segments_.empty() && !segments_.back().packet) {
    Segment& last = segments_.back();
    if (last.offset + last.length + odd <= kPipeBuf) last.length += TRY(put_locked(from, odd));
  }
  while (!from.empty() && !full_locked()) {
    const size_t size = std::min(from.remaining(), kPipeBuf);
    const size_t done = TRY(put_locked(from, size));
    segments_.push_back({0, done, packets});
    if (done < size) break;
  }
  return {};
}

Result<size_t> Pipe::write(IoBuffers& from, bool packets) {
  const size_t asked = from.remaining();
  if (asked == 0) return size_t{0};
  Errno error = Errno::kOk;
  {
    Lock lock(mutex_);
    if (readers_ == 0) return Errno::kPipe;
    error = append_locked(from, packets).error();
  }
  const size_t done = asked - from.remaining();
  if (done == 0) return error != Errno::kOk ? error : Errno::kAgain;
  queue_.notify(kReadable);
  return done;
}

Result<size_t> Pipe::get_locked(IoBuffers& to, size_t size) {
  size_t done = 0;
  while (done < size) {
    const size_t at = (start_ + done) & (ring_size_ - 1);
    const size_t piece = std::min(size - done, ring_size_ - at);
    const Result<size_t> put = to.put({ring_.get() + at, piece});
    if (!put.ok() && done == 0) return put.error();
    done += put.ok() ? *put : 0;
    if (!put.ok() || *put < piece) break;
  }
  return done;
}

// Forgets the oldest bytes, all within the first segment.
void Pipe::drop_locked(size_t size) {
  Segment& first = segments_.front();
  start_ = (start_ + size) & (ring_size_ - 1);
  length_ -= size;
  first.offset += size;
  first.length -= size;
  if (first.length == 0) segments_.pop_front();
}

Result<size_t> Pipe::read(IoBuffers& to) {
  if (to.empty()) return size_t{0};
  size_t done = 0;
  {
    Lock lock(mutex_);
    while (!segments_.empty() && !to.empty()) {
      const Segment first = segments_.front();
      const size_t size = std::min(first.length, to.remaining());
      const Result<size_t> got = get_locked(to, size);
      if (!got.ok() && done == 0) return got.error();
      if (!got.ok()) break;
      done += *got;
      // The rest of a packet that did not fit is lost (pipe(2), O_DIRECT).
      drop_locked(first.packet ? first.length : *got);
      if (first.packet || *got < size) break;
    }
    if (done == 0 && segments_.empty()) {
      if (writers_ == 0) return size_t{0};
      return Errno::kAgain;
    }
  }
  queue_.notify(kWritable);
  return done;
}

Events Pipe::ready(int flags, uint64_t writers_seen) {
  Events events = 0;
  Lock lock(mutex_);
  if (reads(flags)) {
    if (length_ > 0) events |= kReadable;
    if (writers_ == 0 && writers_ever_ != writers_seen) events |= kHangup;
  }
  if (writes(flags)) {
    if (!full_locked()) events |= kWritable;
    if (readers_ == 0) events |= kError;
  }
  return events;
}

size_t Pipe::unread() {
  Lock lock(mutex_);
  return length_;
}

size_t Pipe::capacity() {
  Lock lock(mutex_);
  return capacity_;
}

Result<size_t> Pipe::resize(uint64_t bytes, const Credentials& who) {
  if (bytes > (uint64_t{1} << 31)) return Errno::kInval;
  const size_t wanted = std::bit_ceil(std::max<size_t>(bytes, kPipeBuf));
  {
    Lock lock(mutex_);
    if (wanted > capacity_ && wanted > kPipeMaxCapacity) {
      // More than this is more of our memory than we give away, capability or not.
      return who.has_capability(CAP_SYS_RESOURCE) ? Errno::kNoMem : Errno::kPerm;
    }
    if (wanted / kPipeBuf < segments_.size()) return Errno::kBusy;
    if (wanted > charged_) {
      if (!quota_->charge(wanted - charged_).ok()) return Errno::kPerm;
    } else {
      quota_->release(charged_ - wanted);
    }
    charged_ = wanted;
    capacity_ = wanted;
  }
  queue_.notify(kWritable);
  return wanted;
}

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

PipePair create_pipe(const PipeSystem& system, int flags, Ref<Credentials> credentials) {
  const vfs::Path path = vfs::AnonymousFileSystem::make(system.mount, vfs::FileType::kFifo, 0600,
                                                        "pipe:[%]", *credentials);
  const Ref<vfs::Inode> inode = path.dentry->inode();
  const Ref<Pipe> pipe = make_ref<Pipe>(system, false);
  static_cast<void>(inode->attach_if_none(pipe));  // for who opens /proc/PID/fd/N
  const auto end = [&](int mode) -> Ref<vfs::FileDescription> {
    const vfs::OpenRequest request{mode | (flags & (O_NONBLOCK | O_DIRECT)), path, credentials};
    return make_ref<PipeEnd>(request, inode, pipe, pipe->open_end(mode).value_or({}));
  };
  return {end(O_RDONLY), end(O_WRONLY)};
}

Result<Ref<vfs::FileDescription>> open_fifo(const PipeSystem& system, vfs::Inode& inode,
                                            const vfs::OpenRequest& request) {
  for (;;) {
    Ref<RefCounted> attached = inode.attachment();
    if (!attached) attached = inode.attach_if_none(make_ref<Pipe>(system, true));
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

Result<size_t> pipe_capacity(vfs::FileDescription& file) {
  auto* end = dynamic_cast<PipeEnd*>(&file);
  if (end == nullptr) return Errno::kBadF;
  return end->pipe().capacity();
}

Result<size_t> set_pipe_capacity(vfs::FileDescription& file, uint64_t bytes,
                                 const Credentials& who) {
  auto* end = dynamic_cast<PipeEnd*>(&file);
  if (end == nullptr) return Errno::kBadF;
  return end->pipe().resize(bytes, who);
}

}  // namespace boxrun::fs
