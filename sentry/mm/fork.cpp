// fork(2): both sides share the pages of private memory, copy-on-write, until one of them writes.
//
// The parent is downgraded first, in one batch, and only then is the platform's address space
// copied, so the child inherits the downgraded translations and no page has to be touched there.
// The parent's lock is held throughout: no fault can make a page writable again in between.
#include <utility>

#include "sentry/mm/memory_manager_impl.h"
#include "src/base/bytes.h"

namespace boxrun::mm {

namespace {

bool stays_behind(const Vma& vma) { return vma.dont_fork || (vma.wipe_on_fork && !vma.shared); }

}  // namespace

// Calls to(piece, pages, pinned) for each run of private pages that parent and child will share,
// cut where a system call that writes into them begins or ends (MemoryFile::pin).
template <class F>
void MemoryManager::Impl::each_private_run(F&& to) {
  for (const auto& [range, vma] : maps_.vmas) {
    if (vma.shared || stays_behind(vma)) continue;
    for (const auto& [piece, pages] : maps_.pages.slices(range)) {
      if (pages.kind != Pages::Kind::kPrivate) continue;
      uint64_t done = 0;
      while (done < piece.size()) {
        Pages run = pages;
        run.advance(done);
        const auto pinning = file_.pinning(run.extent(piece.size() - done));
        const Range guest{piece.start + done, piece.start + done + pinning.size};
        to(guest, run, pinning.pinned && !pages.cow);
        done += pinning.size;
      }
    }
  }
}

Result<void> MemoryManager::Impl::downgrade_for_fork() {
  Batch batch(file_);
  each_private_run([&](Range guest, const Pages& pages, bool pinned) {
    if (pinned || pages.cow) return;
    batch.protect(guest, pages.prot & (Prot::kRead | Prot::kExec), true);
  });
  return run(batch);
}

// What must be different in the child: ranges that stay behind, and pages that system calls of the
// parent are about to fill, which the child gets copies of.
Result<void> MemoryManager::Impl::changes_for_child(Batch& changes) {
  for (const auto& [range, vma] : maps_.vmas) {
    if (stays_behind(vma)) changes.unmap(range);
  }
  Result<void> copied;
  each_private_run([&](Range guest, const Pages& pages, bool pinned) {
    if (!pinned || !copied) return;
    auto extent = file_.allocate(guest.size());
    if (!extent) {
      copied = file_.refuse();
      return;
    }
    safe_copy(file_.data(extent->start), file_.data(pages.offset), guest.size());
    Pages own = pages;
    own.offset = extent->start;
    changes.map(guest, std::move(own));
  });
  return copied;
}

Result<std::unique_ptr<MemoryManager::Impl>> MemoryManager::Impl::fork_locked(
    uint64_t& invalidations) {
  invalidations = invalidations_;
  TRY(downgrade_for_fork());
  auto space = TRY(platform_.new_address_space(address_space_.get()));
  Maps maps;
  maps.layout = maps_.layout;
  maps.last_limits = maps_.last_limits;
  for (const auto& [range, vma] : maps_.vmas) {
    if (vma.dont_fork) continue;
    Vma copy = vma;
    copy.locked = false;  // locks are not inherited (mlock(2))
    maps.add(range, std::move(copy));
  }
  maps.peak_bytes = maps.total_bytes;
  // All of the parent's pages, as they are in the copied address space.
  maps.pages = maps_.pages;
  for (const auto& [range, pages] : maps.pages) {
    if (pages.in_memory_file()) file_.ref(pages.extent(range.size()));
  }
  Batch changes(file_);
  std::vector<Range> quarantine;
  Result<void> done = changes_for_child(changes);
  if (done) done = changes.run(*space, user_, maps.pages, quarantine);
  auto child = std::make_unique<Impl>(platform_, file_, std::move(space), std::move(maps),
                                      mmap_base_, std::move(quarantine));
  if (!done) return done.error();
  return child;
}

Result<Ref<MemoryManager>> MemoryManager::fork() {
  uint64_t invalidations = 0;
  auto impl = [&] {
    Lock lock(impl_->mutex_);
    return impl_->fork_locked(invalidations);
  }();
  if (!impl) return impl.error();
  auto child = adopt_ref(new MemoryManager(std::move(impl).take()));
  child->huge_pages_disabled = huge_pages_disabled.load();
  TRY(child->register_all());
  // What a source withdrew between the copy and the registration, it withdrew only from us.
  const bool missed = [&] {
    Lock lock(impl_->mutex_);
    return impl_->invalidations_ != invalidations;
  }();
  if (missed) {
    Lock lock(child->impl_->mutex_);
    child->impl_->drop_source_pages();
  }
  return child;
}

// Makes the mappings of a forked child known to their sources.
Result<void> MemoryManager::register_all() {
  std::vector<std::pair<Range, Vma>> list;
  {
    Lock lock(impl_->mutex_);
    list = impl_->maps_.vmas.slices(impl_->user_);
  }
  for (const auto& [range, vma] : list) {
    if (!vma.source) continue;
    const auto added =
        vma.source->add_mapping(*this, vma.file_range(range, range), vma.shared_writable());
    if (added) continue;
    // Sources must not hear of the end of mappings that they never knew.
    Lock lock(impl_->mutex_);
    impl_->maps_.forget({range.start, impl_->user_.end});
    return added.error();
  }
  return {};
}

}  // namespace boxrun::mm
