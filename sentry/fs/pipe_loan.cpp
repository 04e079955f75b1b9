#include "sentry/fs/pipe_loan.h"

#include <algorithm>

namespace boxrun::fs {

Result<PipeLoan> PipeLoan::take(Pipe& pipe) {
  TRY(pipe.lend());
  return PipeLoan(pipe);
}

PipeLoan::~PipeLoan() {
  if (pipe_) pipe_->end_loan();
}

Result<PipeRoom> PipeRoom::reserve(Pipe& pipe, size_t wanted) {
  const size_t pages = TRY(pipe.reserve(wanted));
  return PipeRoom(pipe, std::min(wanted, pages * kPipeBuf), pages);
}

PipeRoom::~PipeRoom() {
  if (pipe_ && pages_ > 0) pipe_->give_back(pages_);
}

Result<size_t> PipeRoom::fill(IoBuffers from) {
  DCHECK(from.remaining() <= size_);
  const size_t pages = (from.remaining() + kPipeBuf - 1) / kPipeBuf;
  pages_ -= pages;
  size_ = std::min(size_ - from.remaining(), pages_ * kPipeBuf);
  return pipe_->fill(from, pages);
}

}  // namespace boxrun::fs
