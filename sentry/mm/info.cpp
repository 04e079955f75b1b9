// What /proc, prctl(PR_SET_MM) and mincore(2) want to know.
#include <algorithm>
#include <utility>

#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

std::vector<VmaInfo> MemoryManager::vmas() {
  std::vector<VmaInfo> list;
  std::vector<Ref<PageSource>> sources;
  {
    Lock lock(impl_->mutex_);
    const Maps& maps = impl_->maps_;
    for (const auto& [range, vma] : maps.vmas) {
      VmaInfo info{range, vma.prot, vma.shared, vma.offset, {}, vma.name};
      // fs/proc/task_mmu.c: get_vma_name, vma_is_initial_heap.
      const Range heap{maps.layout.start_brk, maps.layout.brk};
      if (info.name.empty() && vma.anonymous() && range.overlaps(heap)) info.name = "[heap]";
      list.push_back(std::move(info));
      sources.push_back(vma.source);
    }
  }
  for (size_t i = 0; i < list.size(); i++) {
    if (sources[i]) list[i].file = sources[i]->identity();
  }
  return list;
}

Usage MemoryManager::usage() {
  Lock lock(impl_->mutex_);
  const Maps& maps = impl_->maps_;
  Usage usage;
  usage.virtual_bytes = maps.total_bytes;
  usage.peak_virtual_bytes = maps.peak_bytes;
  usage.data_bytes = maps.data_bytes;
  usage.locked_bytes = maps.locked_bytes;
  for (const auto& [range, vma] : maps.vmas) {
    if (vma.grows_down) usage.stack_bytes += range.size();
    if (has(vma.prot, Prot::kExec) && !vma.writable() && !vma.grows_down) {
      usage.exec_bytes += range.size();
    }
  }
  for (const auto& [range, pages] : maps.pages) {
    if (pages.in_memory_file()) usage.resident_bytes += range.size();
  }
  return usage;
}

Layout MemoryManager::layout() {
  Lock lock(impl_->mutex_);
  return impl_->maps_.layout;
}

void MemoryManager::set_layout(Layout layout) {
  if (layout.brk == 0) layout.brk = layout.start_brk;
  Lock lock(impl_->mutex_);
  impl_->maps_.layout = std::move(layout);
}

// mm/mincore.c. Memory that was promised counts as resident, touched or not: whether it was
// touched only the host knows.
Result<void> MemoryManager::resident(uint64_t addr, uint64_t length, std::vector<uint8_t>& out) {
  if (!page_aligned(addr)) return Errno::kInval;
  const auto size = page_up(length);
  if (!size || !impl_->is_user_range(addr, *size)) return Errno::kNoMem;
  out.assign(*size / kPageSize, 0);
  Lock lock(impl_->mutex_);
  const Range range{addr, addr + *size};
  if (!impl_->maps_.vmas.covers(range)) return Errno::kNoMem;
  impl_->maps_.pages.for_each(range, [&](Range piece, const Pages&) {
    std::fill(out.begin() + static_cast<ptrdiff_t>((piece.start - addr) / kPageSize),
              out.begin() + static_cast<ptrdiff_t>((piece.end - addr) / kPageSize), 1);
  });
  return {};
}

}  // namespace boxrun::mm
