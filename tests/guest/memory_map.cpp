// mmap and munmap: flags, placement, splitting, errors.
#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/guest/guest_test.h"
#include "tests/guest/memory_probe.h"

using guest::kPage;
using guest::probe_read;
using guest::probe_write;

namespace {

char* map_anonymous(size_t bytes, int prot = PROT_READ | PROT_WRITE, int flags = 0,
                    void* hint = nullptr) {
  void* mapped = mmap(hint, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  REQUIRE(mapped != MAP_FAILED);
  return static_cast<char*>(mapped);
}

}  // namespace

CASE(anonymous_memory_is_zero) {
  char* memory = map_anonymous(64 * kPage);
  for (size_t i = 0; i < 64 * kPage; i += 512) REQUIRE(memory[i] == 0);
  memset(memory, 0xa5, 64 * kPage);
  CHECK_OK(munmap(memory, 64 * kPage));
  char* again = map_anonymous(64 * kPage);
  for (size_t i = 0; i < 64 * kPage; i += 512) REQUIRE(again[i] == 0);
}

CASE(length_is_rounded_up_to_pages) {
  char* memory = map_anonymous(1);
  CHECK(probe_write(memory + kPage - 1));
  CHECK_OK(munmap(memory, 1));
  CHECK(!probe_read(memory));
}

CASE(errors) {
  CHECK_ERRNO(mmap(nullptr, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_ANONYMOUS, -1, 0),
              EINVAL);  // neither shared nor private
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, 999, 0), EBADF);
  CHECK_ERRNO(mmap(reinterpret_cast<void*>(0x10001), kPage, PROT_READ,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              EINVAL);
  CHECK_ERRNO(mmap(nullptr, ~0UL - kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
  CHECK_ERRNO(mmap(reinterpret_cast<void*>(0x7ffffffff000), kPage, PROT_READ,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              ENOMEM);
  CHECK_ERRNO(mmap(reinterpret_cast<void*>(~0xfffUL), kPage, PROT_READ,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              ENOMEM);
  CHECK_ERRNO(munmap(reinterpret_cast<void*>(1), kPage), EINVAL);
  char* memory = map_anonymous(kPage);
  CHECK_ERRNO(munmap(memory, 0), EINVAL);
  CHECK_ERRNO(munmap(memory, ~0UL), EINVAL);
  CHECK_OK(munmap(memory, kPage));
  CHECK_OK(munmap(memory, kPage));  // a hole is fine
  int fd = open(".", O_RDONLY);
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
  close(fd);
}

CASE(file_errors) {
  REQUIRE(guest::write_file("data", "content"));
  int read_only = open("data", O_RDONLY);
  int write_only = open("data", O_WRONLY);
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, read_only, 1), EINVAL);
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, write_only, 0), EACCES);
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, read_only, 0), EACCES);
  CHECK_OK(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, read_only, 0));
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, read_only, static_cast<off_t>(~0xfffUL)),
              EOVERFLOW);
  int path_only = open("data", O_PATH);
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, path_only, 0), EBADF);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, ends[0], 0), ENODEV);
}

CASE(hint_is_taken_when_free) {
  char* area = map_anonymous(8 * kPage);
  CHECK_OK(munmap(area, 8 * kPage));
  char* hinted = map_anonymous(kPage, PROT_READ, 0, area);
  CHECK(hinted == area);
  char* second = map_anonymous(kPage, PROT_READ, 0, area);  // taken: elsewhere, no error
  CHECK(second != area);
}

CASE(fixed_replaces) {
  char* area = map_anonymous(4 * kPage);
  memset(area, 1, 4 * kPage);
  char* middle = map_anonymous(2 * kPage, PROT_READ | PROT_WRITE, MAP_FIXED, area + kPage);
  CHECK(middle == area + kPage);
  CHECK_EQ(area[0], 1);
  CHECK_EQ(area[kPage], 0);
  CHECK_EQ(area[2 * kPage], 0);
  CHECK_EQ(area[3 * kPage], 1);
}

CASE(fixed_noreplace) {
  char* area = map_anonymous(4 * kPage);
  CHECK_ERRNO(mmap(area + kPage, kPage, PROT_READ,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
              EEXIST);
  CHECK_OK(munmap(area + kPage, kPage));
  void* got = mmap(area + kPage, kPage, PROT_READ,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK(got == area + kPage);
}

CASE(partial_unmap) {
  char* area = map_anonymous(5 * kPage);
  memset(area, 7, 5 * kPage);
  CHECK_OK(munmap(area + kPage, kPage));
  CHECK_OK(munmap(area + 3 * kPage, kPage));
  CHECK(probe_read(area));
  CHECK(!probe_read(area + kPage));
  CHECK(probe_read(area + 2 * kPage));
  CHECK(!probe_read(area + 3 * kPage));
  CHECK(probe_read(area + 4 * kPage));
  CHECK_EQ(area[4 * kPage], 7);
  CHECK_OK(munmap(area, 5 * kPage));
  CHECK(!probe_read(area + 4 * kPage));
}

CASE(kernel_sees_holes_as_efault) {
  char* area = map_anonymous(2 * kPage);
  CHECK_OK(munmap(area + kPage, kPage));
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  memset(area + kPage - 4, 'x', 4);
  int fd = open("data", O_RDWR | O_CREAT, 0600);
  CHECK_EQ(write(fd, area + kPage - 4, 8), 4);               // a file takes what could be copied
  CHECK_ERRNO(write(ends[1], area + kPage - 4, 8), EFAULT);  // a pipe's buffer is all or nothing
  iovec parts[] = {{area, 4}, {area + kPage, 4}};
  CHECK_ERRNO(writev(ends[1], parts, 2), EFAULT);
  int pair[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
  CHECK_ERRNO(write(pair[0], area + kPage - 4, 8), EFAULT);
  CHECK_ERRNO(writev(pair[0], parts, 2), EFAULT);
  CHECK_ERRNO(write(fd, area + kPage, 8), EFAULT);
  CHECK_EQ(pread(fd, area, 8, 0), 4);
  CHECK_EQ(memcmp(area, "xxxx", 4), 0);
  close(fd);
  CHECK_EQ(write(ends[1], "yyyy", 4), 4);
  CHECK_ERRNO(read(ends[0], area + kPage, 4), EFAULT);
  CHECK_ERRNO(write(ends[1], reinterpret_cast<void*>(0xffff800000000000), 1), EFAULT);
  CHECK_ERRNO(syscall(SYS_openat, AT_FDCWD, nullptr, O_RDONLY), EFAULT);
  // A string that ends at the last mapped byte is fine; one that runs into the hole is not.
  memcpy(area + kPage - 2, ".", 2);
  CHECK_OK(close(static_cast<int>(syscall(SYS_openat, AT_FDCWD, area + kPage - 2, O_RDONLY))));
  area[kPage - 1] = '/';
  CHECK_ERRNO(syscall(SYS_openat, AT_FDCWD, area + kPage - 2, O_RDONLY), EFAULT);
}

CASE(reservations_of_terabytes_cost_nothing) {
  constexpr size_t kTerabyte = 1UL << 40;
  void* reserved =
      mmap(nullptr, 16 * kTerabyte, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(reserved != MAP_FAILED);
  char* base = static_cast<char*>(reserved);
  CHECK(!probe_read(base + 5 * kTerabyte));
  CHECK_OK(mprotect(base + 5 * kTerabyte, 2 * kPage, PROT_READ | PROT_WRITE));
  CHECK(probe_write(base + 5 * kTerabyte + kPage));
  CHECK(!probe_read(base + 5 * kTerabyte + 2 * kPage));
  CHECK_OK(munmap(reserved, 16 * kTerabyte));
  CHECK(!probe_read(base + 5 * kTerabyte));
}

CASE(map_populate_and_32bit) {
  char* populated = map_anonymous(16 * kPage, PROT_READ | PROT_WRITE, MAP_POPULATE);
  CHECK_EQ(populated[15 * kPage], 0);
  char* low = map_anonymous(kPage, PROT_READ | PROT_WRITE, MAP_32BIT);
  CHECK(reinterpret_cast<uintptr_t>(low) < (1UL << 31));
}

CASE(executable_memory_runs) {
  char* code = map_anonymous(kPage);
  const unsigned char kReturn42[] = {0xb8, 42, 0, 0, 0, 0xc3};  // mov $42,%eax; ret
  memcpy(code, kReturn42, sizeof kReturn42);
  CHECK_OK(mprotect(code, kPage, PROT_READ | PROT_EXEC));
  CHECK_EQ(reinterpret_cast<int (*)()>(code)(), 42);
  CHECK_OK(mprotect(code, kPage, PROT_READ | PROT_WRITE));
  code[1] = 43;
  CHECK_OK(mprotect(code, kPage, PROT_READ | PROT_EXEC));
  CHECK_EQ(reinterpret_cast<int (*)()>(code)(), 43);
}

CASE(many_mappings) {
  // Alternating protections cannot merge: a thousand VMAs, each usable on its own.
  constexpr int kCount = 1000;
  char* area = map_anonymous(kCount * kPage);
  for (int i = 0; i < kCount; i += 2) REQUIRE(mprotect(area + i * kPage, kPage, PROT_READ) == 0);
  for (int i = 1; i < kCount; i += 2) area[i * kPage] = static_cast<char>(i);
  CHECK(probe_read(area + 500 * kPage));
  CHECK(!probe_write(area + 500 * kPage));
  CHECK(probe_write(area + 501 * kPage));
  CHECK_OK(mprotect(area, kCount * kPage, PROT_READ | PROT_WRITE));
  for (int i = 1; i < kCount; i += 2) REQUIRE(area[i * kPage] == static_cast<char>(i));
}

CASE(null_page_cannot_be_mapped_by_a_user) {
  if (guest::has_capability(17)) return;  // CAP_SYS_RAWIO overrides vm.mmap_min_addr
  CHECK_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              EPERM);
}
