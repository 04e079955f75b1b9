// Ways into the host kernel that are not the 64-bit `syscall` instruction. What the host would
// answer depends on its configuration, so there is no native run to compare with: under boxrun the
// answers below are the only ones.
#include <elf.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/guest/guest_test.h"

namespace {

constexpr long kI386Getpid = 20, kI386Fork = 2, kI386Write = 4, kI386ExitGroup = 252;
constexpr long kX32Bit = 0x40000000;

long int80(long number, long first = 0, long second = 0, long third = 0) {
  long result = number;
  asm volatile("int $0x80"
               : "+a"(result)
               : "b"(first), "c"(second), "d"(third)
               : "memory", "r8", "r9", "r10", "r11");
  return static_cast<int>(result);
}

long raw_syscall(long number) {
  long result = number;
  asm volatile("syscall" : "+a"(result) : "D"(0), "S"(0), "d"(0) : "rcx", "r11", "memory");
  return result;
}

sigjmp_buf after_fault;

// Calls entry at a vsyscall address; false if that faulted.
template <class Function, class... Args>
bool call_vsyscall(uintptr_t address, long* result, Args... args) {
  struct sigaction action = {}, old = {};
  action.sa_handler = [](int) { siglongjmp(after_fault, 1); };
  sigaction(SIGSEGV, &action, &old);
  bool returned = false;
  if (sigsetjmp(after_fault, 1) == 0) {
    *result = reinterpret_cast<Function>(address)(args...);
    returned = true;
  }
  sigaction(SIGSEGV, &old, nullptr);
  return returned;
}

}  // namespace

CASE(int80_is_not_there) {
  CHECK_EQ(int80(kI386Getpid), -ENOSYS);
  CHECK_EQ(int80(kI386Fork), -ENOSYS);
  CHECK_ERRNO(wait(nullptr), ECHILD);
  CHECK_EQ(int80(kI386Write, 1, 0, 0), -ENOSYS);
  CHECK_EQ(int80(kI386ExitGroup, 7), -ENOSYS);
  CHECK_EQ(int80(-1), -ENOSYS);
  CHECK_EQ(syscall(SYS_getppid), getppid());  // and the ordinary way still works
}

CASE(x32_is_not_there) {
  CHECK_EQ(raw_syscall(kX32Bit | SYS_getpid), -ENOSYS);
  CHECK_EQ(raw_syscall(kX32Bit | SYS_fork), -ENOSYS);
  CHECK_ERRNO(wait(nullptr), ECHILD);
  CHECK_EQ(raw_syscall(kX32Bit | 512), -ENOSYS);
  CHECK_EQ(raw_syscall(kX32Bit | SYS_exit_group), -ENOSYS);
}

CASE(compatibility_mode) {
  // A far jump to the 32-bit code segment, int 0x80 there, and back through a stub below 4 GiB,
  // since a 32-bit far return cannot name an address above. Dying of a signal is as good an answer
  // as ENOSYS.
  pid_t pid = fork();
  if (pid == 0) {
    auto* code = static_cast<unsigned char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
    if (code == MAP_FAILED) _exit(2);
    const unsigned char kCompat[] = {0xb8, 20,   0,    0,
                                     0,    0xcd, 0x80, 0xcb};  // mov $20,%eax; int $0x80; lret
    const unsigned char kBack[] = {0x41, 0xff, 0xe5};          // jmp *%r13
    memcpy(code, kCompat, sizeof kCompat);
    memcpy(code + 64, kBack, sizeof kBack);
    unsigned char* stack = code + 4000;
    const uint32_t far_return[2] = {static_cast<uint32_t>(reinterpret_cast<uintptr_t>(code + 64)),
                                    0x33};
    memcpy(stack, far_return, sizeof far_return);
    long result = 0;
    asm volatile(
        "mov %%rsp, %%r12\n"
        "lea 1f(%%rip), %%r13\n"
        "mov %[stack], %%rsp\n"
        "pushq $0x23\n"
        "pushq %[code]\n"
        "lretq\n"
        "1: mov %%r12, %%rsp\n"
        : "=a"(result)
        : [stack] "r"(stack), [code] "r"(code)
        : "r12", "r13", "rcx", "r11", "memory", "cc");
    _exit(static_cast<int>(result) == -ENOSYS ? 0 : 1);
  }
  int status = guest::wait_for(pid);
  CHECK(status == 0 || WIFSIGNALED(status));
}

CASE(vsyscall_page_never_reaches_the_host) {
  // Executing it is either emulated with the sandbox's own answers or a fault; reading it is a
  // fault.
  long result = -1;
  if (call_vsyscall<long (*)(long*)>(0xffffffffff600400, &result, static_cast<long*>(nullptr))) {
    CHECK(labs(result - static_cast<long>(time(nullptr))) <= 2);
  }
  struct sigaction action = {};
  action.sa_handler = [](int) { siglongjmp(after_fault, 1); };
  sigaction(SIGSEGV, &action, nullptr);
  volatile bool read_it = false;
  if (sigsetjmp(after_fault, 1) == 0) {
    (void)*reinterpret_cast<volatile char*>(0xffffffffff600000);
    read_it = true;
  }
  CHECK(!read_it);
}

CASE(elf32_is_not_executed) {
  Elf32_Ehdr header = {};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS32;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = EM_386;
  header.e_version = EV_CURRENT;
  header.e_ehsize = sizeof header;
  header.e_phentsize = sizeof(Elf32_Phdr);
  REQUIRE(guest::write_file(
      "program",
      std::string(reinterpret_cast<char*>(&header), sizeof header) + std::string(200, '\0')));
  REQUIRE(chmod("program", 0755) == 0);
  const char* argv[] = {"program", nullptr};
  CHECK_ERRNO(execv("./program", const_cast<char**>(argv)), ENOEXEC);
}

CASE(io_ports_and_ldt) {
  CHECK(syscall(SYS_iopl, 3) == -1);
  CHECK(syscall(SYS_ioperm, 0, 8, 1) == -1);
  CHECK(syscall(SYS_modify_ldt, 0, nullptr, 0) == -1);
}
