// Atomic operations on words of guest memory (futex(2)). The word is in a page that guest threads
// may be changing at the same time; the host instruction is as atomic for them as their own.
#include "sentry/mm/memory_manager_impl.h"
#include "src/base/bytes.h"

namespace boxrun::mm {

template <class Operate>
Result<void> MemoryManager::on_word(uint64_t addr, Access access, Operate&& operate) {
  if (addr % sizeof(uint32_t) != 0) return Errno::kInval;
  const auto touch = [&](const Impl::Piece& piece, size_t) -> size_t {
    return operate(reinterpret_cast<uint32_t*>(piece.host)) ? piece.size : 0;
  };
  const size_t done = impl_->transfer(addr, sizeof(uint32_t), access, Impl::Force::kNo, touch);
  return done == sizeof(uint32_t) ? Result<void>() : Errno::kFault;
}

Result<uint32_t> MemoryManager::load_u32(uint64_t addr) {
  uint32_t value = 0;
  TRY(on_word(addr, Access::kRead, [&](uint32_t* word) { return safe_load(word, value); }));
  return value;
}

Result<uint32_t> MemoryManager::exchange_u32(uint64_t addr, uint32_t value) {
  TRY(on_word(addr, Access::kWrite, [&](uint32_t* word) { return safe_exchange(word, value); }));
  return value;
}

Result<bool> MemoryManager::compare_exchange_u32(uint64_t addr, uint32_t& expected,
                                                 uint32_t desired) {
  bool stored = false;
  TRY(on_word(addr, Access::kWrite, [&](uint32_t* word) {
    const uint32_t wanted = expected;
    if (!safe_compare_exchange(word, expected, desired)) return false;
    stored = expected == wanted;
    return true;
  }));
  return stored;
}

// kernel/futex/core.c: get_futex_key. Shared futexes of private memory get a bit in the offset
// there, so that they never meet private ones; ours, too. A word of anonymous memory that nobody
// can write will never change, and is refused.
Result<FutexKey> MemoryManager::futex_key(uint64_t addr, bool shared) {
  if (addr % sizeof(uint32_t) != 0) return Errno::kInval;
  if (!impl_->is_user_range(addr, sizeof(uint32_t))) return Errno::kFault;
  if (!shared) return FutexKey{this, addr};
  TRY(load_u32(addr));
  Lock lock(impl_->mutex_);
  const auto at = impl_->maps_.vmas.find(addr);
  if (at == impl_->maps_.vmas.end()) return Errno::kFault;
  const Vma& vma = at.value();
  if (vma.anonymous() && !vma.shared && !vma.writable()) return Errno::kFault;
  if (!vma.shared) return FutexKey{this, addr | 2};
  return FutexKey{vma.source.get(), vma.offset + (addr - at.range().start)};
}

}  // namespace boxrun::mm
