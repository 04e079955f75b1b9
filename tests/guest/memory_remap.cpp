// mremap, brk, and mappings that grow.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/guest/guest_test.h"
#include "tests/guest/memory_probe.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

using guest::kPage;

namespace {

char* map_pages(size_t count, int prot = PROT_READ | PROT_WRITE, int flags = MAP_PRIVATE) {
  void* mapped = mmap(nullptr, count * kPage, prot, flags | MAP_ANONYMOUS, -1, 0);
  REQUIRE(mapped != MAP_FAILED);
  return static_cast<char*>(mapped);
}

// `count` pages followed by a hole of `hole` pages.
char* map_before_hole(size_t count, size_t hole) {
  char* area = map_pages(count + hole);
  REQUIRE(munmap(area + count * kPage, hole * kPage) == 0);
  return area;
}

void number_pages(char* area, size_t count) {
  for (size_t i = 0; i < count; ++i) area[i * kPage] = static_cast<char>(i + 1);
}

bool numbered(const char* area, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (area[i * kPage] != static_cast<char>(i + 1)) return false;
  }
  return true;
}

char* remap(void* old, size_t old_pages, size_t new_pages, int flags = 0, void* target = nullptr) {
  return static_cast<char*>(mremap(old, old_pages * kPage, new_pages * kPage, flags, target));
}

}  // namespace

CASE(shrinking) {
  char* area = map_pages(4);
  number_pages(area, 4);
  CHECK(remap(area, 4, 2) == area);
  CHECK(numbered(area, 2));
  CHECK(!guest::probe_read(area + 2 * kPage));
}

CASE(growing_in_place) {
  char* area = map_before_hole(2, 4);
  number_pages(area, 2);
  CHECK(remap(area, 2, 4) == area);
  CHECK(numbered(area, 2));
  CHECK_EQ(area[2 * kPage], 0);
  CHECK(guest::probe_write(area + 4 * kPage - 1));
}

CASE(growing_needs_permission_to_move) {
  char* area = map_pages(4);
  number_pages(area, 4);
  CHECK_ERRNO(mremap(area, 2 * kPage, 3 * kPage, 0), ENOMEM);
  char* moved = remap(area, 2, 8, MREMAP_MAYMOVE);
  REQUIRE(moved != MAP_FAILED);
  CHECK(moved != area);
  CHECK(numbered(moved, 2));
  CHECK_EQ(moved[7 * kPage], 0);
  CHECK(!guest::probe_read(area));
  CHECK(!guest::probe_read(area + kPage));
  CHECK_EQ(area[2 * kPage], 3);
}

CASE(fixed_target) {
  char* area = map_pages(4);
  char* target = map_pages(8);
  number_pages(area, 4);
  target[5 * kPage] = 77;
  CHECK(remap(area, 4, 4, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
  CHECK(numbered(target, 4));
  CHECK_EQ(target[5 * kPage], 77);
  CHECK(!guest::probe_read(area));
}

CASE(dontunmap_leaves_an_empty_mapping) {
  char* area = map_pages(3);
  number_pages(area, 3);
  char* moved = remap(area, 3, 3, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
  REQUIRE(moved != MAP_FAILED);
  CHECK(moved != area);
  CHECK(numbered(moved, 3));
  CHECK_EQ(area[0], 0);
  CHECK(guest::probe_write(area + 2 * kPage));
}

CASE(old_size_zero_duplicates_a_shared_mapping) {
  char* area = map_pages(2, PROT_READ | PROT_WRITE, MAP_SHARED);
  number_pages(area, 2);
  char* twin = remap(area, 0, 2, MREMAP_MAYMOVE);
  REQUIRE(twin != MAP_FAILED);
  CHECK(numbered(twin, 2));
  twin[1] = 9;
  CHECK_EQ(area[1], 9);
  char* private_area = map_pages(1);
  CHECK_ERRNO(mremap(private_area, 0, kPage, MREMAP_MAYMOVE), EINVAL);
}

CASE(errors) {
  char* area = map_pages(4);
  CHECK_ERRNO(mremap(area + 1, kPage, kPage, 0), EINVAL);
  CHECK_ERRNO(mremap(area, kPage, 0, 0), EINVAL);
  CHECK_ERRNO(mremap(area, kPage, kPage, 0x100), EINVAL);
  CHECK_ERRNO(mremap(area, kPage, kPage, MREMAP_FIXED, area), EINVAL);
  CHECK_ERRNO(mremap(area, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, area + kPage),
              EINVAL);
  munmap(area + 2 * kPage, kPage);
  CHECK_ERRNO(mremap(area + 2 * kPage, kPage, 2 * kPage, MREMAP_MAYMOVE), EFAULT);
  CHECK_ERRNO(mremap(area, 4 * kPage, 8 * kPage, MREMAP_MAYMOVE), EFAULT);
}

CASE(file_mapping_moves_with_its_content) {
  std::string content(4 * kPage, '\0');
  for (size_t i = 0; i < 4; ++i) content[i * kPage] = static_cast<char>(i + 1);
  REQUIRE(guest::write_file("file", content));
  int fd = open("file", O_RDWR);
  void* mapped = mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  REQUIRE(mapped != MAP_FAILED);
  char* target = map_pages(4);
  char* moved = remap(mapped, 2, 4, MREMAP_MAYMOVE | MREMAP_FIXED, target);
  CHECK(moved == target);
  CHECK(numbered(moved, 4));
  moved[3 * kPage] = 'w';
  char byte = 0;
  CHECK_EQ(pread(fd, &byte, 1, 3 * kPage), 1);
  CHECK_EQ(byte, 'w');
}

CASE(protection_moves_along) {
  char* area = map_pages(2, PROT_READ);
  char* moved = remap(area, 2, 5, MREMAP_MAYMOVE | MREMAP_FIXED, map_pages(5));
  REQUIRE(moved != MAP_FAILED);
  CHECK(guest::probe_read(moved + 4 * kPage));
  CHECK(!guest::probe_write(moved + 4 * kPage));
}

CASE(brk_grows_and_shrinks) {
  char* start = static_cast<char*>(sbrk(0));
  auto raw_brk = [](char* end) { return reinterpret_cast<char*>(syscall(SYS_brk, end)); };
  char* base = raw_brk(nullptr);
  CHECK(base == start);
  CHECK(raw_brk(base + 10 * kPage) == base + 10 * kPage);
  for (int i = 0; i < 10; ++i) CHECK_EQ(base[static_cast<size_t>(i) * kPage + (kPage - 1)], 0);
  base[9 * kPage] = 5;
  CHECK(raw_brk(base + 5 * kPage) == base + 5 * kPage);
  CHECK(raw_brk(base + 10 * kPage) == base + 10 * kPage);
  CHECK_EQ(base[9 * kPage], 0);  // freed memory comes back as zeros
  CHECK(raw_brk(base + 12345) == base + 12345);
  CHECK(raw_brk(reinterpret_cast<char*>(~0UL)) == base + 12345);  // refused: the old break
  CHECK(raw_brk(reinterpret_cast<char*>(4096)) == base + 12345);
  CHECK(raw_brk(base) == base);
}

CASE(brk_stops_before_another_mapping) {
  auto raw_brk = [](char* end) { return reinterpret_cast<char*>(syscall(SYS_brk, end)); };
  char* base = raw_brk(nullptr);
  auto aligned =
      reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(base) + 2 * kPage) & ~(kPage - 1));
  void* wall = mmap(aligned + 4 * kPage, kPage, PROT_READ,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  REQUIRE(wall != MAP_FAILED);
  CHECK(raw_brk(aligned + 8 * kPage) == base);
  CHECK(raw_brk(base + kPage) == base + kPage);
}

CASE(rlimit_data_bounds_brk) {
  pid_t pid = guest::spawn([] {
    char* base = reinterpret_cast<char*>(syscall(SYS_brk, 0));
    rlimit limit = {1 << 20, 1 << 20};
    REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
    CHECK_EQ(syscall(SYS_brk, base + (4 << 20)), reinterpret_cast<intptr_t>(base));
  });
  CHECK_EXIT(pid, 0);
}

CASE(rlimit_as_bounds_mmap) {
  pid_t pid = guest::spawn([] {
    rlimit limit = {256 << 20, 256 << 20};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    CHECK_ERRNO(mmap(nullptr, 512 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    CHECK_ERRNO(
        mmap(nullptr, 512 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
        ENOMEM);
    char* area = map_pages(16);
    CHECK_ERRNO(mremap(area, 16 * kPage, 512 << 20, MREMAP_MAYMOVE), ENOMEM);
    CHECK_OK(mmap(nullptr, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  });
  CHECK_EXIT(pid, 0);
}

CASE(growsdown_mapping_extends) {
  // A hole of 300 pages below a MAP_GROWSDOWN page: touching just below extends it, as for a stack.
  char* area = map_pages(400);
  char* page = area + 350 * kPage;
  REQUIRE(munmap(area, 400 * kPage) == 0);
  void* mapped = mmap(page, kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
  REQUIRE(mapped == page);
  CHECK(guest::probe_write(page - kPage));
  CHECK(guest::probe_write(page - 2 * kPage));
  CHECK(!guest::probe_read(page + kPage));
}
