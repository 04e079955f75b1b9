// mmap(2): mm/mmap.c, do_mmap. Everything that asks a source happens before the lock is taken.
#include <algorithm>
#include <utility>
#include <vector>

#include "sentry/mm/memory_manager_impl.h"
#include "sentry/mm/shared_memory.h"

namespace boxrun::mm {

// A mapping that has been made known to its source, but is not among the vmas yet.
struct MemoryManager::Impl::Prepared {
  Vma vma;
  // What the source gave in advance, from the start on, one reference each; void if the source
  // withdrew anything since.
  std::vector<Range> pages;
  uint64_t invalidations = 0;
};

Result<MemoryManager::Impl::Prepared> MemoryManager::Impl::prepare(const MapRequest& request,
                                                                   uint64_t length) {
  Prepared prepared;
  Vma& vma = prepared.vma;
  vma.prot = request.prot;
  vma.max_prot = request.max_prot;
  vma.shared = request.shared;
  vma.grows_down = request.grows_down;
  vma.locked = request.locked;
  vma.noreserve = request.noreserve;
  vma.lazy = request.noreserve;
  vma.name = request.stack ? "[stack]" : request.name;
  if (request.source) {
    if (!page_aligned(request.offset)) return Errno::kInval;
    const auto file_range = Range::make(request.offset, length);
    if (!file_range || file_range->end > INT64_MAX) return Errno::kOverflow;
    vma.source = request.source;
    vma.opened = request.opened;
    vma.offset = request.offset;
  } else if (request.shared) {
    if (vma.writable() && !vma.noreserve && length > file_.limit()) return file_.refuse();
    vma.source = make_ref<SharedMemory>(file_, length);
  }
  if (!vma.source) return prepared;
  TRY(vma.source->add_mapping(*owner_, {vma.offset, vma.offset + length}, vma.shared_writable()));
  vma.host_fd = vma.source->host_fd(vma.shared_writable());
  const uint64_t worth = request.source ? kSourceStep : kPromise;
  if (vma.host_fd < 0 && vma.prot != Prot::kNone && length <= worth) ask_source(prepared, length);
  return prepared;
}

// A source that fails here is asked again by the first touch, which can say what is wrong.
void MemoryManager::Impl::ask_source(Prepared& prepared, uint64_t length) {
  const Vma& vma = prepared.vma;
  {
    Lock lock(mutex_);
    prepared.invalidations = invalidations_;
  }
  const Range wanted{vma.offset, vma.offset + length};
  uint64_t at = wanted.start;
  while (at < wanted.end) {
    const auto given = vma.source->page_in({at, wanted.end}, vma.shared && vma.writable());
    if (!given) return;
    prepared.pages.push_back(*given);
    at += given->size();
  }
}

// Whole mappings are promised to the platform now, so that first touches never come to us.
Result<void> MemoryManager::Impl::promise_new(Batch& batch, Range range, Prepared& prepared) {
  const Vma& vma = prepared.vma;
  if (!prepared.pages.empty() && prepared.invalidations == invalidations_) {
    const bool cow = !(vma.shared && vma.writable());
    uint64_t at = range.start;
    for (const Range& extent : std::exchange(prepared.pages, {})) {
      batch.map({at, at + extent.size()}, Pages{Pages::Kind::kSource, installed_prot(vma.prot, cow),
                                                cow, extent.start, -1, vma.source});
      at += extent.size();
    }
    return {};
  }
  if (vma.prot == Prot::kNone) return {};
  if (vma.anonymous()) {
    return vma.writable() && range.size() <= kPromise ? promise(batch, range, vma) : Result<void>();
  }
  if (vma.host_fd < 0) return {};
  uint64_t copied = 0;
  if (!vma.shared && vma.writable() && range.size() <= kCopyAtMap) {
    // Without memory for it, or beyond the end of the file, the file itself is mapped.
    copied = copy_host(batch, range, vma.offset, vma).value_or(0);
  }
  const Range rest{range.start + copied, range.end};
  if (rest.empty()) return {};
  const bool cow = !vma.shared;
  batch.map(rest, Pages{Pages::Kind::kHost, installed_prot(vma.prot, cow), cow, vma.offset + copied,
                        vma.host_fd, vma.source});
  return {};
}

Result<uint64_t> MemoryManager::Impl::map_locked(const MapRequest& request, uint64_t length,
                                                 Prepared& prepared, const Limits& limits,
                                                 Farewell& farewell) {
  const uint64_t addr = TRY(place(request, length));
  const Range range{addr, addr + length};
  Vma& vma = prepared.vma;
  maps_.last_limits = limits;
  vma.locked = vma.locked || maps_.lock_future;
  TRY(maps_.may_expand(length - maps_.bytes_in(range), vma, limits, file_));
  if (!maps_.may_split(range)) return Errno::kNoMem;
  if (vma.locked && (length > limits.memlock || maps_.locked_bytes > limits.memlock - length)) {
    return Errno::kAgain;
  }
  TRY(leave_spare(range));
  {
    Batch batch(file_);
    batch.unmap(range);
    TRY(promise_new(batch, range, prepared));
    const auto done = run(batch);
    if (!done && (vma.host_fd < 0 || !host_refuses_mapping(done.error()))) return done.error();
    if (!done) {
      if (vma.shared_writable()) return done.error();
      // The first touches find out, and get copies.
      Batch only_old(file_);
      only_old.unmap(range);
      TRY(run(only_old));
    }
  }
  maps_.remove(range, windows_, farewell);
  maps_.add(range, std::move(vma));
  return addr;
}

Result<uint64_t> MemoryManager::map(const MapRequest& request, const Limits& limits) {
  if (request.length == 0) return Errno::kInval;
  const auto length = page_up(request.length);
  if (!length) return Errno::kNoMem;
  Farewell farewell(*this);
  Impl::Prepared prepared = TRY(impl_->prepare(request, *length));
  const Ref<PageSource> source = prepared.vma.source;
  const Range file_range{prepared.vma.offset, prepared.vma.offset + *length};
  const bool shared_writable = prepared.vma.shared_writable();
  Result<uint64_t> mapped = [&] {
    Lock lock(impl_->mutex_);
    return impl_->map_locked(request, *length, prepared, limits, farewell);
  }();
  for (const Range& unused : prepared.pages) impl_->file_.unref(unused);
  if (!mapped) {
    if (source) farewell.add(source, file_range, shared_writable);
    return mapped;
  }
  if (request.populate || request.locked) {
    const Access access =
        has(request.prot, Prot::kWrite) && !request.shared ? Access::kWrite : Access::kRead;
    // mmap(2): "the mmap() call doesn't fail if the mapping cannot be populated".
    (void)impl_->populate_range({*mapped, *mapped + *length}, access);
  }
  return mapped;
}

}  // namespace boxrun::mm
