#include "src/base/bytes.h"

#include <algorithm>

namespace boxrun {

IoBuffers::IoBuffers(std::span<const iovec> pieces) : pieces_(pieces) {
  for (const iovec& piece : pieces_) remaining_ += piece.iov_len;
}

IoBuffers::IoBuffers(std::span<std::byte> one)
    : single_{one.data(), one.size()}, pieces_(&single_, 1), remaining_(one.size()) {}

IoBuffers::IoBuffers(std::span<const std::byte> one)
    : single_{const_cast<std::byte*>(one.data()), one.size()},
      pieces_(&single_, 1),
      remaining_(one.size()) {}

IoBuffers::IoBuffers(const IoBuffers& other) { *this = other; }

IoBuffers& IoBuffers::operator=(const IoBuffers& other) {
  if (this == &other) return *this;
  const bool own = other.pieces_.data() == &other.single_;
  single_ = other.single_;
  pieces_ = own ? std::span<const iovec>(&single_, other.pieces_.size()) : other.pieces_;
  offset_ = other.offset_;
  remaining_ = other.remaining_;
  return *this;
}

void IoBuffers::truncate(size_t size) { remaining_ = std::min(remaining_, size); }

void IoBuffers::skip(size_t size) {
  CHECK(size <= remaining_);
  remaining_ -= size;
  while (size > 0) {
    const size_t here = std::min(size, pieces_.front().iov_len - offset_);
    offset_ += here;
    size -= here;
    if (offset_ == pieces_.front().iov_len) {
      pieces_ = pieces_.subspan(1);
      offset_ = 0;
    }
  }
}

template <class Copy>
Result<size_t> IoBuffers::each(size_t size, Copy copy) {
  size = std::min(size, remaining_);
  size_t done = 0;
  while (done < size) {
    if (pieces_.front().iov_len == offset_) {
      pieces_ = pieces_.subspan(1);
      offset_ = 0;
      continue;
    }
    const size_t here = std::min(size - done, pieces_.front().iov_len - offset_);
    std::byte* at = static_cast<std::byte*>(pieces_.front().iov_base) + offset_;
    const size_t copied = copy(at, done, here);
    skip(copied);
    done += copied;
    if (copied < here) break;
  }
  if (done == 0 && size > 0) return Errno::kFault;
  return done;
}

Result<size_t> IoBuffers::put(std::span<const std::byte> from) {
  return each(from.size(), [&](std::byte* at, size_t done, size_t here) {
    return safe_copy(at, from.data() + done, here);
  });
}

Result<size_t> IoBuffers::put_zeros(size_t size) {
  return each(size, [](std::byte* at, size_t, size_t here) { return safe_zero(at, here); });
}

Result<size_t> IoBuffers::take(std::span<std::byte> to) {
  return each(to.size(), [&](std::byte* at, size_t done, size_t here) {
    return safe_copy(to.data() + done, at, here);
  });
}

size_t IoBuffers::iovecs(std::span<iovec> out, size_t max_bytes) const {
  size_t left = std::min(remaining_, max_bytes);
  size_t count = 0;
  size_t offset = offset_;
  for (const iovec& piece : pieces_) {
    if (left == 0 || count == out.size()) break;
    const size_t here = std::min(left, piece.iov_len - offset);
    if (here > 0) {
      out[count++] = {static_cast<std::byte*>(piece.iov_base) + offset, here};
    }
    left -= here;
    offset = 0;
  }
  return count;
}

}  // namespace boxrun
