// What splice(2) and its kin do to a pipe in steps, with a transfer of another file in between that
// may fail, fall short, or take its time. Linux holds the pipe's mutex all along; here the pipe
// remembers, so that no lock is held and nothing is lost, repeated or reordered.
#pragma once
#include <cstddef>
#include <span>
#include <utility>

#include "sentry/fs/pipe_buffer.h"
#include "src/base/bytes.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::fs {

// The unread bytes of a pipe, which stay in it until they have arrived elsewhere. Nobody else reads
// them meanwhile; writers add to them. For one thread.
class PipeLoan {
 public:
  // EAGAIN while there is nothing to read, or somebody else has the loan. Empty at end of file.
  static Result<PipeLoan> take(Pipe& pipe);
  PipeLoan(PipeLoan&&) noexcept = default;
  PipeLoan& operator=(PipeLoan&&) = delete;
  ~PipeLoan();

  // Copies the bytes behind the first `skip`; returns how many, 0 when there are no more.
  size_t peek(size_t skip, std::span<std::byte> to) const { return pipe_->peek(skip, to); }
  // Takes the oldest bytes out, no more than peek has shown.
  void consume(size_t size) { pipe_->consume(size); }

 private:
  explicit PipeLoan(Pipe& pipe) : pipe_(&pipe) {}
  Ref<Pipe> pipe_;
};

// Room that nobody else writes to, for bytes that are yet to be read from somewhere. For one
// thread.
class PipeRoom {
 public:
  // Room for `wanted` > 0 bytes, or for less. EPIPE without readers, EAGAIN when the pipe is full.
  static Result<PipeRoom> reserve(Pipe& pipe, size_t wanted);
  PipeRoom(PipeRoom&& other) noexcept
      : pipe_(std::move(other.pipe_)), size_(other.size_), pages_(other.pages_) {}
  PipeRoom& operator=(PipeRoom&&) = delete;
  ~PipeRoom();

  size_t size() const { return size_; }  // bytes that are left
  // Puts in all bytes, at most size(), whether or not there still are readers. Each call uses up
  // whole pages. EFAULT.
  Result<size_t> fill(IoBuffers from);

 private:
  PipeRoom(Pipe& pipe, size_t size, size_t pages) : pipe_(&pipe), size_(size), pages_(pages) {}
  Ref<Pipe> pipe_;
  size_t size_, pages_;
};

}  // namespace boxrun::fs
