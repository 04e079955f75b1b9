#include <algorithm>
#include <random>
#include <vector>

#include "sentry/mm/memory_manager.h"

#include "tests/unit/mm_world.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::mm;
using namespace boxrun::mm::test;

TEST_CASE("terabyte reservations cost nothing") {
  World world;
  auto mm = world.mm();
  MapRequest request;
  request.length = 14ULL << 40;
  request.noreserve = true;
  const auto reserved = mm->map(request, {});
  REQUIRE(reserved.ok());
  request.prot = kRw;
  const auto writable = mm->map(request, {});
  REQUIRE(writable.ok());
  CHECK(space_of(*mm).applies == 0);
  CHECK(world.file->used() == 0);
  CHECK(load(*mm, *reserved + (7ULL << 40)) == -1);
  CHECK(store(*mm, *writable + (7ULL << 40), 3) == Touch::kDone);
  CHECK(load(*mm, *writable + (7ULL << 40)) == 3);
  CHECK(world.file->used() <= 2 * kMiB);
  // Without MAP_NORESERVE, more than all memory is refused at once.
  request.noreserve = false;
  CHECK(mm->map(request, {}).error() == Errno::kNoMem);
}

TEST_CASE("the memory limit is ENOMEM at mmap and an out-of-memory fault later") {
  World world(4 * kMiB);
  auto mm = world.mm();
  const uint64_t large = map(*mm, 3 * kMiB);
  for (uint64_t at = large; at < large + 3 * kMiB; at += kPage) {
    REQUIRE(store(*mm, at, 1) == Touch::kDone);
  }
  map(*mm, 768 << 10);
  MapRequest request;
  request.length = 512 << 10;
  request.prot = kRw;
  CHECK(mm->map(request, {}).error() == Errno::kNoMem);
  const uint64_t lazy = map(*mm, 2 * kMiB);
  uint64_t got = 0;
  while (store(*mm, lazy + got, 1) == Touch::kDone) got += kPage;
  CHECK(got == 256 << 10);
  CHECK(store(*mm, lazy + got, 1) == Touch::kOom);
  CHECK(world.file->used() == 4 * kMiB);
}

TEST_CASE("mmap checks its arguments like Linux") {
  World world;
  auto mm = world.mm();
  const auto error = [&](MapRequest request) { return mm->map(request, {}).error(); };
  using Placement = MapRequest::Placement;
  CHECK(error({.length = 0}) == Errno::kInval);
  CHECK(error({.length = UINT64_MAX}) == Errno::kNoMem);
  CHECK(error({.length = 1ULL << 47}) == Errno::kNoMem);
  CHECK(error({.addr = 0x1001, .length = kPage, .placement = Placement::kFixed}) == Errno::kInval);
  CHECK(error({.addr = 0x1000, .length = kPage, .placement = Placement::kFixed}) == Errno::kPerm);
  CHECK(error({.addr = 0x7ffffffff000, .length = kPage, .placement = Placement::kFixed}) ==
        Errno::kNoMem);
  CHECK(error({.addr = UINT64_MAX - kPage + 1, .length = kPage, .placement = Placement::kFixed}) ==
        Errno::kNoMem);
  const uint64_t addr = map(*mm, 4 * kPage);
  CHECK(error({.addr = addr + kPage, .length = kPage, .placement = Placement::kFixedNoReplace}) ==
        Errno::kExist);
  auto file = make_ref<TestFile>("x");
  CHECK(error({.length = kPage, .source = file, .offset = 17}) == Errno::kInval);
  CHECK(error({.length = 2 * kPage, .source = file, .offset = page_down(UINT64_MAX)}) ==
        Errno::kOverflow);
  file->refuse = true;
  CHECK(error({.length = kPage, .source = file}) == Errno::kPerm);
  CHECK_FALSE(file->mappings.mapped());
}

TEST_CASE("placement: hints, top down, MAP_32BIT, stack guard gaps") {
  World world;
  auto mm = world.mm();
  MapRequest request;
  request.addr = 0x123456789000;
  request.length = kPage;
  CHECK(*mm->map(request, {}) == 0x123456789000);
  const uint64_t other = *mm->map(request, {});
  CHECK(other != 0x123456789000);
  const uint64_t next = *mm->map({.length = kPage}, {});
  CHECK(next == other - kPage);
  const uint64_t low =
      *mm->map({.length = kPage, .placement = MapRequest::Placement::kBelow2G}, {});
  CHECK(low == 0x40000000);
  request.addr = 0x200000000000;
  request.length = 4 * kPage;
  request.grows_down = true;
  request.prot = kRw;
  CHECK(*mm->map(request, {}) == 0x200000000000);
  // Too close below a stack: the hint is not taken.
  request.grows_down = false;
  request.addr = 0x200000000000 - 8 * kPage;
  CHECK(*mm->map(request, {}) != request.addr);
  request.addr = 0x200000000000 - 256 * kPage - 4 * kPage;
  CHECK(*mm->map(request, {}) == request.addr);
}

TEST_CASE("placement: always the highest gap that is large enough") {
  constexpr size_t kWindow = 400;  // pages, counted down from the highest
  World world;
  auto mm = world.mm();
  const uint64_t top = map(*mm, kPage) + kPage;
  std::vector<bool> taken(kWindow);
  taken[0] = true;
  std::mt19937 random(1);
  const auto pick = [&](size_t n) {
    return std::uniform_int_distribution<size_t>(0, n - 1)(random);
  };
  for (int i = 0; i < 4000; ++i) {
    const size_t pages = 1 + pick(6);
    if (pick(5) < 3) {
      const auto gap = std::search_n(taken.begin(), taken.end(), static_cast<int>(pages), false);
      if (gap == taken.end()) continue;
      const auto end = gap + static_cast<std::ptrdiff_t>(pages);
      const Prot prot = pick(2) == 0 ? kRw : Prot::kRead;  // or they would all be one
      const uint64_t expected = top - static_cast<uint64_t>(end - taken.begin()) * kPage;
      REQUIRE(map(*mm, pages * kPage, prot) == expected);
      std::fill(gap, end, true);
    } else {
      const size_t first = pick(kWindow - pages);
      REQUIRE(mm->unmap(top - (first + pages) * kPage, pages * kPage).ok());
      std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(first), pages, false);
    }
  }
}

TEST_CASE("munmap and mprotect split and join") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 8 * kPage);
  for (uint64_t i = 0; i < 8; i++)
    CHECK(store(*mm, addr + i * kPage, static_cast<uint8_t>(i + 1)) == Touch::kDone);
  CHECK(mm->protect(addr + 2 * kPage, 2 * kPage, Prot::kRead, false).ok());
  CHECK(mm->vmas().size() == 3);
  CHECK(store(*mm, addr + 2 * kPage, 9) == Touch::kSegv);
  CHECK(load(*mm, addr + 2 * kPage) == 3);
  CHECK(mm->protect(addr + 2 * kPage, 2 * kPage, Prot::kNone, false).ok());
  CHECK(load(*mm, addr + 2 * kPage) == -1);
  CHECK(mm->protect(addr + 2 * kPage, 2 * kPage, kRw, false).ok());
  CHECK(mm->vmas().size() == 1);
  CHECK(load(*mm, addr + 2 * kPage) == 3);
  CHECK(mm->unmap(addr + 4 * kPage, kPage).ok());
  CHECK(mm->vmas().size() == 2);
  CHECK(load(*mm, addr + 4 * kPage) == -1);
  CHECK(load(*mm, addr + 5 * kPage) == 6);
  // Changed up to the hole, then ENOMEM.
  CHECK(mm->protect(addr, 8 * kPage, Prot::kRead, false).error() == Errno::kNoMem);
  CHECK(store(*mm, addr, 1) == Touch::kSegv);
  CHECK(store(*mm, addr + 5 * kPage, 1) == Touch::kDone);
  CHECK(mm->protect(addr + 1, kPage, kRw, false).error() == Errno::kInval);
  CHECK(mm->protect(addr, UINT64_MAX - kPage, kRw, false).error() == Errno::kNoMem);
  CHECK(mm->unmap(addr + 1, kPage).error() == Errno::kInval);
  CHECK(mm->unmap(addr, 0).error() == Errno::kInval);
  CHECK(mm->unmap(addr, UINT64_MAX).error() == Errno::kInval);
  CHECK(mm->unmap(0x7ffffffff000, kPage).error() == Errno::kInval);
}

TEST_CASE("brk") {
  World world;
  auto mm = world.mm();
  Layout layout;
  layout.start_brk = 0x555555560123;
  mm->set_layout(layout);
  CHECK(mm->set_break(0, {}) == 0x555555560123);
  CHECK(mm->set_break(0x555555560123 + 135168, {}) == 0x555555560123 + 135168);
  CHECK(store(*mm, 0x555555561000, 5) == Touch::kDone);
  // The start of the first page belongs to what is below.
  CHECK(load(*mm, 0x555555560200) == -1);
  CHECK(mm->vmas()[0].name == "[heap]");
  const int applies = space_of(*mm).applies;
  CHECK(mm->set_break(0x555555560123 + 135169, {}) == 0x555555560123 + 135169);
  CHECK(space_of(*mm).applies == applies);
  CHECK(mm->set_break(0x555555570000, {}) == 0x555555570000);
  CHECK(load(*mm, 0x555555570000) == -1);
  CHECK(load(*mm, 0x555555561000) == 5);
  Limits limits;
  limits.data = kMiB;
  CHECK(mm->set_break(0x555555560123 + 2 * kMiB, limits) == 0x555555570000);
  map(*mm, kPage, kRw, 0x555555580000);
  CHECK(mm->set_break(0x555555580000, {}) == 0x555555570000);
  CHECK(mm->set_break(0x55555557f000, {}) == 0x55555557f000);
  CHECK(mm->set_break(UINT64_MAX, {}) == 0x55555557f000);
  CHECK(mm->set_break(layout.start_brk, {}) == layout.start_brk);
  CHECK(mm->vmas().size() == 1);
}

TEST_CASE("stacks grow to their limit and keep away from what is below") {
  World world;
  auto mm = world.mm();
  MapRequest request;
  request.addr = 0x7ffff0000000;
  request.length = 32 * kPage;
  request.prot = kRw;
  request.grows_down = true;
  request.stack = true;
  request.placement = MapRequest::Placement::kFixed;
  const uint64_t bottom = *mm->map(request, {});
  const uint64_t top = bottom + request.length;
  Limits limits;
  limits.stack = 8 * kMiB;
  CHECK(mm->fault(bottom - 8, Access::kWrite, limits) == FaultResult::kResolved);
  CHECK(mm->vmas()[0].name == "[stack]");
  CHECK(mm->vmas().size() == 1);
  CHECK(mm->fault(top - 8 * kMiB, Access::kWrite, limits) == FaultResult::kResolved);
  CHECK(mm->fault(top - 8 * kMiB - 1, Access::kWrite, limits) == FaultResult::kMapError);
  CHECK(mm->vmas()[0].range.start == top - 8 * kMiB);

  request.addr = 0x7fff00000000;
  const uint64_t second = *mm->map(request, {});
  map(*mm, kPage, kRw, second - 300 * kPage);
  CHECK(mm->fault(second - 43 * kPage, Access::kWrite, limits) == FaultResult::kResolved);
  CHECK(mm->fault(second - 44 * kPage, Access::kWrite, limits) == FaultResult::kMapError);
}

TEST_CASE("first touches of a mapping of moderate size never come to the Sentry") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, kMiB);
  CHECK(space_of(*mm).applies == 1);
  CHECK(space_of(*mm).operations == 1);
  int faults = 0;
  for (uint64_t at = addr; at < addr + kMiB; at += kPage) {
    std::byte b{7};
    CHECK(touch(*mm, at, {&b, 1}, Access::kWrite, true, &faults) == Touch::kDone);
  }
  CHECK(faults == 0);
  CHECK(mm->unmap(addr, kMiB).ok());
  CHECK(space_of(*mm).applies == 2);
  CHECK(load(*mm, addr) == -1);
  CHECK(world.file->used() == 0);
}

TEST_CASE("large mappings come in growing steps") {
  World world(256 * kMiB);
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 128 * kMiB);
  int faults = 0;
  for (uint64_t at = addr; at < addr + 128 * kMiB; at += kPage) {
    std::byte b{1};
    REQUIRE(touch(*mm, at, {&b, 1}, Access::kWrite, true, &faults) == Touch::kDone);
  }
  CHECK(faults <= 16);
}

TEST_CASE("RLIMIT_AS, RLIMIT_DATA and the number of mappings") {
  World world;
  auto mm = world.mm();
  Limits limits;
  limits.address_space = 8 * kPage;
  map(*mm, 4 * kPage, kRw, 0, limits);
  CHECK(mm->map({.length = 5 * kPage, .prot = kRw}, limits).error() == Errno::kNoMem);
  const uint64_t second = map(*mm, 4 * kPage, Prot::kRead, 0, limits);
  // Replacing costs no address space.
  map(*mm, 4 * kPage, Prot::kRead, second, limits);
  limits = {};
  limits.data = 4 * kPage;
  CHECK(mm->map({.length = kPage, .prot = kRw}, limits).error() == Errno::kNoMem);
  CHECK(mm->map({.length = kPage, .prot = Prot::kRead}, limits).ok());
  CHECK(mm->protect(second, kPage, kRw, false, limits).error() == Errno::kNoMem);
  CHECK(mm->usage().virtual_bytes == 9 * kPage);
  CHECK(mm->usage().data_bytes == 4 * kPage);

  auto crowded = world.mm();
  Errno last = Errno::kOk;
  uint64_t addr = 0x10000000;
  int count = 0;
  for (; count < 70000; count++, addr += 2 * kPage) {
    const auto mapped = crowded->map(
        {.addr = addr, .length = kPage, .placement = MapRequest::Placement::kFixed}, {});
    if (!mapped) {
      last = mapped.error();
      break;
    }
  }
  CHECK(last == Errno::kNoMem);
  CHECK(count >= 65530);
  CHECK(count <= 65531);
}
