#include "sentry/mm/memory_manager.h"

#include <unistd.h>

#include <array>
#include <string>

#include "tests/unit/mm_world.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::mm;
using namespace boxrun::mm::test;

TEST_CASE("neighbouring mappings become one in the host") {
  World world;
  auto mm = world.mm();
  uint64_t lowest = map(*mm, 4 * kPage);
  for (int i = 0; i < 50; i++) {
    const uint64_t next = map(*mm, (1 + static_cast<uint64_t>(i) % 3) * kPage);
    CHECK(next < lowest);
    lowest = next;
  }
  // One vma, and one run of the memory file behind it.
  CHECK(mm->vmas().size() == 1);
  const auto first = space_of(*mm).find(lowest);
  const auto last = space_of(*mm).find(lowest + 100 * kPage);
  REQUIRE(first);
  REQUIRE(last);
  CHECK(last->offset - first->offset == 100 * kPage);
}

TEST_CASE("private writable host file mappings: copied at once, or on write") {
  World world;
  auto mm = world.mm();
  auto file = make_ref<TestFile>(text_of_pages(3) + "tail");
  const uint64_t small = map_file(*mm, file, 6 * kPage, kRw, false);
  CHECK(world.file->used() == 4 * kPage);
  CHECK(store(*mm, small, 'X') == Touch::kDone);
  CHECK(load(*mm, small + 3 * kPage + 3) == 'l');
  CHECK(load(*mm, small + 3 * kPage + 4) == 0);
  CHECK(load(*mm, small + 4 * kPage) == -2);
  CHECK(store(*mm, small + 5 * kPage, 1) == Touch::kBus);
  char original = 0;
  CHECK(pread(file->fd(), &original, 1, 0) == 1);
  CHECK(original == 'a');

  auto large = make_ref<TestFile>(std::string(kMiB + 5, 'q'));
  const uint64_t addr = map_file(*mm, large, kMiB + 3 * kPage, kRw, false);
  CHECK(world.file->used() == 4 * kPage);
  CHECK(store(*mm, addr + 5 * kPage, 'Y') == Touch::kDone);
  CHECK(world.file->used() > 5 * kPage);
  CHECK(world.file->used() <= 4 * kPage + (64 << 10));
  CHECK(load(*mm, addr + 5 * kPage) == 'Y');
  CHECK(load(*mm, addr + 5 * kPage + 1) == 'q');
  CHECK(load(*mm, addr + 6 * kPage) == 'q');
  CHECK(store(*mm, addr + kMiB + 4, 'Z') == Touch::kDone);
  CHECK(store(*mm, addr + kMiB + kPage, 'Z') == Touch::kBus);
  CHECK(store(*mm, addr + kMiB + kPage, 'Z', false) == Touch::kBus);
  CHECK(mm->copy_out(addr + kMiB + kPage, as_bytes_of("z", 1)).error() == Errno::kFault);
}

TEST_CASE("host files are mapped themselves, read-only and private") {
  World world;
  auto mm = world.mm();
  auto file = make_ref<TestFile>(text_of_pages(20));
  const uint64_t addr = map_file(*mm, file, 20 * kPage, Prot::kRead | Prot::kExec, false);
  CHECK(space_of(*mm).applies == 1);
  CHECK(space_of(*mm).find(addr)->fd == file->fd());
  CHECK(world.file->used() == 0);
  CHECK(load(*mm, addr + 3 * kPage) == 'd');
  CHECK(store(*mm, addr, 'x') == Touch::kSegv);
  std::array<std::byte, 4> bytes{};
  CHECK(mm->copy_in(addr + 2 * kPage - 2, bytes).ok());
  CHECK(bytes[1] == std::byte{'b'});
  CHECK(bytes[2] == std::byte{'c'});
  CHECK(mm->vmas()[0].file.path == "/test");
  CHECK(file->mappings.mapped());
  CHECK(mm->unmap(addr, 20 * kPage).ok());
  CHECK_FALSE(file->mappings.mapped());
  CHECK(file->ref_count() == 1);
}

TEST_CASE("a host truncation is the guest's SIGBUS, never the Sentry's") {
  World world;
  auto mm = world.mm();
  auto file = make_ref<TestFile>(text_of_pages(8));
  const uint64_t addr = map_file(*mm, file, 8 * kPage, Prot::kRead, true);
  std::array<std::byte, 8> bytes{};
  CHECK(mm->copy_in(addr + 6 * kPage, bytes).ok());
  auto pinned = mm->pin(addr + 6 * kPage, 8, Access::kRead);
  CHECK(ftruncate(file->fd(), 2 * kPage) == 0);
  CHECK(mm->copy_in(addr + 6 * kPage, bytes).error() == Errno::kFault);
  CHECK(pinned->buffers().take(bytes).error() == Errno::kFault);
  CHECK(mm->load_u32(addr + 6 * kPage).error() == Errno::kFault);
  CHECK(load(*mm, addr + 6 * kPage) == -2);
  CHECK(load(*mm, addr + 6 * kPage, false) == -2);
  CHECK(load(*mm, addr + kPage) == 'b');
}

TEST_CASE("shared writable host files are written through") {
  World world;
  auto mm = world.mm();
  auto file = make_ref<TestFile>(text_of_pages(2));
  const uint64_t addr = map_file(*mm, file, 2 * kPage, kRw, true);
  CHECK(file->mappings.mapped_shared_writable());
  CHECK(store(*mm, addr + 1, 'W') == Touch::kDone);
  CHECK(mm->copy_out(addr + 2, as_bytes_of("V", 1)).ok());
  char now[3] = {};
  CHECK(pread(file->fd(), now, 3, 0) == 3);
  CHECK(std::string(now, 3) == "aWV");
  // mprotect may take writing away and give it back.
  CHECK(mm->protect(addr, kPage, Prot::kRead, false).ok());
  CHECK(store(*mm, addr, 'U') == Touch::kSegv);
  CHECK(mm->protect(addr, kPage, kRw, false).ok());
  CHECK(store(*mm, addr, 'U') == Touch::kDone);
}

TEST_CASE("a host that refuses PROT_EXEC gets copies") {
  World world;
  auto mm = world.mm();
  auto file = make_ref<TestFile>(text_of_pages(4));
  space_of(*mm).refused.insert(file->fd());
  const uint64_t addr = map_file(*mm, file, 4 * kPage, Prot::kRead | Prot::kExec, false);
  std::byte b{};
  CHECK(touch(*mm, addr + kPage, {&b, 1}, Access::kExecute) == Touch::kDone);
  CHECK(b == std::byte{'b'});
  CHECK(space_of(*mm).find(addr + kPage)->fd == world.file->place(0).fd);
}

TEST_CASE("sources without a host file are asked page by page") {
  World world;
  auto mm = world.mm();
  auto file = make_ref<TestFile>(text_of_pages(6), world.file.get());
  const uint64_t priv = map_file(*mm, file, 8 * kPage, kRw, false);
  CHECK(load(*mm, priv + 4 * kPage) == 'e');
  CHECK(store(*mm, priv + 4 * kPage, 'P') == Touch::kDone);
  CHECK_FALSE(file->last_for_write);
  CHECK(load(*mm, priv + 6 * kPage) == -2);
  const uint64_t shared = map_file(*mm, file, 6 * kPage, kRw, true);
  CHECK(load(*mm, shared + 4 * kPage) == 'e');
  CHECK(store(*mm, shared + kPage, 'S') == Touch::kDone);
  CHECK(file->last_for_write);
  const uint64_t view = map_file(*mm, file, 6 * kPage, Prot::kRead, false);
  CHECK(load(*mm, view + kPage) == 'S');
  // A shared mapping that is only read asks again before it is written.
  const uint64_t reader = map_file(*mm, file, 6 * kPage, Prot::kRead, true);
  CHECK(load(*mm, reader + 2 * kPage) == 'c');
  CHECK_FALSE(file->last_for_write);
  CHECK(mm->protect(reader, 6 * kPage, kRw, false).ok());
  CHECK(store(*mm, reader + 2 * kPage, 'T') == Touch::kDone);
  CHECK(file->last_for_write);
  CHECK(load(*mm, shared + 2 * kPage) == 'T');
  // Truncation takes shared pages and private copies along.
  file->truncate(3 * kPage);
  CHECK(load(*mm, shared + 4 * kPage) == -2);
  CHECK(load(*mm, priv + 4 * kPage) == -2);
  CHECK(load(*mm, shared + 2 * kPage) == 'T');
}

TEST_CASE("small mappings of such sources are promised, too") {
  World world;
  auto mm = world.mm();
  auto file = make_ref<TestFile>(text_of_pages(6), world.file.get());
  const uint64_t addr = map_file(*mm, file, 8 * kPage, Prot::kRead, true);
  CHECK(space_of(*mm).applies == 1);
  int faults = 0;
  for (uint64_t i = 0; i < 6; i++) {
    std::byte b{};
    CHECK(touch(*mm, addr + i * kPage, {&b, 1}, Access::kRead, true, &faults) == Touch::kDone);
  }
  CHECK(faults == 0);
  CHECK(load(*mm, addr + 6 * kPage) == -2);
}

TEST_CASE("copies of a large file's data grow") {
  World world;
  auto mm = world.mm();
  auto file = make_ref<TestFile>(std::string(4 * kMiB, 'q'));
  const uint64_t addr = map_file(*mm, file, 4 * kMiB, kRw, false);
  int faults = 0;
  for (uint64_t at = addr; at < addr + 4 * kMiB; at += kPage) {
    std::byte b{1};
    REQUIRE(touch(*mm, at, {&b, 1}, Access::kWrite, true, &faults) == Touch::kDone);
  }
  CHECK(faults <= 16);
}
