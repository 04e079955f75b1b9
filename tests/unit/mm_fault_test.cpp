#include "sentry/mm/memory_manager.h"

#include <array>
#include <thread>
#include <vector>

#include "tests/unit/mm_world.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::mm;
using namespace boxrun::mm::test;

TEST_CASE("fork shares until written, and takes back what is alone again") {
  World world;
  auto parent = world.mm();
  const uint64_t addr = map(*parent, kMiB);
  for (uint64_t at = 0; at < kMiB; at += kPage)
    REQUIRE(store(*parent, addr + at, 1) == Touch::kDone);
  const uint64_t before = world.file->used();
  const int applies = space_of(*parent).applies;
  auto forked = parent->fork();
  REQUIRE(forked.ok());
  auto child = std::move(forked).take();
  CHECK(space_of(*parent).applies == applies + 1);
  CHECK(world.file->used() == before);
  CHECK(store(*child, addr + 5 * kPage, 2) == Touch::kDone);
  CHECK(load(*parent, addr + 5 * kPage) == 1);
  CHECK(load(*child, addr + 6 * kPage) == 1);
  CHECK(world.file->used() > before + kPage);
  CHECK(world.file->used() <= before + (64 << 10));
  CHECK(store(*parent, addr + 40 * kPage, 3) == Touch::kDone);
  CHECK(load(*child, addr + 40 * kPage) == 1);
  child = nullptr;
  CHECK(world.file->used() == before);
  // One fault takes the rest back, without copies.
  CHECK(store(*parent, addr, 4) == Touch::kDone);
  int faults = 0;
  for (uint64_t at = 0; at < kMiB; at += kPage) {
    std::byte b{6};
    REQUIRE(touch(*parent, addr + at, {&b, 1}, Access::kWrite, true, &faults) == Touch::kDone);
  }
  CHECK(faults <= 3);
  CHECK(world.file->used() == before);
}

TEST_CASE("fork copies at once what a system call is about to fill") {
  World world;
  auto parent = world.mm();
  const uint64_t addr = map(*parent, 16 * kPage);
  CHECK(store(*parent, addr + 100, 1) == Touch::kDone);
  auto pinned = parent->pin(addr + 100, 50, Access::kWrite);
  REQUIRE(pinned.ok());
  auto forked = parent->fork();
  REQUIRE(forked.ok());
  // Another thread of the parent writes beside the buffer, and then the system call fills it.
  CHECK(store(*parent, addr, 7) == Touch::kDone);
  IoBuffers buffers = pinned->buffers();
  CHECK(buffers.put(as_bytes_of("hello", 5)).ok());
  CHECK(load(*parent, addr + 100) == 'h');
  CHECK(load(**forked, addr + 100) == 1);
}

TEST_CASE("a platform that cannot tell reads from writes") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 16 * kPage);
  CHECK(store(*mm, addr, 1, false) == Touch::kDone);
  auto child = std::move(*&*mm->fork());
  CHECK(store(*mm, addr, 2, false) == Touch::kDone);
  CHECK(load(*child, addr, false) == 1);
  CHECK(mm->protect(addr, kPage, Prot::kRead, false).ok());
  CHECK(load(*mm, addr, false) == 2);
  CHECK(store(*mm, addr, 3, false) == Touch::kSegv);
  CHECK(mm->protect(addr, kPage, Prot::kNone, false).ok());
  CHECK(load(*mm, addr, false) == -1);
  std::byte b{};
  CHECK(touch(*mm, addr + kPage, {&b, 1}, Access::kExecute, false) == Touch::kSegv);
  auto file = make_ref<TestFile>(text_of_pages(200));
  const uint64_t mapped = map_file(*mm, file, 200 * kPage, kRw, false);
  CHECK(load(*mm, mapped, false) == 'a');
  CHECK(store(*mm, mapped, 'z', false) == Touch::kDone);
  CHECK(load(*mm, mapped, false) == 'z');
}

TEST_CASE("what the platform lost comes back with the next fault") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 4 * kPage);
  CHECK(store(*mm, addr, 9) == Touch::kDone);
  const std::array ops{Op::unmap({addr, addr + 4 * kPage})};
  CHECK(space_of(*mm).apply(ops).ok());
  CHECK(load(*mm, addr) == 9);
  CHECK(store(*mm, addr, 8) == Touch::kDone);
}

TEST_CASE("a thread may lose any number of races for a page, and is refused what is not allowed") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, kPage);
  CHECK(store(*mm, addr, 1) == Touch::kDone);
  for (int race = 0; race < 100; race++) {
    REQUIRE(mm->fork().ok());
    // The second fault is that of a thread which touched the page before the first was resolved.
    REQUIRE(mm->fault(addr, Access::kUnknown, {}) == FaultResult::kResolved);
    REQUIRE(mm->fault(addr, Access::kUnknown, {}) == FaultResult::kResolved);
  }
  CHECK(mm->protect(addr, kPage, Prot::kRead, false).ok());
  CHECK(mm->fault(addr, Access::kUnknown, {}) == FaultResult::kResolved);
  // What happens elsewhere does not give it more tries.
  (void)map(*mm, kPage);
  CHECK(mm->fault(addr, Access::kUnknown, {}) == FaultResult::kAccessError);
}

TEST_CASE("a failed mmap leaves nothing behind") {
  World world;
  auto mm = world.mm();
  const uint64_t keep = map(*mm, 4 * kPage);
  CHECK(store(*mm, keep, 1) == Touch::kDone);
  const uint64_t used = world.file->used();
  space_of(*mm).fail_at = 0;
  CHECK(mm->map({.length = 4 * kPage, .prot = kRw}, {}).error() == Errno::kNoMem);
  CHECK(world.file->used() == used);
  CHECK(mm->vmas().size() == 1);
  space_of(*mm).fail_at = 1;
  CHECK(mm->map({.addr = keep,
                 .length = 4 * kPage,
                 .prot = kRw,
                 .placement = MapRequest::Placement::kFixed},
                {})
            .error() == Errno::kNoMem);
  CHECK(load(*mm, keep) == 1);
  space_of(*mm).fail_at = 0;
  CHECK_FALSE(mm->unmap(keep, 4 * kPage).ok());
  CHECK(load(*mm, keep) == 1);
}

TEST_CASE("threads that fault the same pages agree") {
  World world;
  auto mm = world.mm();
  for (int round = 0; round < 20; round++) {
    const uint64_t addr = map(*mm, 4 * kMiB);
    auto child = std::move(*&*mm->fork());
    std::vector<std::jthread> threads;
    for (uint64_t t = 0; t < 4; t++) {
      threads.emplace_back([&, t] {
        for (uint64_t i = 0; i < 64; i++) {
          const uint64_t at = addr + i * 16 * kPage + t;
          if (store(*mm, at, static_cast<uint8_t>(t + 1), t % 2 == 0) != Touch::kDone) abort();
          if (load(*mm, at, t % 2 == 0) != static_cast<int>(t + 1)) abort();
          uint8_t byte = 0;
          if (!mm->copy_in(at, writable_bytes_of(byte)) || byte != t + 1) abort();
        }
      });
    }
    threads.clear();
    CHECK(load(*mm, addr + 3) == 4);
    CHECK(load(*child, addr + 3) == 0);
    CHECK(mm->unmap(addr, 4 * kMiB).ok());
  }
}
