#include "sentry/fs/pipe_buffer.h"

#include <fcntl.h>
#include <linux/capability.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace boxrun::fs {
namespace {

constexpr size_t kSmallCapacity = 2 * kPipeBuf;  // PIPE_MIN_DEF_BUFFERS: when the quota is used up

// What an empty pipe takes of the Sentry's heap: itself, an inode, two open files.
constexpr size_t kObjectCost = 2048;

bool reads(int flags) { return (flags & O_ACCMODE) != O_WRONLY; }
bool writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

}  // namespace

Result<Ref<Pipe>> Pipe::create(const PipeSystem& system, bool is_fifo) {
  const bool large = system.quota->charge(kPipeCapacity).ok();
  const size_t capacity = large ? kPipeCapacity : kSmallCapacity;
  if (!system.memory.charge(kObjectCost + capacity)) {
    if (large) system.quota->release(kPipeCapacity);
    return Errno::kNFile;
  }
  return adopt_ref(new Pipe(system, is_fifo, large ? capacity : 0, capacity));
}

Pipe::Pipe(const PipeSystem& system, bool is_fifo, size_t charged, size_t capacity)
    : quota_(system.quota),
      memory_(system.memory),
      is_fifo_(is_fifo),
      charged_(charged),
      capacity_(capacity) {}

Pipe::~Pipe() {
  quota_->release(charged_);
  memory_.discharge(kObjectCost + capacity_);
}

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

// Copies `size` bytes from behind the oldest `skip`, or as many as can be written.
Result<size_t> Pipe::get_locked(IoBuffers& to, size_t skip, size_t size) {
  size_t done = 0;
  while (done < size) {
    const size_t at = (start_ + skip + done) & (ring_size_ - 1);
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
    if (lent_) return Errno::kAgain;
    while (!segments_.empty() && !to.empty()) {
      const Segment first = segments_.front();
      const size_t size = std::min(first.length, to.remaining());
      const Result<size_t> got = get_locked(to, 0, size);
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

Result<void> Pipe::lend() {
  Lock lock(mutex_);
  if (lent_ || (segments_.empty() && writers_ != 0)) return Errno::kAgain;
  lent_ = true;
  return {};
}

void Pipe::end_loan() {
  {
    Lock lock(mutex_);
    lent_ = false;
  }
  queue_.notify(kReadable);
}

size_t Pipe::peek(size_t skip, std::span<std::byte> to) {
  Lock lock(mutex_);
  if (skip >= length_) return 0;
  IoBuffers buffers(to);
  return get_locked(buffers, skip, std::min(to.size(), length_ - skip)).value_or(0);
}

void Pipe::consume(size_t size) {
  {
    Lock lock(mutex_);
    while (size > 0 && !segments_.empty()) {
      const size_t piece = std::min(size, segments_.front().length);
      drop_locked(piece);
      size -= piece;
    }
  }
  queue_.notify(kWritable);
}

Result<size_t> Pipe::reserve(size_t wanted) {
  Lock lock(mutex_);
  if (readers_ == 0) return Errno::kPipe;
  if (full_locked()) return Errno::kAgain;
  const size_t pages = std::min(pages_locked() - used_locked(), (wanted + kPipeBuf - 1) / kPipeBuf);
  reserved_ += pages;
  return pages;
}

void Pipe::give_back(size_t pages) {
  {
    Lock lock(mutex_);
    reserved_ -= pages;
  }
  queue_.notify(kWritable);
}

Result<size_t> Pipe::fill(IoBuffers& from, size_t pages) {
  const size_t asked = from.remaining();
  Errno error = Errno::kOk;
  {
    Lock lock(mutex_);
    reserved_ -= pages;
    error = append_locked(from, false).error();
  }
  const size_t done = asked - from.remaining();
  if (done == 0 && error != Errno::kOk) return error;
  queue_.notify(kReadable);
  return done;
}

Events Pipe::ready(int flags, uint64_t writers_seen) {
  Events events = 0;
  Lock lock(mutex_);
  if (reads(flags)) {
    if (length_ > 0 && !lent_) events |= kReadable;
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
  // The memory before the lock, which is a deeper one; what is not needed goes back after it.
  if (wanted <= kPipeMaxCapacity && !memory_.charge(wanted)) return Errno::kNoMem;
  Result<size_t> before = exchange_capacity(wanted, who);
  if (wanted <= kPipeMaxCapacity) memory_.discharge(before.ok() ? *before : wanted);
  TRY(before);
  queue_.notify(kWritable);
  return wanted;
}

// Returns what it was.
Result<size_t> Pipe::exchange_capacity(size_t wanted, const Credentials& who) {
  Lock lock(mutex_);
  if (wanted > kPipeMaxCapacity) {
    // More than this is more of our memory than we give away, capability or not.
    return who.has_capability(CAP_SYS_RESOURCE) ? Errno::kNoMem : Errno::kPerm;
  }
  if (wanted / kPipeBuf < used_locked()) return Errno::kBusy;
  if (wanted > charged_) {
    if (!quota_->charge(wanted - charged_).ok()) return Errno::kPerm;
  } else {
    quota_->release(charged_ - wanted);
  }
  charged_ = wanted;
  return std::exchange(capacity_, wanted);
}

}  // namespace boxrun::fs
