// The bytes inside a pipe and who is at its ends; the open files are in pipe.cpp.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>

#include "sentry/fs/file_data.h"
#include "sentry/fs/pipe.h"
#include "sentry/wait/wait.h"
#include "src/base/bytes.h"
#include "src/base/ref.h"
#include "src/base/sync.h"

namespace boxrun::fs {

// What the ends of a pipe share, and own: the bytes on their way. As in Linux, room is counted in
// pages: a write goes into pages of its own, but for an odd end that still fits into the last page.
// So the same writes fit, and in the same parts. Thread-safe; one lock for all of it.
class Pipe final : public RefCounted {
 public:
  // ENFILE when there is no memory for it (pipe(2)).
  static Result<Ref<Pipe>> create(const PipeSystem& system, bool is_fifo);
  ~Pipe() override;

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

  // EAGAIN also while the bytes are lent.
  Result<size_t> read(IoBuffers& to) EXCLUDES(mutex_);
  Result<size_t> write(IoBuffers& from, bool packets) EXCLUDES(mutex_);
  // `writers_seen`: how many writers there had been when this reader opened without waiting.
  Events ready(int flags, uint64_t writers_seen) EXCLUDES(mutex_);
  size_t unread() EXCLUDES(mutex_);
  size_t capacity() EXCLUDES(mutex_);
  Result<size_t> resize(uint64_t bytes, const Credentials& who) EXCLUDES(mutex_);

  // --- for PipeLoan and PipeRoom (pipe_loan.h)
  // Keeps all others from reading. EAGAIN while there is nothing to read, or somebody else has it.
  Result<void> lend() EXCLUDES(mutex_);
  void end_loan() EXCLUDES(mutex_);
  // Copies the bytes behind the first `skip`; how many there were.
  size_t peek(size_t skip, std::span<std::byte> to) EXCLUDES(mutex_);
  void consume(size_t size) EXCLUDES(mutex_);
  // Keeps pages for `wanted` bytes free from others, or as many as there are: how many pages.
  // EPIPE without readers, EAGAIN when full.
  Result<size_t> reserve(size_t wanted) EXCLUDES(mutex_);
  void give_back(size_t pages) EXCLUDES(mutex_);
  // Puts all of `from` into pages that were reserved for it. EFAULT.
  Result<size_t> fill(IoBuffers& from, size_t pages) EXCLUDES(mutex_);

 private:
  Pipe(const PipeSystem& system, bool is_fifo, size_t charged, size_t capacity);
  Result<size_t> exchange_capacity(size_t wanted, const Credentials& who) EXCLUDES(mutex_);
  // One page's worth of bytes.
  struct Segment {
    size_t offset;  // of the first unread byte in the page
    size_t length;
    bool packet;  // read alone, and never added to
  };
  size_t pages_locked() const REQUIRES(mutex_) { return capacity_ / kPipeBuf; }
  size_t used_locked() const REQUIRES(mutex_) { return segments_.size() + reserved_; }
  bool full_locked() const REQUIRES(mutex_) { return used_locked() >= pages_locked(); }
  void grow_locked(size_t bytes) REQUIRES(mutex_);
  Result<void> append_locked(IoBuffers& from, bool packets) REQUIRES(mutex_);
  Result<size_t> put_locked(IoBuffers& from, size_t size) REQUIRES(mutex_);
  Result<size_t> get_locked(IoBuffers& to, size_t skip, size_t size) REQUIRES(mutex_);
  void drop_locked(size_t size) REQUIRES(mutex_);

  const Ref<SpaceQuota> quota_;
  mm::MemoryFile& memory_;
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
  size_t reserved_ GUARDED_BY(mutex_) = 0;  // pages
  bool lent_ GUARDED_BY(mutex_) = false;
  int readers_ GUARDED_BY(mutex_) = 0, writers_ GUARDED_BY(mutex_) = 0;
  uint64_t readers_ever_ GUARDED_BY(mutex_) = 0, writers_ever_ GUARDED_BY(mutex_) = 0;
  bool dead_ GUARDED_BY(mutex_) = false;
};

}  // namespace boxrun::fs
