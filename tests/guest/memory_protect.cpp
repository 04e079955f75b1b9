// mprotect, page permissions and the siginfo of the faults they cause.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "tests/guest/guest_test.h"
#include "tests/guest/memory_probe.h"

using guest::kPage;
using guest::last_fault;

namespace {

char* map_pages(int count, int prot = PROT_READ | PROT_WRITE) {
  void* mapped = mmap(nullptr, count * kPage, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(mapped != MAP_FAILED);
  return static_cast<char*>(mapped);
}

}  // namespace

CASE(unmapped_is_maperr_protected_is_accerr) {
  char* memory = map_pages(2, PROT_READ);
  munmap(memory + kPage, kPage);
  CHECK(!guest::probe_store(memory + 123));
  CHECK_EQ(last_fault().signo, SIGSEGV);
  CHECK_EQ(last_fault().code, SEGV_ACCERR);
  CHECK(last_fault().address == memory + 123);
  CHECK(!guest::probe_read(memory + kPage + 77));
  CHECK_EQ(last_fault().signo, SIGSEGV);
  CHECK_EQ(last_fault().code, SEGV_MAPERR);
  CHECK(last_fault().address == memory + kPage + 77);
}

CASE(prot_none) {
  char* memory = map_pages(1, PROT_NONE);
  CHECK(!guest::probe_read(memory));
  CHECK_EQ(last_fault().code, SEGV_ACCERR);
  CHECK(!guest::probe_store(memory));
  CHECK_EQ(last_fault().code, SEGV_ACCERR);
}

CASE(null_pointer) {
  CHECK(!guest::probe_read(reinterpret_cast<void*>(16)));
  CHECK_EQ(last_fault().code, SEGV_MAPERR);
  CHECK(last_fault().address == reinterpret_cast<void*>(16));
}

CASE(non_canonical_address_is_a_general_protection_fault) {
  CHECK(!guest::probe_read(reinterpret_cast<void*>(0x8000000000000000)));
  CHECK_EQ(last_fault().signo, SIGSEGV);
  CHECK_EQ(last_fault().code, SI_KERNEL);
  CHECK(last_fault().address == nullptr);
}

CASE(kernel_half_is_not_accessible) {
  CHECK(!guest::probe_read(reinterpret_cast<void*>(0xffff888000000000)));
  CHECK_EQ(last_fault().signo, SIGSEGV);
}

CASE(no_execute) {
  char* memory = map_pages(1);
  memory[0] = static_cast<char>(0xc3);
  CHECK(!guest::probe_execute(memory));
  CHECK_EQ(last_fault().code, SEGV_ACCERR);
  CHECK(last_fault().address == memory);
  CHECK_OK(mprotect(memory, kPage, PROT_READ | PROT_EXEC));
  CHECK(guest::probe_execute(memory));
}

CASE(execute_only_page_faults_on_write) {
  char* memory = map_pages(1);
  memory[0] = static_cast<char>(0xc3);
  CHECK_OK(mprotect(memory, kPage, PROT_EXEC | PROT_READ));
  CHECK(!guest::probe_store(memory));
  CHECK(guest::probe_execute(memory));
}

CASE(splitting_keeps_the_neighbours) {
  char* memory = map_pages(5);
  memset(memory, 3, 5 * kPage);
  CHECK_OK(mprotect(memory + 2 * kPage, kPage, PROT_READ));
  CHECK_OK(mprotect(memory + 4 * kPage, kPage, PROT_NONE));
  for (int i = 0; i < 5; ++i) {
    CHECK_EQ(guest::probe_read(memory + i * kPage), i != 4);
    CHECK_EQ(guest::probe_write(memory + i * kPage), i != 2 && i != 4);
  }
  CHECK_OK(mprotect(memory, 5 * kPage, PROT_READ | PROT_WRITE));
  for (int i = 0; i < 5; ++i) CHECK_EQ(memory[i * kPage + 9], 3);
}

CASE(a_hole_stops_after_what_came_before) {
  char* memory = map_pages(3);
  munmap(memory + kPage, kPage);
  CHECK_ERRNO(mprotect(memory, 3 * kPage, PROT_READ), ENOMEM);
  CHECK(!guest::probe_write(memory));  // mm/mprotect.c changes the range up to the hole
  CHECK(guest::probe_write(memory + 2 * kPage));
}

CASE(errors) {
  char* memory = map_pages(2);
  CHECK_ERRNO(mprotect(memory + 1, kPage, PROT_READ), EINVAL);
  CHECK_OK(mprotect(memory, 0, PROT_READ));
  CHECK(guest::probe_write(memory));
  CHECK_ERRNO(mprotect(memory, kPage, 0x1000), EINVAL);
  CHECK_ERRNO(mprotect(memory, ~0UL - kPage, PROT_READ), ENOMEM);
  CHECK_OK(mprotect(memory, 1, PROT_READ));  // rounded up
  CHECK(!guest::probe_write(memory + kPage - 1));
}

CASE(shared_read_only_file_stays_read_only) {
  REQUIRE(guest::write_file("data", std::string(100, 'd')));
  int fd = open("data", O_RDONLY);
  void* mapped = mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd, 0);
  REQUIRE(mapped != MAP_FAILED);
  CHECK_ERRNO(mprotect(mapped, kPage, PROT_READ | PROT_WRITE), EACCES);
  void* copy = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, fd, 0);
  CHECK_OK(mprotect(copy, kPage, PROT_READ | PROT_WRITE));
  CHECK(guest::probe_write(copy));
}

CASE(data_survives_protection_changes) {
  char* memory = map_pages(64);
  for (int i = 0; i < 64; ++i) memory[i * kPage] = static_cast<char>(i);
  for (int round = 0; round < 20; ++round) {
    REQUIRE(mprotect(memory, 64 * kPage, PROT_NONE) == 0);
    REQUIRE(mprotect(memory, 64 * kPage, PROT_READ | PROT_WRITE) == 0);
    memory[round * kPage + 1] = static_cast<char>(round);
  }
  for (int i = 0; i < 64; ++i) REQUIRE(memory[i * kPage] == static_cast<char>(i));
  for (int i = 0; i < 20; ++i) REQUIRE(memory[i * kPage + 1] == static_cast<char>(i));
}

CASE(fault_in_handler_can_be_repaired) {
  // The classic of garbage collectors: the handler makes the page accessible and the instruction
  // runs again.
  static char* page;
  static int faults;
  page = map_pages(1, PROT_NONE);
  struct sigaction action = {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    ++faults;
    if (info->si_addr != page + 5 || mprotect(page, kPage, PROT_READ | PROT_WRITE) != 0) _exit(9);
  };
  REQUIRE(sigaction(SIGSEGV, &action, nullptr) == 0);
  *const_cast<volatile char*>(page + 5) = 'k';
  CHECK_EQ(page[5], 'k');
  CHECK_EQ(faults, 1);
}

CASE(stack_grows_on_demand) {
  rlimit stack = {};
  REQUIRE(getrlimit(RLIMIT_STACK, &stack) == 0);
  volatile char buffer[4 * 1024 * 1024];  // half of the usual 8 MiB, touched from its far end
  for (size_t i = 0; i < sizeof buffer; i += kPage) buffer[sizeof buffer - 1 - i] = 1;
  CHECK_EQ(buffer[sizeof buffer - 1], 1);
}

CASE(stack_overflow_is_a_segv_on_the_alternate_stack) {
  pid_t pid = guest::spawn([] {
    rlimit limit = {256 * 1024, 256 * 1024};
    setrlimit(RLIMIT_STACK, &limit);
    static char alternate[64 * 1024];
    stack_t stack = {};
    stack.ss_sp = alternate;
    stack.ss_size = sizeof alternate;
    sigaltstack(&stack, nullptr);
    struct sigaction action = {};
    action.sa_handler = [](int) { _exit(12); };
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    auto overflow = [](auto&& self, int depth) -> int {
      volatile char frame[1024];
      frame[depth % 1024] = 1;
      return depth == -1 ? 0 : self(self, depth + 1) + frame[0];
    };
    _exit(overflow(overflow, 0) & 1);
  });
  CHECK_EXIT(pid, 12);
}

CASE(stack_overflow_without_an_alternate_stack_kills) {
  pid_t pid = guest::spawn([] {
    rlimit limit = {256 * 1024, 256 * 1024};
    setrlimit(RLIMIT_STACK, &limit);
    signal(SIGSEGV, [](int) { _exit(12); });  // no room for its frame
    auto overflow = [](auto&& self, int depth) -> int {
      volatile char frame[1024];
      frame[depth % 1024] = 1;
      return depth == -1 ? 0 : self(self, depth + 1) + frame[0];
    };
    _exit(overflow(overflow, 0) & 1);
  });
  CHECK_KILLED(pid, SIGSEGV);
}
