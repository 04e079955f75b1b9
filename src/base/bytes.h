#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "src/base/result.h"

namespace boxrun {

// Copies `size` bytes like memcpy, but survives memory that cannot be touched (a host file mapping
// whose file was truncated): returns how many bytes were copied, `size` when all were.
// Needs install_fault_handlers() once per process.
size_t safe_copy(void* to, const void* from, size_t size);
// The same for memset to zero.
size_t safe_zero(void* to, size_t size);
// Atomic operations on a naturally aligned word that cannot perhaps be touched: false then.
bool safe_load(const uint32_t* from, uint32_t& value);
// `value` goes in and the old value comes out.
bool safe_exchange(uint32_t* at, uint32_t& value);
// Stores `desired` if the word equals `expected`; `expected` gets the value found in any case.
bool safe_compare_exchange(uint32_t* at, uint32_t& expected, uint32_t desired);
// Installs the process-wide SIGBUS and SIGSEGV handlers behind these functions. A fault anywhere
// else still ends the process as it would have without them.
void install_fault_handlers();

// A cursor over host memory that somebody else owns (pinned guest memory, or a plain buffer in a
// test), in one or more pieces, consumed front to back. It is what read and write of the VFS take:
// below the system call layer nobody sees a guest address. Not thread-safe.
class IoBuffers {
 public:
  IoBuffers() = default;
  // `pieces` must outlive this object.
  explicit IoBuffers(std::span<const iovec> pieces);
  explicit IoBuffers(std::span<std::byte> one);
  // For data that is only taken from; the bytes are never written.
  explicit IoBuffers(std::span<const std::byte> one);
  IoBuffers(const IoBuffers& other);
  IoBuffers& operator=(const IoBuffers& other);

  size_t remaining() const { return remaining_; }
  bool empty() const { return remaining_ == 0; }
  // Limits what is left to at most `size` bytes.
  void truncate(size_t size);

  // Copies min(from.size(), remaining()) bytes into the buffers and moves on by as many as were
  // copied. EFAULT only when the very first byte could not be written.
  Result<size_t> put(std::span<const std::byte> from);
  Result<size_t> put_zeros(size_t size);
  // Copies min(to.size(), remaining()) bytes out of the buffers and moves on.
  Result<size_t> take(std::span<std::byte> to);

  // Fills `out` with the pieces that are left, at most `max_bytes` in sum, for preadv and its like;
  // returns how many were filled. Does not move on: call skip with what the host call moved.
  size_t iovecs(std::span<iovec> out, size_t max_bytes) const;
  void skip(size_t size);

 private:
  template <class Copy>
  Result<size_t> each(size_t size, Copy copy);

  iovec single_{};
  std::span<const iovec> pieces_;
  size_t offset_ = 0;  // within pieces_[0]
  size_t remaining_ = 0;
};

inline std::span<const std::byte> as_bytes_of(const void* data, size_t size) {
  return {static_cast<const std::byte*>(data), size};
}
template <class T>
std::span<const std::byte> bytes_of(const T& object) {
  return {reinterpret_cast<const std::byte*>(&object), sizeof object};
}
template <class T>
std::span<std::byte> writable_bytes_of(T& object) {
  return {reinterpret_cast<std::byte*>(&object), sizeof object};
}

}  // namespace boxrun
