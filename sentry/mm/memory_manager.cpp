#include "sentry/mm/memory_manager.h"

#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "sentry/mm/memory_manager_impl.h"

namespace boxrun::mm {

namespace {

// arch/x86/mm/mmap.c: mmap_base. Below the stack's largest size in the default case, its random
// offset (16 GiB) and the guard gap, lowered by up to 28 random bits of pages, or by what a
// smaller range of user addresses affords.
uint64_t choose_mmap_base(Range user, MemoryManager::Aslr aslr) {
  const uint64_t gap =
      std::min<uint64_t>((16ULL << 30) + (8 << 20) + kStackGuardGap, page_down(user.size() / 6));
  uint64_t random = 0;
  if (aslr == MemoryManager::Aslr::kOn &&
      getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random) {
    random = 0;
  }
  const uint64_t span = std::min<uint64_t>(1ULL << 40, user.size() / 8);
  return user.end - gap - page_down(random % span);
}

}  // namespace

MemoryManager::Impl::Impl(platform::Platform& platform, MemoryFile& file,
                          std::unique_ptr<platform::AddressSpace> address_space, Maps maps,
                          uint64_t mmap_base, std::vector<Range> quarantine)
    : platform_(platform),
      file_(file),
      address_space_(std::move(address_space)),
      user_(platform.user_addresses()),
      mmap_base_(mmap_base),
      maps_(std::move(maps)),
      quarantine_(std::move(quarantine)) {}

// The pages go when nothing can reach them any more: with the address space, its process has ended.
MemoryManager::Impl::~Impl() {
  address_space_.reset();
  for (const auto& [range, pages] : maps_.pages) {
    if (pages.in_memory_file()) file_.unref(pages.extent(range.size()));
  }
  for (const Range& extent : quarantine_) file_.unref(extent);
}

Result<Ref<MemoryManager>> MemoryManager::create(platform::Platform& platform,
                                                 MemoryFile& memory_file, Aslr aslr) {
  auto space = TRY(platform.new_address_space(nullptr));
  const uint64_t base = choose_mmap_base(platform.user_addresses(), aslr);
  return adopt_ref(new MemoryManager(
      std::make_unique<Impl>(platform, memory_file, std::move(space), Maps{}, base)));
}

MemoryManager::MemoryManager(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->owner_ = this;
}

MemoryManager::~MemoryManager() {
  Farewell farewell(*this);
  Lock lock(impl_->mutex_);
  impl_->maps_.remove(impl_->user_, impl_->windows_, farewell);
}

platform::AddressSpace& MemoryManager::address_space() { return *impl_->address_space_; }

Range MemoryManager::user_addresses() const { return impl_->user_; }

void MemoryManager::invalidate(PageSource& source, Range file_range, Gone gone) {
  Lock lock(impl_->mutex_);
  impl_->invalidate_locked(source, file_range, gone);
}

// Fails only with the address space itself (then no guest can touch anything): the source frees
// its pages in any case.
void MemoryManager::Impl::invalidate_locked(const PageSource& source, Range file_range, Gone gone) {
  invalidations_++;
  Batch batch(file_);
  for (const auto& [range, vma] : maps_.vmas) {
    if (vma.source.get() != &source) continue;
    const Range here = file_range.intersect({vma.offset, vma.offset + range.size()});
    if (here.empty()) continue;
    const Range guest{range.start + (here.start - vma.offset),
                      range.start + (here.end - vma.offset)};
    for (const auto& [piece, pages] : maps_.pages.slices(guest)) {
      // The host itself withdraws the pages of its files.
      const bool goes = pages.kind == Pages::Kind::kSource ||
                        (pages.kind == Pages::Kind::kPrivate && gone == Gone::kTruncated);
      if (goes) batch.unmap(piece);
    }
  }
  (void)run(batch);
}

void MemoryManager::Impl::drop_source_pages() {
  invalidations_++;
  Batch batch(file_);
  for (const auto& [range, pages] : maps_.pages) {
    if (pages.kind == Pages::Kind::kSource) batch.unmap(range);
  }
  (void)run(batch);
}

}  // namespace boxrun::mm
