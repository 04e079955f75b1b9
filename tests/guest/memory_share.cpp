// Shared and private memory between mappings, processes and files; copy-on-write; advice.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/guest/guest_test.h"
#include "tests/guest/memory_probe.h"
#include "tests/guest/turn.h"

using guest::kPage;

namespace {

using guest::Turn;

char* map_file(int fd, size_t pages, int flags, int prot = PROT_READ | PROT_WRITE,
               off_t offset = 0) {
  void* mapped = mmap(nullptr, pages * kPage, prot, flags, fd, offset);
  REQUIRE(mapped != MAP_FAILED);
  return static_cast<char*>(mapped);
}

char* map_anonymous(size_t pages, int flags) {
  void* mapped = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
  REQUIRE(mapped != MAP_FAILED);
  return static_cast<char*>(mapped);
}

int make_file(const std::string& content) {
  REQUIRE(guest::write_file("file", content));
  int fd = open("file", O_RDWR);
  REQUIRE(fd >= 0);
  return fd;
}

}  // namespace

CASE(shared_file_mapping_and_file_are_one) {
  int fd = make_file(std::string(2 * kPage, 'a'));
  char* first = map_file(fd, 2, MAP_SHARED);
  char* second = map_file(fd, 2, MAP_SHARED);
  first[10] = 'b';
  CHECK_EQ(second[10], 'b');
  char byte = 0;
  CHECK_EQ(pread(fd, &byte, 1, 10), 1);
  CHECK_EQ(byte, 'b');
  CHECK_EQ(pwrite(fd, "c", 1, kPage), 1);
  CHECK_EQ(first[kPage], 'c');
  CHECK_OK(msync(first, 2 * kPage, MS_SYNC));
  close(fd);
  second[20] = 'd';  // a mapping outlives the descriptor
  munmap(second, 2 * kPage);
  CHECK_EQ(guest::read_file("file")[20], 'd');
}

CASE(private_file_mapping_keeps_its_writes) {
  int fd = make_file(std::string(2 * kPage, 'a'));
  char* mine = map_file(fd, 2, MAP_PRIVATE);
  mine[5] = 'p';
  CHECK_EQ(guest::read_file("file")[5], 'a');
  CHECK_EQ(pwrite(fd, "z", 1, 5), 1);
  CHECK_EQ(mine[5], 'p');
  CHECK_EQ(mine[6], 'a');
}

CASE(a_file_opened_read_only_can_be_mapped_privately_writable) {
  make_file("content");
  int fd = open("file", O_RDONLY);
  char* mine = map_file(fd, 1, MAP_PRIVATE);
  mine[0] = 'C';
  CHECK_EQ(std::string(mine, 7), "Content");
  CHECK_EQ(guest::read_file("file"), "content");
}

CASE(the_tail_of_the_last_page_is_zero) {
  int fd = make_file("abc");
  char* mapped = map_file(fd, 1, MAP_SHARED);
  CHECK_EQ(mapped[3], 0);
  CHECK_EQ(mapped[kPage - 1], 0);
  mapped[100] = 'x';  // beyond the end: never written to the file
  msync(mapped, kPage, MS_SYNC);
  CHECK_EQ(guest::read_file("file"), "abc");
}

CASE(offsets) {
  std::string content(4 * kPage, '0');
  for (size_t i = 0; i < 4; ++i) content[i * kPage] = static_cast<char>('A' + i);
  int fd = make_file(content);
  char* mapped = map_file(fd, 2, MAP_PRIVATE, PROT_READ, 2 * kPage);
  CHECK_EQ(mapped[0], 'C');
  CHECK_EQ(mapped[kPage], 'D');
}

CASE(shared_anonymous_memory_is_shared_with_children) {
  char* memory = map_anonymous(4, MAP_SHARED);
  pid_t pid = guest::spawn([memory] {
    CHECK_EQ(memory[0], 0);
    memory[0] = 1;
    memory[3 * kPage] = 2;
  });
  CHECK_EXIT(pid, 0);
  CHECK_EQ(memory[0], 1);
  CHECK_EQ(memory[3 * kPage], 2);
}

CASE(shared_memory_mapped_after_fork_by_unrelated_mappings) {
  make_file(std::string(kPage, '0'));
  Turn there, back;
  pid_t pid = guest::spawn([&] {
    int mine = open("file", O_RDWR);
    char* memory = map_file(mine, 1, MAP_SHARED);
    there.take();
    CHECK_EQ(memory[7], 'p');
    memory[8] = 'c';
    back.give();
  });
  int fd = open("file", O_RDWR);
  char* memory = map_file(fd, 1, MAP_SHARED);
  memory[7] = 'p';
  there.give();
  back.take();
  CHECK_EQ(memory[8], 'c');
  CHECK_EXIT(pid, 0);
}

CASE(copy_on_write_through_generations) {
  char* memory = map_anonymous(8, MAP_PRIVATE);
  memset(memory, 'g', 8 * kPage);
  Turn grandchild_done;
  pid_t pid = guest::spawn([&] {
    memory[0] = 'c';
    pid_t inner = guest::spawn([&] {
      CHECK_EQ(memory[0], 'c');
      CHECK_EQ(memory[kPage], 'g');
      memory[kPage] = 'i';
      memory[0] = 'i';
    });
    memory[2 * kPage] = 'c';
    CHECK_EXIT(inner, 0);
    CHECK_EQ(memory[0], 'c');
    CHECK_EQ(memory[kPage], 'g');
  });
  memory[3 * kPage] = 'p';
  CHECK_EXIT(pid, 0);
  CHECK_EQ(memory[0], 'g');
  CHECK_EQ(memory[kPage], 'g');
  CHECK_EQ(memory[2 * kPage], 'g');
  CHECK_EQ(memory[3 * kPage], 'p');
}

CASE(threads_write_one_page_while_the_process_forks) {
  // Each fork makes the page copy-on-write again, and all threads fault on it at once.
  auto* counter = reinterpret_cast<std::atomic<long>*>(map_anonymous(1, MAP_PRIVATE));
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  std::atomic<long> added{0};
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&] {
      for (long mine = 1; !stop; mine++) {
        counter->fetch_add(1);
        added++;
        if (mine % 64 == 0) sched_yield();
      }
    });
  }
  for (int i = 0; i < 150; i++) {
    CHECK_EXIT(guest::spawn([&] {
                 const long seen = counter->load();
                 CHECK_EQ(counter->fetch_add(1), seen);
               }),
               0);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(counter->load(), added.load());
}

CASE(the_kernel_writes_into_copied_pages_too) {
  // read() into memory that is still shared copy-on-write must not show in the other process.
  char* memory = map_anonymous(2, MAP_PRIVATE);
  memset(memory, 'a', 2 * kPage);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK_EQ(write(ends[1], "kernel", 6), 6);
  pid_t pid = guest::spawn([&] {
    CHECK_EQ(read(ends[0], memory + kPage - 3, 6), 6);
    CHECK_EQ(std::string(memory + kPage - 3, 6), "kernel");
  });
  CHECK_EXIT(pid, 0);
  CHECK_EQ(std::string(memory + kPage - 3, 6), "aaaaaa");
}

CASE(private_mapping_of_a_file_across_fork) {
  int fd = make_file(std::string(kPage, 'f'));
  char* memory = map_file(fd, 1, MAP_PRIVATE);
  memory[0] = 'p';
  pid_t pid = guest::spawn([memory] {
    CHECK_EQ(memory[0], 'p');
    memory[1] = 'c';
  });
  CHECK_EXIT(pid, 0);
  CHECK_EQ(memory[1], 'f');
}

CASE(dontneed_drops_the_content) {
  char* memory = map_anonymous(4, MAP_PRIVATE);
  memset(memory, 'x', 4 * kPage);
  CHECK_OK(madvise(memory + kPage, 2 * kPage, MADV_DONTNEED));
  CHECK_EQ(memory[0], 'x');
  CHECK_EQ(memory[kPage], 0);
  CHECK_EQ(memory[3 * kPage], 'x');
  int fd = make_file(std::string(kPage, 'f'));
  char* mapped = map_file(fd, 1, MAP_PRIVATE);
  mapped[0] = 'w';
  CHECK_OK(madvise(mapped, kPage, MADV_DONTNEED));
  CHECK_EQ(mapped[0], 'f');
  char* shared = map_anonymous(1, MAP_SHARED);
  shared[0] = 's';
  CHECK_OK(madvise(shared, kPage, MADV_DONTNEED));
  CHECK_EQ(shared[0], 's');  // shared memory keeps it
}

CASE(free_is_lazy) {
  char* memory = map_anonymous(2, MAP_PRIVATE);
  memset(memory, 'x', 2 * kPage);
  CHECK_OK(madvise(memory, 2 * kPage, MADV_FREE));
  CHECK(memory[0] == 'x' || memory[0] == 0);
  memory[0] = 'y';  // a write cancels it for the page
  CHECK_EQ(memory[0], 'y');
  CHECK_ERRNO(madvise(map_anonymous(1, MAP_SHARED), kPage, MADV_FREE), EINVAL);
}

CASE(dontfork_and_wipeonfork) {
  char* absent = map_anonymous(1, MAP_PRIVATE);
  char* wiped = map_anonymous(1, MAP_PRIVATE);
  char* normal = map_anonymous(1, MAP_PRIVATE);
  absent[0] = wiped[0] = normal[0] = 'x';
  CHECK_OK(madvise(absent, kPage, MADV_DONTFORK));
  CHECK_OK(madvise(wiped, kPage, MADV_WIPEONFORK));
  pid_t pid = guest::spawn([=] {
    CHECK(!guest::probe_read(absent));
    CHECK_EQ(wiped[0], 0);
    CHECK_EQ(normal[0], 'x');
  });
  CHECK_EXIT(pid, 0);
  CHECK_EQ(wiped[0], 'x');
  CHECK_OK(madvise(absent, kPage, MADV_DOFORK));
  CHECK_OK(madvise(wiped, kPage, MADV_KEEPONFORK));
  pid = guest::spawn([=] {
    CHECK_EQ(absent[0], 'x');
    CHECK_EQ(wiped[0], 'x');
  });
  CHECK_EXIT(pid, 0);
  CHECK_ERRNO(madvise(map_anonymous(1, MAP_SHARED), kPage, MADV_WIPEONFORK), EINVAL);
}

CASE(advice_errors) {
  char* memory = map_anonymous(3, MAP_PRIVATE);
  CHECK_ERRNO(madvise(memory + 1, kPage, MADV_NORMAL), EINVAL);
  CHECK_ERRNO(madvise(memory, kPage, 12345), EINVAL);
  CHECK_OK(madvise(memory, 0, MADV_DONTNEED));
  CHECK_OK(madvise(memory, kPage, MADV_WILLNEED));
  CHECK_OK(madvise(memory, kPage, MADV_SEQUENTIAL));
  memory[2 * kPage] = 'x';
  munmap(memory + kPage, kPage);
  CHECK_ERRNO(madvise(memory, 3 * kPage, MADV_DONTNEED), ENOMEM);
  CHECK_EQ(memory[2 * kPage], 0);  // applied beyond the hole all the same
}

CASE(mincore_and_msync) {
  char* memory = map_anonymous(3, MAP_PRIVATE);
  memory[kPage] = 1;
  unsigned char resident[3] = {9, 9, 9};
  CHECK_OK(mincore(memory, 3 * kPage, resident));
  CHECK_EQ(resident[1] & 1, 1);
  CHECK_ERRNO(mincore(memory + 1, kPage, resident), EINVAL);
  munmap(memory + kPage, kPage);
  CHECK_ERRNO(mincore(memory, 3 * kPage, resident), ENOMEM);
  CHECK_ERRNO(msync(memory, 3 * kPage, MS_SYNC), ENOMEM);
  CHECK_ERRNO(msync(memory + 1, kPage, MS_SYNC), EINVAL);
  CHECK_ERRNO(msync(memory, kPage, MS_SYNC | MS_ASYNC), EINVAL);
  CHECK_OK(msync(memory, kPage, MS_ASYNC));
}

CASE(locking) {
  char* memory = map_anonymous(2, MAP_PRIVATE);
  CHECK_OK(mlock(memory, 2 * kPage));
  CHECK_OK(munlock(memory, 2 * kPage));
  munmap(memory, kPage);
  CHECK_ERRNO(mlock(memory, 2 * kPage), ENOMEM);
  CHECK_ERRNO(mlockall(0x100), EINVAL);
  CHECK_OK(munlockall());
}

CASE(truncation_under_a_mapping) {
  int fd = make_file(std::string(2 * kPage, 'a'));
  char* mapped = map_file(fd, 2, MAP_SHARED);
  CHECK_EQ(mapped[kPage], 'a');
  REQUIRE(ftruncate(fd, kPage) == 0);
  CHECK(!guest::probe_read(mapped + kPage));
  CHECK_EQ(guest::last_fault().signo, SIGBUS);
  REQUIRE(ftruncate(fd, 2 * kPage) == 0);
  CHECK_EQ(mapped[kPage], 0);
  // The kernel runs into the same hole and says EFAULT.
  REQUIRE(ftruncate(fd, kPage) == 0);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK_ERRNO(write(ends[1], mapped + kPage, 1), EFAULT);
}

CASE(process_vm_between_parent_and_child) {
  static char text[16] = "parent";
  Turn go, done;
  pid_t pid = guest::spawn([&] {
    strcpy(text, "child");
    done.give();
    go.take();
    CHECK_EQ(std::string(text), "written");
  });
  done.take();
  char copy[16] = {};
  iovec local = {copy, 6}, remote = {text, 6};
  long got = syscall(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 0);
  if (got == -1 && (errno == ENOSYS || errno == EPERM)) {  // refused by a sandbox
    kill(pid, SIGKILL);
    guest::wait_for(pid);
    guest::skip("process_vm_readv is refused");
  }
  CHECK_EQ(got, 6);
  CHECK_EQ(std::string(copy), "child");
  strcpy(copy, "written");
  local.iov_len = remote.iov_len = 8;
  CHECK_EQ(syscall(SYS_process_vm_writev, pid, &local, 1, &remote, 1, 0), 8);
  CHECK_ERRNO(syscall(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 1), EINVAL);
  CHECK_ERRNO(syscall(SYS_process_vm_readv, pid, &local, 1025, &remote, 1, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_process_vm_readv, 0x3ffffffe, &local, 1, &remote, 1, 0), ESRCH);
  remote.iov_base = reinterpret_cast<void*>(8);
  CHECK_ERRNO(syscall(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 0), EFAULT);
  local.iov_len = 0;
  CHECK_EQ(syscall(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 0), 0);
  go.give();
  CHECK_EXIT(pid, 0);
}
