#include "sentry/mm/memory_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "src/base/bytes.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::mm;

namespace {

std::unique_ptr<MemoryFile> make_file(uint64_t limit) {
  install_fault_handlers();
  auto backing = MemoryFile::make_backing(-1);
  REQUIRE(backing.ok());
  auto file = MemoryFile::create(std::move(backing).take(), limit);
  REQUIRE(file.ok());
  return std::move(file).take();
}

bool all_bytes(const MemoryFile& file, Range extent, int value) {
  const std::byte* data = file.data(extent.start);
  return std::all_of(data, data + extent.size(),
                     [&](std::byte b) { return b == static_cast<std::byte>(value); });
}

uint64_t host_bytes(const MemoryFile& file) {
  struct stat st {};
  REQUIRE(fstat(file.place(0).fd, &st) == 0);
  return static_cast<uint64_t>(st.st_blocks) * 512;
}

}  // namespace

TEST_CASE("the limit is what can be allocated, to the page") {
  auto file = make_file(3 * kHugePageSize + 3 * kPageSize + 17);
  CHECK(file->limit() == 3 * kHugePageSize + 3 * kPageSize);
  std::vector<Range> all;
  for (;;) {
    auto extent = file->allocate(kPageSize);
    if (!extent) {
      CHECK(extent.error() == Errno::kNoMem);
      break;
    }
    all.push_back(*extent);
  }
  CHECK(all.size() == file->limit() / kPageSize);
  CHECK(file->used() == file->limit());
  for (const Range& extent : all) file->unref(extent);
  CHECK(file->used() == 0);
  auto whole = file->allocate(3 * kHugePageSize);
  REQUIRE(whole.ok());
  file->unref(*whole);
  CHECK(file->allocate(UINT64_MAX - kPageSize + 1).error() == Errno::kNoMem);
}

TEST_CASE("recycled pages read as zeros") {
  auto file = make_file(8 * kHugePageSize);
  const Range first = *file->allocate(16 * kPageSize);
  memset(file->data(first.start), 0x5a, first.size());
  file->unref(first);
  const Range again = *file->allocate(16 * kPageSize);
  CHECK(again == first);
  CHECK(all_bytes(*file, again, 0));
}

TEST_CASE("small programs stay within one chunk, neighbours continue each other") {
  auto file = make_file(64 * kHugePageSize);
  const Range a = *file->allocate(4 * kPageSize);
  MemoryFile::Hint below;
  below.near = a.start - 8 * kPageSize;
  const Range b = *file->allocate(8 * kPageSize, below);
  CHECK(b.end == a.start);
  CHECK(a.start / kHugePageSize == b.start / kHugePageSize);
  MemoryFile::Hint up;
  up.upwards = true;
  const Range heap = *file->allocate(4 * kPageSize, up);
  up.near = heap.end;
  CHECK(file->allocate(4 * kPageSize, up)->start == heap.end);
  MemoryFile::Hint huge;
  huge.huge = true;
  CHECK(file->allocate(2 * kHugePageSize, huge)->start % kHugePageSize == 0);
}

TEST_CASE("beyond a reserve, whole chunks go back to the host") {
  auto file = make_file(64 * kHugePageSize);
  const Range big = *file->allocate(32 * kHugePageSize);
  memset(file->data(big.start), 1, big.size());
  CHECK(host_bytes(*file) >= big.size());
  file->unref(big);
  CHECK(host_bytes(*file) <= 17 << 20);
  const Range again = *file->allocate(32 * kHugePageSize);
  CHECK(all_bytes(*file, again, 0));
}

TEST_CASE("sharing and pinning report runs") {
  auto file = make_file(8 * kHugePageSize);
  const Range extent = *file->allocate(8 * kPageSize);
  const Range middle{extent.start + 2 * kPageSize, extent.start + 5 * kPageSize};
  file->ref(middle);
  CHECK(file->sharing(extent).size == 2 * kPageSize);
  CHECK(file->sharing(extent).exclusive);
  CHECK(file->sharing({middle.start, extent.end}).size == 3 * kPageSize);
  CHECK_FALSE(file->sharing({middle.start, extent.end}).exclusive);
  file->unref(middle);
  file->pin(middle);
  CHECK(file->pinning(extent).size == 2 * kPageSize);
  CHECK_FALSE(file->pinning(extent).pinned);
  CHECK(file->pinning({middle.start, extent.end}).pinned);
  CHECK(file->pinning({middle.start, extent.end}).size == 3 * kPageSize);
  file->unref(extent);
  CHECK(file->used() == 3 * kPageSize);
  file->unpin(middle);
  CHECK(file->used() == 0);
}

TEST_CASE("MemoryFile behaves like one counter and one byte per page") {
  constexpr uint64_t kLimit = 6 * kHugePageSize;
  auto file = make_file(kLimit);
  std::mt19937 random(11);
  struct Page {
    int refs = 0;
    uint8_t value = 0;
  };
  std::vector<Page> model(kLimit / kPageSize);
  std::vector<Range> held;  // one entry per reference taken
  for (int step = 0; step < 4000; step++) {
    const unsigned choice = random() % 8;
    if (choice < 4) {
      const uint64_t pages = random() % 8 == 0 ? 512 + random() % 700 : 1 + random() % 40;
      MemoryFile::Hint hint;
      hint.upwards = random() % 2 == 0;
      if (!held.empty() && random() % 2 == 0) hint.near = held[random() % held.size()].end;
      auto extent = file->allocate(pages * kPageSize, hint);
      if (!extent) continue;
      REQUIRE(extent->size() == pages * kPageSize);
      REQUIRE(extent->end <= kLimit);
      REQUIRE(all_bytes(*file, *extent, 0));
      const int value = static_cast<int>(random() % 255 + 1);
      memset(file->data(extent->start), value, extent->size());
      for (uint64_t p = extent->start / kPageSize; p < extent->end / kPageSize; p++) {
        REQUIRE(model[p].refs == 0);
        model[p] = {1, static_cast<uint8_t>(value)};
      }
      held.push_back(*extent);
    } else if (!held.empty()) {
      const size_t i = random() % held.size();
      Range extent = held[i];
      if (choice == 4) {
        file->ref(extent);
        for (uint64_t p = extent.start / kPageSize; p < extent.end / kPageSize; p++)
          model[p].refs++;
        held.push_back(extent);
        continue;
      }
      // Drop all of it, or its first half.
      const uint64_t half = page_down(extent.size() / 2);
      if (choice == 5 && half > 0) {
        held[i].start += half;
        extent.end = extent.start + half;
      } else {
        held[i] = held.back();
        held.pop_back();
      }
      REQUIRE(all_bytes(*file, extent, model[extent.start / kPageSize].value));
      file->unref(extent);
      for (uint64_t p = extent.start / kPageSize; p < extent.end / kPageSize; p++) model[p].refs--;
    }
    const auto used = std::ranges::count_if(model, [](const Page& p) { return p.refs > 0; });
    REQUIRE(file->used() == static_cast<uint64_t>(used) * kPageSize);
  }
}

TEST_CASE("threads may allocate and free at the same time") {
  auto file = make_file(16 * kHugePageSize);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; t++) {
      threads.emplace_back([&, t] {
        std::mt19937 random(static_cast<unsigned>(t));
        for (int i = 0; i < 300; i++) {
          auto extent = file->allocate((1 + random() % 600) * kPageSize);
          if (!extent) continue;
          safe_copy(file->data(extent->start), &t, sizeof t);
          file->unref(*extent);
        }
      });
    }
  }
  CHECK(file->used() == 0);
}

namespace {

// With a disk part; null where /var/tmp cannot have one.
std::unique_ptr<MemoryFile> make_file_with_disk(uint64_t limit, uint64_t disk_bytes) {
  install_fault_handlers();
  auto backing = MemoryFile::make_backing(-1).take();
  const Result<void> added = MemoryFile::add_disk(backing, "/var/tmp");
  REQUIRE(added.ok());
  backing.disk_bytes = disk_bytes;
  return MemoryFile::create(std::move(backing), limit).take();
}

}  // namespace

TEST_CASE("the disk part is no memory") {
  const auto file = make_file_with_disk(2 * kHugePageSize, 3 * kHugePageSize);
  CHECK(file->limit() == 2 * kHugePageSize);
  CHECK(file->limit(Storage::kDisk) == 3 * kHugePageSize);
  const Range memory = *file->allocate(2 * kHugePageSize);
  CHECK(file->allocate(kPageSize).error() == Errno::kNoMem);
  std::vector<Range> all;
  for (;;) {
    auto extent = file->allocate(16 * kPageSize, Storage::kDisk);
    if (!extent.ok()) {
      CHECK(extent.error() == Errno::kNoSpc);
      break;
    }
    // Neighbours of both parts must never look like one run.
    CHECK(extent->start > memory.end);
    CHECK(all_bytes(*file, *extent, 0));
    memset(file->data(extent->start), 0x5a, extent->size());
    all.push_back(*extent);
  }
  CHECK(all.size() == 3 * kHugePageSize / (16 * kPageSize));
  CHECK(file->used() == memory.size());
  CHECK(all_bytes(*file, memory, 0));

  // Where the stubs map it: the same bytes, in the other host file.
  const MemoryFile::Place place = file->place(all.back().start);
  CHECK(place.fd != file->place(memory.start).fd);
  std::byte byte{};
  CHECK(pread(place.fd, &byte, 1, static_cast<off_t>(place.offset)) == 1);
  CHECK(byte == std::byte{0x5a});
  struct stat st {};
  REQUIRE(fstat(place.fd, &st) == 0);
  CHECK(static_cast<uint64_t>(st.st_blocks) * 512 >= 3 * kHugePageSize);
  CHECK(st.st_nlink == 0);

  for (const Range& extent : all) file->unref(extent);
  const Range again = *file->allocate(kHugePageSize, Storage::kDisk);
  CHECK(all_bytes(*file, again, 0));
}

TEST_CASE("without a disk part there is no space on it") {
  const auto file = make_file(kHugePageSize);
  CHECK(file->limit(Storage::kDisk) == 0);
  CHECK(file->allocate(kPageSize, Storage::kDisk).error() == Errno::kNoSpc);
}

TEST_CASE("directories that cannot have a disk part") {
  auto backing = MemoryFile::make_backing(-1).take();
  CHECK(MemoryFile::add_disk(backing, "/no-such-directory").error() == Errno::kNoEnt);
  CHECK(!MemoryFile::add_disk(backing, "/proc").ok());
  CHECK(MemoryFile::add_disk(backing, "/dev/shm").error() == Errno::kOpNotSupp);  // memory
  CHECK(backing.disk_bytes == 0);
}
