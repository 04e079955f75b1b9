#include "sentry/mm/memory_manager.h"

#include <sys/mman.h>

#include <array>
#include <vector>

#include "tests/unit/mm_world.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::mm;
using namespace boxrun::mm::test;

namespace {

void fill(MemoryManager& mm, uint64_t addr, uint64_t pages) {
  for (uint64_t i = 0; i < pages; i++) {
    REQUIRE(store(mm, addr + i * kPage, static_cast<uint8_t>(i + 1)) == Touch::kDone);
  }
}

}  // namespace

TEST_CASE("mremap grows in place, moves, shrinks") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 4 * kPage, kRw, 0x200000000000);
  fill(*mm, addr, 4);
  CHECK(*mm->remap(addr, 4 * kPage, 8 * kPage, 0, 0, {}) == addr);
  CHECK(load(*mm, addr + 7 * kPage) == 0);
  CHECK(mm->vmas().size() == 1);
  map(*mm, kPage, kRw, addr + 8 * kPage);
  CHECK(mm->remap(addr, 8 * kPage, 16 * kPage, 0, 0, {}).error() == Errno::kNoMem);
  const uint64_t used = world.file->used();
  const uint64_t moved = *mm->remap(addr, 8 * kPage, 16 * kPage, MREMAP_MAYMOVE, 0, {});
  CHECK(moved != addr);
  CHECK(world.file->used() == used);
  CHECK(load(*mm, addr) == -1);
  CHECK(load(*mm, moved + 3 * kPage) == 4);
  CHECK(load(*mm, moved + 15 * kPage) == 0);
  CHECK(*mm->remap(moved, 16 * kPage, 2 * kPage, 0, 0, {}) == moved);
  CHECK(load(*mm, moved + kPage) == 2);
  CHECK(load(*mm, moved + 2 * kPage) == -1);
  const uint64_t fixed = 0x300000000000;
  map(*mm, 4 * kPage, kRw, fixed);
  CHECK(*mm->remap(moved, 2 * kPage, 3 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, fixed, {}) == fixed);
  CHECK(load(*mm, fixed + kPage) == 2);
  CHECK(load(*mm, fixed + 2 * kPage) == 0);
  CHECK(load(*mm, moved) == -1);
}

TEST_CASE("mremap of copy-on-write pages stays copy-on-write") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 4 * kPage);
  fill(*mm, addr, 4);
  auto child = std::move(*&*mm->fork());
  const uint64_t moved =
      *mm->remap(addr, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, 0x300000000000, {});
  CHECK(store(*mm, moved, 99) == Touch::kDone);
  CHECK(load(*child, addr) == 1);
  CHECK(load(*mm, moved + kPage) == 2);
}

TEST_CASE("mremap duplicates shared memory, and leaves empty mappings behind") {
  World world;
  auto mm = world.mm();
  MapRequest request;
  request.length = 4 * kPage;
  request.prot = kRw;
  request.shared = true;
  const uint64_t shared = *mm->map(request, {});
  fill(*mm, shared, 4);
  const uint64_t twin = *mm->remap(shared, 0, 4 * kPage, MREMAP_MAYMOVE, 0, {});
  CHECK(load(*mm, twin + 2 * kPage) == 3);
  CHECK(store(*mm, twin, 77) == Touch::kDone);
  CHECK(load(*mm, shared) == 77);
  CHECK(mm->unmap(shared, 4 * kPage).ok());
  CHECK(load(*mm, twin) == 77);

  const uint64_t addr = map(*mm, 4 * kPage);
  fill(*mm, addr, 4);
  CHECK(mm->remap(addr, 0, 4 * kPage, MREMAP_MAYMOVE, 0, {}).error() == Errno::kInval);
  const uint64_t away =
      *mm->remap(addr, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0, {});
  CHECK(load(*mm, away + 3 * kPage) == 4);
  CHECK(load(*mm, addr + 3 * kPage) == 0);
}

TEST_CASE("mremap keeps sources informed") {
  World world;
  auto mm = world.mm();
  auto file = make_ref<TestFile>(text_of_pages(8), world.file.get());
  const uint64_t addr = map_file(*mm, file, 2 * kPage, kRw, true);
  const uint64_t moved =
      *mm->remap(addr, 2 * kPage, 8 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, 0x300000000000, {});
  CHECK(load(*mm, moved + 7 * kPage) == 'h');
  file->truncate(4 * kPage);
  CHECK(load(*mm, moved + 7 * kPage) == -2);
  file->refuse = true;
  CHECK(mm->remap(moved, 8 * kPage, 16 * kPage, MREMAP_MAYMOVE, 0, {}).error() == Errno::kPerm);
  CHECK(mm->remap(moved, 8 * kPage, kPage, 0, 0, {}).ok());
  CHECK(mm->unmap(moved, kPage).ok());
  CHECK_FALSE(file->mappings.mapped());
}

TEST_CASE("mremap checks its arguments like Linux") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 4 * kPage, kRw, 0x200000000000);
  const auto error = [&](uint64_t at, uint64_t old_size, uint64_t new_size, int flags,
                         uint64_t to = 0) {
    return mm->remap(at, old_size, new_size, flags, to, {}).error();
  };
  CHECK(error(addr + 1, kPage, kPage, 0) == Errno::kInval);
  CHECK(error(addr, kPage, 0, 0) == Errno::kInval);
  CHECK(error(addr, kPage, kPage, 64) == Errno::kInval);
  CHECK(error(addr, kPage, kPage, MREMAP_FIXED, 0x300000000000) == Errno::kInval);
  CHECK(error(addr, 2 * kPage, 2 * kPage, MREMAP_FIXED | MREMAP_MAYMOVE, addr + kPage) ==
        Errno::kInval);
  CHECK(error(addr, kPage, 2 * kPage, MREMAP_DONTUNMAP | MREMAP_MAYMOVE) == Errno::kInval);
  CHECK(error(addr, 8 * kPage, 16 * kPage, MREMAP_MAYMOVE) == Errno::kFault);
  CHECK(error(0x400000000000, kPage, 2 * kPage, MREMAP_MAYMOVE) == Errno::kFault);
  CHECK(error(addr, kPage, 1ULL << 60, MREMAP_MAYMOVE) == Errno::kInval);
  Limits limits;
  limits.address_space = 5 * kPage;
  CHECK(mm->remap(addr, 4 * kPage, 6 * kPage, 0, 0, limits).error() == Errno::kNoMem);
  CHECK(mm->remap(addr, 4 * kPage, 5 * kPage, 0, 0, limits).ok());
}

TEST_CASE("MADV_DONTNEED brings zeros, or the file, back") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 16 * kPage);
  fill(*mm, addr, 16);
  const int applies = space_of(*mm).applies;
  CHECK(mm->advise(addr + kPage, 2 * kPage, MADV_DONTNEED).ok());
  CHECK(space_of(*mm).applies == applies);
  CHECK(load(*mm, addr) == 1);
  CHECK(load(*mm, addr + kPage) == 0);
  CHECK(load(*mm, addr + 3 * kPage) == 4);
  auto child = std::move(*&*mm->fork());
  CHECK(mm->advise(addr, 16 * kPage, MADV_DONTNEED).ok());
  CHECK(load(*mm, addr) == 0);
  CHECK(load(*child, addr) == 1);
  const uint64_t large = map(*mm, 4 * kMiB);
  for (uint64_t at = 0; at < 4 * kMiB; at += kPage)
    CHECK(store(*mm, large + at, 1) == Touch::kDone);
  const uint64_t used = world.file->used();
  CHECK(mm->advise(large, 4 * kMiB, MADV_DONTNEED).ok());
  CHECK(world.file->used() == used - 4 * kMiB);
  CHECK(load(*mm, large + kMiB) == 0);
  auto file = make_ref<TestFile>(text_of_pages(4));
  const uint64_t mapped = map_file(*mm, file, 4 * kPage, kRw, false);
  CHECK(store(*mm, mapped, 'Z') == Touch::kDone);
  CHECK(mm->advise(mapped, 4 * kPage, MADV_DONTNEED).ok());
  CHECK(load(*mm, mapped) == 'a');
  CHECK(mm->advise(addr, 16 * kPage, MADV_FREE).ok());
  CHECK(mm->advise(mapped, 4 * kPage, MADV_FREE).error() == Errno::kInval);
  CHECK(mm->advise(addr, kPage, 77).error() == Errno::kInval);
  CHECK(mm->advise(addr + 1, kPage, MADV_DONTNEED).error() == Errno::kInval);
  CHECK(mm->advise(addr, UINT64_MAX, MADV_DONTNEED).error() == Errno::kInval);
  CHECK(mm->advise(0x400000000000, kPage, MADV_DONTNEED).error() == Errno::kNoMem);
}

TEST_CASE("what fork is told to leave or to wipe") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 3 * kPage);
  fill(*mm, addr, 3);
  CHECK(mm->advise(addr, kPage, MADV_DONTFORK).ok());
  CHECK(mm->advise(addr + kPage, kPage, MADV_WIPEONFORK).ok());
  auto child = std::move(*&*mm->fork());
  CHECK(load(*child, addr) == -1);
  CHECK(load(*child, addr + kPage) == 0);
  CHECK(load(*child, addr + 2 * kPage) == 3);
  CHECK(store(*mm, addr, 9) == Touch::kDone);
  CHECK(mm->advise(addr, kPage, MADV_DOFORK).ok());
  CHECK(mm->advise(addr + kPage, kPage, MADV_KEEPONFORK).ok());
  auto second = std::move(*&*mm->fork());
  CHECK(load(*second, addr) == 9);
  CHECK(load(*second, addr + kPage) == 2);
  auto file = make_ref<TestFile>("x");
  const uint64_t mapped = map_file(*mm, file, kPage, Prot::kRead, false);
  CHECK(mm->advise(mapped, kPage, MADV_WIPEONFORK).error() == Errno::kInval);
}

TEST_CASE("MADV_REMOVE and MADV_POPULATE") {
  World world;
  auto mm = world.mm();
  MapRequest request;
  request.length = 4 * kPage;
  request.prot = kRw;
  request.shared = true;
  const uint64_t shared = *mm->map(request, {});
  fill(*mm, shared, 4);
  auto child = std::move(*&*mm->fork());
  CHECK(mm->advise(shared + kPage, kPage, MADV_REMOVE).ok());
  CHECK(load(*mm, shared + kPage) == 0);
  CHECK(load(*child, shared + kPage) == 0);
  CHECK(load(*child, shared + 2 * kPage) == 3);
  const uint64_t own = map(*mm, 8 * kMiB);
  CHECK(mm->advise(own, kPage, MADV_REMOVE).error() == Errno::kInval);
  CHECK(mm->advise(own, 8 * kMiB, 23).ok());
  int faults = 0;
  for (uint64_t at = 0; at < 8 * kMiB; at += kPage) {
    std::byte b{1};
    CHECK(touch(*mm, own + at, {&b, 1}, Access::kWrite, true, &faults) == Touch::kDone);
  }
  CHECK(faults == 0);
  CHECK(mm->protect(own, kPage, Prot::kRead, false).ok());
  CHECK(mm->advise(own, 2 * kPage, 23).error() == Errno::kInval);
  CHECK(mm->advise(own, 2 * kPage, 22).ok());
}

TEST_CASE("memory locks are an account") {
  World world;
  auto mm = world.mm();
  Limits limits;
  limits.memlock = 4 * kPage;
  const uint64_t addr = map(*mm, 8 * kPage);
  CHECK(mm->lock(addr + 5, 2 * kPage, limits).ok());
  CHECK(mm->usage().locked_bytes == 3 * kPage);
  CHECK(mm->lock(addr, 3 * kPage, limits).ok());
  CHECK(mm->lock(addr, 8 * kPage, limits).error() == Errno::kNoMem);
  CHECK(mm->advise(addr, kPage, MADV_DONTNEED).error() == Errno::kInval);
  CHECK(mm->unlock(addr, kPage).ok());
  CHECK(mm->usage().locked_bytes == 2 * kPage);
  MapRequest request{.length = 3 * kPage, .prot = kRw, .locked = true};
  CHECK(mm->map(request, limits).error() == Errno::kAgain);
  limits.memlock = 0;
  CHECK(mm->lock(addr, kPage, limits).error() == Errno::kPerm);
  CHECK(mm->lock(0x400000000000, kPage, {}).error() == Errno::kNoMem);
  mm->unlock_all();
  CHECK(mm->usage().locked_bytes == 0);
  CHECK(mm->lock_all(MCL_CURRENT | MCL_FUTURE, {}).ok());
  CHECK(mm->usage().locked_bytes == 8 * kPage);
  map(*mm, 2 * kPage);
  CHECK(mm->usage().locked_bytes == 10 * kPage);
  CHECK((*mm->fork())->usage().locked_bytes == 0);
  CHECK(mm->lock_all(0, {}).error() == Errno::kInval);
}

TEST_CASE("msync and mincore") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 4 * kPage);
  CHECK(mm->sync(addr, 4 * kPage, MS_SYNC).ok());
  CHECK(mm->sync(addr, 4 * kPage, MS_SYNC | MS_ASYNC).error() == Errno::kInval);
  CHECK(mm->sync(addr - kPage, 5 * kPage, MS_ASYNC).error() == Errno::kNoMem);
  std::vector<uint8_t> pages;
  const uint64_t lazy = map(*mm, 4 * kMiB);
  CHECK(mm->resident(lazy, 8 * kPage, pages).ok());
  CHECK(pages == std::vector<uint8_t>(8, 0));
  CHECK(store(*mm, lazy, 1) == Touch::kDone);
  CHECK(mm->resident(lazy, 2 * kPage, pages).ok());
  CHECK(pages[0] == 1);
  CHECK(mm->resident(lazy - 1, kPage, pages).error() == Errno::kInval);
  CHECK(mm->resident(0x400000000000, kPage, pages).error() == Errno::kNoMem);
  CHECK(mm->resident(lazy, UINT64_MAX - kPage, pages).error() == Errno::kNoMem);
}
