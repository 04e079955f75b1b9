// Which text the platform may replace by a version of its own: a page of a host file, clean, that
// the guest can execute but not write. What the Sentry itself reads is the file, so the guest sees
// the difference only by loads from its own text.
#include <array>

#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

void MemoryManager::improve_call(uint64_t ip, uint64_t number) {
  const uint64_t address = page_down(ip - 1);
  std::array<std::byte, kPageSize> bytes;
  Lock lock(impl_->mutex_);
  auto& maps = impl_->maps_;
  const Range spare = impl_->spare();
  const auto vma = maps.vmas.find(address);
  const auto pages = maps.pages.find(address);
  if (vma == maps.vmas.end() || pages == maps.pages.end() || maps.vmas.overlaps(spare)) return;
  const bool clean_text =
      !vma.value().shared && !vma.value().writable() && has(vma.value().prot, Prot::kExec) &&
      pages.value().kind == Pages::Kind::kHost && has(pages.value().prot, Prot::kExec);
  if (!clean_text) return;
  const auto piece = impl_->piece(address, kPageSize, Access::kRead, Impl::Force::kNo);
  if (!piece || piece->size != kPageSize ||
      safe_copy(bytes.data(), piece->host, kPageSize) != kPageSize) {
    return;
  }
  // The page may have to be installed again, which is then no second time.
  std::erase_if(impl_->reinstalled_, [&](const auto& r) { return r.page == address; });
  impl_->address_space_->improve({ip, number, bytes, spare});
}

// What the guest maps there it must see, even if the platform is told of it only when it is
// touched.
Result<void> MemoryManager::Impl::leave_spare(Range range) {
  if (!range.overlaps(spare())) return {};
  reinstalled_.clear();
  return address_space_->restore(spare());
}

Result<void> MemoryManager::Impl::restore_text(Range range) {
  // Pages may have to be installed again, see above.
  std::erase_if(reinstalled_, [&](const auto& r) { return range.contains(r.page); });
  return address_space_->restore(range);
}

}  // namespace boxrun::mm
