#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

// mm/mmap.c: SYSCALL_DEFINE1(brk). Whatever cannot be done leaves the break where it is.
uint64_t MemoryManager::set_break(uint64_t addr, const Limits& limits) {
  Farewell farewell(*this);
  Range grown;
  {
    Lock lock(impl_->mutex_);
    grown = impl_->set_break_locked(addr, limits, farewell);
    addr = impl_->maps_.layout.brk;
    if (!impl_->maps_.lock_future) return addr;
  }
  (void)impl_->populate_range(grown, Access::kWrite);
  return addr;
}

Range MemoryManager::Impl::set_break_locked(uint64_t addr, const Limits& limits,
                                            Farewell& farewell) {
  Layout& layout = maps_.layout;
  if (addr < layout.start_brk || addr > user_.end) return {};
  const uint64_t data = layout.end_data - layout.start_data;
  if (limits.data != UINT64_MAX && addr - layout.start_brk + data > limits.data) return {};
  const uint64_t old_end = *page_up(layout.brk);
  const uint64_t new_end = *page_up(addr);
  if (new_end <= old_end) {
    if (new_end < old_end && !unmap_locked({new_end, old_end}, farewell)) return {};
    layout.brk = addr;
    return {};
  }
  const Range range{old_end, new_end};
  // A page is left free above the heap, so that it never touches the next mapping.
  if (!user_.contains(range) || !is_free({old_end, new_end + kPageSize})) return {};
  Vma vma;
  vma.prot = Prot::kRead | Prot::kWrite;
  vma.max_prot = vma.prot | Prot::kExec;
  vma.locked = maps_.lock_future;
  vma.lazy = true;
  maps_.last_limits = limits;
  if (!maps_.may_expand(range.size(), vma, limits, file_)) return {};
  if (!maps_.may_split(range) || !leave_spare(range)) return {};
  if (range.size() <= kPromise) {
    Batch batch(file_);
    if (!promise(batch, range, vma) || !run(batch)) return {};
  }
  maps_.add(range, std::move(vma));
  layout.brk = addr;
  return range;
}

}  // namespace boxrun::mm
