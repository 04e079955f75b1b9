// Signals raised by instructions: number, si_code, si_addr.
#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "tests/guest/guest_test.h"

namespace {

sigjmp_buf resume;
siginfo_t info;
greg_t rip;
greg_t trap_number;
greg_t error_code;

// Runs body, which must raise signo; the siginfo and the registers are kept for the checks.
template <class Body>
bool raises(int signo, Body body) {
  struct sigaction action = {};
  action.sa_sigaction = [](int, siginfo_t* received, void* context) {
    info = *received;
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    rip = registers[REG_RIP];
    trap_number = registers[REG_TRAPNO];
    error_code = registers[REG_ERR];
    siglongjmp(resume, 1);
  };
  action.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(signo, &action, nullptr) == 0);
  if (sigsetjmp(resume, 1) == 0) {
    body();
    return false;
  }
  return info.si_signo == signo;
}

}  // namespace

CASE(integer_division) {
  CHECK(raises(SIGFPE, [] {
    asm volatile("xor %%edx, %%edx\n mov $1, %%eax\n xor %%ecx, %%ecx\n idiv %%ecx" ::
                     : "eax", "ecx", "edx", "cc");
  }));
  CHECK_EQ(info.si_code, FPE_INTDIV);
  CHECK(info.si_addr == reinterpret_cast<void*>(rip));
  CHECK_EQ(trap_number, 0);
  CHECK(raises(SIGFPE, [] {  // INT_MIN / -1 overflows: the same trap, the same code
    asm volatile("mov $0x80000000, %%eax\n cdq\n mov $-1, %%ecx\n idiv %%ecx" ::
                     : "eax", "ecx", "edx", "cc");
  }));
  CHECK_EQ(info.si_code, FPE_INTDIV);
}

CASE(floating_point) {
  CHECK(raises(SIGFPE, [] {
    unsigned int control = 0x1f80 & ~0x200u;  // unmask division by zero
    asm volatile("ldmxcsr %0" ::"m"(control));
    volatile double zero = 0, one = 1;
    one = one / zero;
  }));
  CHECK_EQ(info.si_code, FPE_FLTDIV);
  CHECK(info.si_addr == reinterpret_cast<void*>(rip));
  CHECK_EQ(trap_number, 19);
  CHECK(raises(SIGFPE, [] {
    unsigned int control = 0x1f80 & ~0x80u;  // unmask invalid operation
    asm volatile("ldmxcsr %0" ::"m"(control));
    volatile double zero = 0;
    zero = zero / zero;
  }));
  CHECK_EQ(info.si_code, FPE_FLTINV);
}

CASE(illegal_instruction) {
  CHECK(raises(SIGILL, [] { asm volatile("ud2"); }));
  CHECK_EQ(info.si_code, ILL_ILLOPN);
  CHECK(info.si_addr == reinterpret_cast<void*>(rip));
  CHECK_EQ(trap_number, 6);
}

CASE(privileged_instruction) {
  CHECK(raises(SIGSEGV, [] { asm volatile("hlt"); }));
  CHECK_EQ(info.si_code, SI_KERNEL);
  CHECK(info.si_addr == nullptr);
  CHECK_EQ(trap_number, 13);
  CHECK(raises(SIGSEGV, [] { asm volatile("out %%al, $0x80" ::: "memory"); }));
  CHECK(raises(SIGSEGV, [] { asm volatile("cli"); }));
}

CASE(breakpoint) {
  CHECK(raises(SIGTRAP, [] { asm volatile("int3"); }));
  CHECK_EQ(info.si_code, SI_KERNEL);
  CHECK_EQ(trap_number, 3);
  // rip is behind the int3: a handler that returns goes on there.
  static int traps;
  struct sigaction action = {};
  action.sa_handler = [](int) { ++traps; };
  sigaction(SIGTRAP, &action, nullptr);
  asm volatile("int3\n nop\n int3");
  CHECK_EQ(traps, 2);
}

CASE(single_step) {
  // Setting TF in the flags traps after the next instruction.
  CHECK(raises(SIGTRAP, [] {
    asm volatile("pushfq\n orl $0x100, (%%rsp)\n popfq\n nop\n nop" ::: "memory", "cc");
  }));
  CHECK_EQ(info.si_code, TRAP_TRACE);
  CHECK(info.si_addr == reinterpret_cast<void*>(rip));
}

CASE(page_fault_details) {
  CHECK(raises(SIGSEGV, [] { *reinterpret_cast<volatile int*>(0x1234) = 1; }));
  CHECK_EQ(info.si_code, SEGV_MAPERR);
  CHECK(info.si_addr == reinterpret_cast<void*>(0x1234));
  CHECK_EQ(trap_number, 14);
  CHECK_EQ(error_code, 6);  // user, write, not present
  CHECK(raises(SIGSEGV, [] { (void)*reinterpret_cast<volatile int*>(0x1234); }));
  CHECK_EQ(error_code, 4);
  CHECK(raises(SIGSEGV, [] { reinterpret_cast<void (*)()>(0x1234)(); }));
  CHECK(info.si_addr == reinterpret_cast<void*>(0x1234));
  CHECK(rip == 0x1234);
}

CASE(write_to_a_read_only_page) {
  void* page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  (void)*static_cast<volatile char*>(page);
  CHECK(raises(SIGSEGV, [page] { *static_cast<volatile char*>(page) = 1; }));
  CHECK_EQ(info.si_code, SEGV_ACCERR);
  CHECK(info.si_addr == page);
}

CASE(bus_error_beyond_the_end_of_a_file) {
  REQUIRE(guest::write_file("file", "short"));
  int fd = open("file", O_RDWR);
  char* mapped =
      static_cast<char*>(mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  REQUIRE(mapped != MAP_FAILED);
  CHECK_EQ(mapped[4], 't');
  CHECK_EQ(mapped[5], 0);
  CHECK(raises(SIGBUS, [mapped] { (void)*const_cast<volatile char*>(mapped + 4096 + 7); }));
  CHECK_EQ(info.si_code, BUS_ADRERR);
  CHECK(info.si_addr == mapped + 4096 + 7);
  CHECK_OK(ftruncate(fd, 4096 + 10));
  mapped[4096 + 7] = 'x';
  CHECK(raises(SIGBUS, [mapped] { mapped[2 * 4096] = 1; }));
  CHECK_OK(ftruncate(fd, 10));
  CHECK(raises(SIGBUS, [mapped] { (void)*const_cast<volatile char*>(mapped + 4096 + 7); }));
}

CASE(alignment_check) {
  // With AC set in the flags an unaligned access raises SIGBUS; the handler would run with AC still
  // set, hence none.
  alignas(16) static char bytes[16];
  pid_t pid = guest::spawn([] {
    asm volatile("pushfq\n orl $0x40000, (%%rsp)\n popfq\n movl 1(%0), %%eax" ::"r"(bytes)
                 : "eax", "memory", "cc");
  });
  CHECK_KILLED(pid, SIGBUS);
}

CASE(a_blocked_fault_is_fatal) {
  pid_t pid = guest::spawn([] {
    sigset_t segv;
    sigemptyset(&segv);
    sigaddset(&segv, SIGSEGV);
    signal(SIGSEGV, [](int) { _exit(3); });
    sigprocmask(SIG_BLOCK, &segv, nullptr);
    *reinterpret_cast<volatile int*>(8) = 1;
  });
  CHECK_KILLED(pid, SIGSEGV);
}

CASE(an_ignored_fault_is_fatal) {
  pid_t pid = guest::spawn([] {
    signal(SIGFPE, SIG_IGN);
    asm volatile("xor %%edx, %%edx\n xor %%ecx, %%ecx\n idiv %%ecx" ::: "eax", "ecx", "edx", "cc");
  });
  CHECK_KILLED(pid, SIGFPE);
}

CASE(a_fault_in_the_handler_of_the_same_fault_is_fatal) {
  pid_t pid = guest::spawn([] {
    signal(SIGSEGV, [](int) { *reinterpret_cast<volatile int*>(8) = 1; });
    *reinterpret_cast<volatile int*>(8) = 1;
  });
  CHECK_KILLED(pid, SIGSEGV);
}

CASE(a_sent_sigsegv_is_an_ordinary_signal) {
  static siginfo_t received;
  struct sigaction action = {};
  action.sa_sigaction = [](int, siginfo_t* sent, void*) { received = *sent; };
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  kill(getpid(), SIGSEGV);
  CHECK_EQ(received.si_code, SI_USER);
  CHECK_EQ(received.si_pid, getpid());
  signal(SIGSEGV, SIG_IGN);
  kill(getpid(), SIGSEGV);
}

CASE(faults_in_system_calls_are_errors_not_signals) {
  signal(SIGSEGV, [](int) { _exit(3); });
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK_ERRNO(syscall(SYS_write, ends[1], 8, 4), EFAULT);
  CHECK_ERRNO(syscall(SYS_uname, 8), EFAULT);
  CHECK_ERRNO(syscall(SYS_pipe2, 8, 0), EFAULT);
  CHECK_ERRNO(syscall(SYS_getrlimit, RLIMIT_NOFILE, 8), EFAULT);
}
