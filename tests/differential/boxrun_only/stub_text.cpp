// A guest that attacks what a stub process contains besides guest memory: pages of text
// and of calls near the top of the address space (platforms/stub/layout.h). Whatever it does there
// it does to itself.
#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"

namespace {

constexpr uintptr_t kUserEnd = 0x7ffffffff000;
constexpr uintptr_t kPage = 4096;
constexpr uintptr_t kSearched = 64 << 20;  // below the end of user addresses
constexpr int kFault = 100, kTrap = 101, kTimer = 102, kForeign = 103;

sigjmp_buf after_fault;

bool readable(uintptr_t address) {
  if (sigsetjmp(after_fault, 1) != 0) return false;
  (void)*reinterpret_cast<volatile char*>(address);
  return true;
}

// Where the guest's own mappings end.
uintptr_t own_end() {
  uintptr_t end = 0;
  const std::string maps = guest::read_file("/proc/self/maps");
  for (size_t line = 0; line < maps.size(); line = maps.find('\n', line) + 1) {
    const uintptr_t to = strtoul(maps.c_str() + maps.find('-', line) + 1, nullptr, 16);
    if (to <= kUserEnd && to > end) end = to;
  }
  return end;
}

// The lowest readable page that is not the guest's own; 0: there is none.
uintptr_t find_stub() {
  struct sigaction action = {};
  action.sa_handler = [](int) { siglongjmp(after_fault, 1); };
  sigaction(SIGSEGV, &action, nullptr);
  uintptr_t found = 0;
  const uintptr_t end = own_end();
  for (uintptr_t page = kUserEnd - kPage; page >= end && page > kUserEnd - kSearched;
       page -= kPage) {
    if (readable(page)) found = page;
  }
  signal(SIGSEGV, SIG_DFL);
  return found;
}

long expected_pid = 0;

// Where the jump ended. Right behind a system call, rax is its answer: the sandbox's own number of
// this process, an error, or what the jump left there when it went past the call; the host's number
// would be another.
void on_end(int signo, siginfo_t*, void* context) {
  const auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const long long rax = registers[REG_RAX];
  if (signo == SIGALRM) _exit(kTimer);
  if (signo != SIGTRAP) _exit(kFault);
  const auto* behind = reinterpret_cast<const unsigned char*>(registers[REG_RIP]);  // of the int3
  const bool answered = behind[-3] == 0x0f && behind[-2] == 0x05;
  _exit(answered && rax != expected_pid && rax != SYS_getpid && (rax >= 0 || rax < -4095) ? kForeign
                                                                                          : kTrap);
}

// Jumps with registers that suit the text's own loops: a list of calls at rbx, a request at rbp.
[[noreturn]] void jump(uintptr_t target, void* area) {
  struct sigaction action = {};
  action.sa_sigaction = on_end;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  static char stack[65536];
  const stack_t alternate = {stack, 0, sizeof stack};
  sigaltstack(&alternate, nullptr);
  for (const int signo : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGALRM}) {
    sigaction(signo, &action, nullptr);
  }
  const itimerval soon = {{0, 5000}, {0, 5000}};
  setitimer(ITIMER_REAL, &soon, nullptr);
  asm volatile(
      "mov %%rdx, %%rbx\n mov %%rdx, %%r13\n mov %%rdx, %%r14\n mov %%rdx, %%rbp\n"
      "mov $1, %%r12d\n mov $39, %%eax\n xor %%edi, %%edi\n xor %%esi, %%esi\n xor %%edx, %%edx\n"
      "jmp *%%rcx\n"
      :
      : "d"(area), "c"(target)
      : "memory");
  __builtin_unreachable();
}

}  // namespace

CASE(jumps_to_every_byte_of_the_stub) {
  const uintptr_t base = find_stub();
  REQUIRE(base != 0);
  auto* area = static_cast<char*>(
      mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(area != MAP_FAILED);
  // Another process, that goes on the whole time.
  int to_other[2], from_other[2];
  REQUIRE(pipe(to_other) == 0 && pipe(from_other) == 0);
  const pid_t other = fork();
  if (other == 0) {
    char c = 0;
    close(to_other[1]);
    while (read(to_other[0], &c, 1) == 1) (void)!write(from_other[1], &c, 1);
    _exit(0);
  }
  int traps = 0;
  // The text and the start of the page behind it, which is not executable.
  for (uintptr_t target = base; target < base + 512; target++) {
    const pid_t child = fork();
    if (child == 0) {
      expected_pid = getpid();
      jump(target, area);
    }
    const int status = guest::wait_for(child);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    // exit(0) and exit_group(0) are in the text, too: they end the child alone.
    if (code != kFault && code != kTrap && code != kTimer && code != 0) {
      guest::fail(__FILE__, __LINE__, "a jump to byte %zu: %s", static_cast<size_t>(target - base),
                  guest::status_text(status).c_str());
    }
    if (code == kTrap) traps++;
    char c = 'x';
    if (target % 64 == 0) {
      CHECK(write(to_other[1], &c, 1) == 1 && read(from_other[0], &c, 1) == 1 && c == 'x');
    }
  }
  CHECK(traps > 0);  // some jumps did reach the text's own system calls
  close(to_other[1]);
  CHECK_EQ(guest::wait_for(other), 0);
}

CASE(pages_of_the_stub_cannot_be_changed) {
  const uintptr_t base = find_stub();
  REQUIRE(base != 0);
  for (uintptr_t page = base; page < base + 2 * kPage; page += kPage) {
    const pid_t child = fork();
    if (child == 0) {
      *reinterpret_cast<volatile char*>(page) = 0;
      _exit(0);
    }
    const int status = guest::wait_for(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    void* const at = reinterpret_cast<void*>(page);
    // It is not among the guest's addresses, whatever the call.
    CHECK_ERRNO(mprotect(at, kPage, PROT_READ | PROT_WRITE), ENOMEM);
    CHECK(mmap(at, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
          MAP_FAILED);
    (void)munmap(at, kPage);
    CHECK(readable(page));
  }
}
