#include <algorithm>
#include <climits>
#include <utility>

#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

namespace {

// fs.h: MAX_RW_COUNT.
constexpr size_t kMaxRwCount = INT_MAX & ~(kPageSize - 1);
constexpr size_t kIovMax = 1024;

}  // namespace

Pinned::Pinned() = default;
Pinned::Pinned(Pinned&& other) noexcept
    : pieces_(std::move(other.pieces_)),
      holds_(std::move(other.holds_)),
      size_(std::exchange(other.size_, 0)),
      complete_(other.complete_) {
  other.pieces_.clear();
  other.holds_.clear();
}
Pinned& Pinned::operator=(Pinned&& other) noexcept {
  if (this == &other) return *this;
  release();
  pieces_ = std::exchange(other.pieces_, {});
  holds_ = std::exchange(other.holds_, {});
  size_ = std::exchange(other.size_, 0);
  complete_ = other.complete_;
  return *this;
}
Pinned::~Pinned() { release(); }

void Pinned::release() {
  for (const Hold& hold : holds_) {
    if (hold.file == nullptr) continue;
    if (hold.for_write) {
      hold.file->unpin(hold.extent);
    } else {
      hold.file->unref(hold.extent);
    }
  }
  holds_.clear();
  pieces_.clear();
  size_ = 0;
}

size_t MemoryManager::pin_into(Pinned& pinned, uint64_t addr, size_t size, Access access) {
  const bool for_write = access == Access::kWrite;
  const auto hold = [&](Impl::Piece& piece, size_t) {
    if (piece.window) {
      pinned.holds_.push_back({nullptr, {}, false, std::move(piece.window)});
    } else {
      MemoryFile& file = impl_->file_;
      if (for_write) {
        file.pin(piece.extent);
      } else {
        file.ref(piece.extent);
      }
      pinned.holds_.push_back({&file, piece.extent, for_write, {}});
    }
    pinned.pieces_.push_back({piece.host, piece.size});
    pinned.size_ += piece.size;
    return piece.size;
  };
  return impl_->transfer(addr, size, access, Impl::Force::kNo, hold);
}

Result<Pinned> MemoryManager::pin(uint64_t addr, size_t size, Access access) {
  Pinned pinned;
  // Linux checks no address of an empty buffer: read(fd, NULL, 0) is fine.
  if (size > 0 && !impl_->is_user_range(addr, size)) return Errno::kFault;
  size = std::min(size, kMaxRwCount);
  if (pin_into(pinned, addr, size, access) == 0 && size > 0) return Errno::kFault;
  pinned.complete_ = pinned.size_ == size;
  return pinned;
}

// lib/iov_iter.c: __import_iovec.
Result<Pinned> MemoryManager::pin_iovec(uint64_t iov, size_t count, Access access) {
  if (count > kIovMax) return Errno::kInval;
  auto list = TRY(read_array(UserIn<iovec>{iov}, count));
  size_t total = 0;
  for (iovec& one : list) {
    if (one.iov_len > SSIZE_MAX) return Errno::kInval;
    if (!impl_->is_user_range(reinterpret_cast<uint64_t>(one.iov_base), one.iov_len)) {
      if (one.iov_len > 0) return Errno::kFault;
    }
    one.iov_len = std::min(one.iov_len, kMaxRwCount - total);
    total += one.iov_len;
  }
  Pinned pinned;
  for (const iovec& one : list) {
    if (one.iov_len == 0) continue;
    const size_t done =
        pin_into(pinned, reinterpret_cast<uint64_t>(one.iov_base), one.iov_len, access);
    if (done < one.iov_len) break;
  }
  if (pinned.size() == 0 && total > 0) return Errno::kFault;
  pinned.complete_ = pinned.size_ == total;
  return pinned;
}

}  // namespace boxrun::mm
