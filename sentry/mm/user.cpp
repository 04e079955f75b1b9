// Copies between the Sentry and guest memory. The pages are looked up and touched under the lock,
// through the Sentry's own mapping of the memory file or a window on a host file; what is not there
// is faulted in without the lock, as a guest's own access would.
#include <algorithm>
#include <array>
#include <cstring>

#include "sentry/mm/memory_manager_impl.h"
#include "src/base/bytes.h"

namespace boxrun::mm {

std::optional<MemoryManager::Impl::Piece> MemoryManager::Impl::piece(uint64_t addr, size_t size,
                                                                     Access access, Force force) {
  const auto at = maps_.pages.find(addr);
  if (at == maps_.pages.end()) return std::nullopt;
  const Pages& pages = at.value();
  const bool write = access == Access::kWrite;
  const bool forced =
      force == Force::kYes && (!write || (pages.kind == Pages::Kind::kPrivate && !pages.cow));
  if (!forced && !has(pages.prot, write ? Prot::kWrite : Prot::kRead)) return std::nullopt;
  const uint64_t offset = pages.offset + (addr - at.range().start);
  Piece piece;
  piece.size = std::min<uint64_t>(size, at.range().end - addr);
  if (pages.in_memory_file()) {
    piece.host = file_.data(offset);
    piece.extent = {page_down(offset), *page_up(offset + piece.size)};
    return piece;
  }
  auto window = windows_.get(pages.source, pages.host_fd, offset, write);
  if (!window) return std::nullopt;
  piece.window = *window;
  piece.host = piece.window->data(offset);
  piece.size = std::min<uint64_t>(piece.size, piece.window->end() - offset);
  return piece;
}

static Result<void> all_or_fault(size_t done, size_t size) {
  return done == size ? Result<void>() : Errno::kFault;
}

static auto reader(std::span<std::byte> to) {
  return [to](const auto& piece, size_t done) {
    return safe_copy(to.data() + done, piece.host, piece.size);
  };
}

static auto writer(std::span<const std::byte> from) {
  return [from](const auto& piece, size_t done) {
    return safe_copy(piece.host, from.data() + done, piece.size);
  };
}

Result<void> MemoryManager::copy_in(uint64_t from, std::span<std::byte> to) {
  return all_or_fault(impl_->transfer(from, to.size(), Access::kRead, Impl::Force::kNo, reader(to)),
                      to.size());
}

Result<void> MemoryManager::copy_out(uint64_t to, std::span<const std::byte> from) {
  return all_or_fault(
      impl_->transfer(to, from.size(), Access::kWrite, Impl::Force::kNo, writer(from)),
      from.size());
}

Result<void> MemoryManager::zero(uint64_t to, size_t size) {
  const auto clear = [](const auto& piece, size_t) { return safe_zero(piece.host, piece.size); };
  return all_or_fault(impl_->transfer(to, size, Access::kWrite, Impl::Force::kNo, clear), size);
}

Result<void> MemoryManager::peek(uint64_t from, std::span<std::byte> to) {
  return all_or_fault(
      impl_->transfer(from, to.size(), Access::kRead, Impl::Force::kYes, reader(to)), to.size());
}

Result<void> MemoryManager::poke(uint64_t to, std::span<const std::byte> from) {
  return all_or_fault(
      impl_->transfer(to, from.size(), Access::kWrite, Impl::Force::kYes, writer(from)),
      from.size());
}

Result<std::string> MemoryManager::copy_in_string(uint64_t from, size_t max) {
  std::string text;
  std::array<std::byte, 256> chunk;
  for (;;) {
    // Never across a page: what follows the string may not be mapped.
    const size_t in_page = kPageSize - from % kPageSize;
    const size_t size = std::min({chunk.size(), in_page, max + 1 - text.size()});
    TRY(copy_in(from, std::span(chunk).first(size)));
    if (const void* nul = memchr(chunk.data(), 0, size); nul != nullptr) {
      text.append(reinterpret_cast<const char*>(chunk.data()), static_cast<const char*>(nul));
      return text;
    }
    text.append(reinterpret_cast<const char*>(chunk.data()), size);
    if (text.size() > max) return Errno::kNameTooLong;
    from += size;
  }
}

}  // namespace boxrun::mm
