// What /proc, prctl(PR_SET_MM) and mincore(2) want to know.
#include <algorithm>
#include <utility>

#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

namespace {

// fs/proc/task_mmu.c: get_vma_name, vma_is_initial_heap.
VmaInfo describe(Range range, const Vma& vma, Range heap) {
  VmaInfo info{range, vma.prot, vma.shared, vma.offset, {}, vma.opened, vma.name};
  if (info.name.empty() && vma.anonymous() && range.overlaps(heap)) info.name = "[heap]";
  return info;
}

}  // namespace

std::vector<VmaInfo> MemoryManager::vmas() {
  std::vector<std::pair<Range, Vma>> vmas;
  Range heap;
  {
    Lock lock(impl_->mutex_);
    vmas = impl_->maps_.vmas.slices(impl_->user_);
    heap = {impl_->maps_.layout.start_brk, impl_->maps_.layout.brk};
  }
  std::vector<VmaInfo> list;
  list.reserve(vmas.size());
  for (const auto& [range, vma] : vmas) {
    list.push_back(describe(range, vma, heap));
    if (vma.source) list.back().file = vma.source->identity();
  }
  return list;
}

Usage Maps::usage() const {
  Usage usage;
  usage.virtual_bytes = total_bytes;
  usage.peak_virtual_bytes = peak_bytes;
  usage.data_bytes = data_bytes;
  usage.locked_bytes = locked_bytes;
  for (const auto& [range, vma] : vmas) {
    if (vma.grows_down) usage.stack_bytes += range.size();
    if (has(vma.prot, Prot::kExec) && !vma.writable() && !vma.grows_down) {
      usage.exec_bytes += range.size();
    }
  }
  for (const auto& [range, run] : pages) {
    if (run.in_memory_file()) usage.resident_bytes += range.size();
  }
  return usage;
}

Usage MemoryManager::usage() {
  Lock lock(impl_->mutex_);
  return impl_->maps_.usage();
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
