// The frame of a handler: what sigreturn restores, alternate stacks, vector state, nested handlers.
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "tests/guest/guest_test.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

namespace {

void install(int signo, void (*handler)(int, siginfo_t*, void*), int flags = 0) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  REQUIRE(sigaction(signo, &action, nullptr) == 0);
}

bool on_stack(const char* base, size_t size, const void* address) {
  return address >= base && address < base + size;
}

constexpr size_t kStackSize = 64 * 1024;
alignas(16) char alternate[kStackSize];

// Sends SIGUSR1 to this thread by a bare system call and returns the registers that a call must
// preserve.
struct Registers {
  uint64_t rbx, r12, r13, r14, r15, r8, r9, r10;
};

Registers registers_across_a_signal() {
  static Registers after;  // static: reached relative to rip, whatever the registers hold
  const long pid = getpid(), tid = syscall(SYS_gettid);
  long rax = SYS_tgkill, rdi = pid, rsi = tid, rdx = SIGUSR1;
  register long r8 asm("r8") = 0x8888;
  register long r9 asm("r9") = 0x9999;
  register long r10 asm("r10") = 0xaaaa;
  asm volatile(
      "mov $0x1b, %%rbx\n mov $0x12, %%r12\n mov $0x13, %%r13\n mov $0x14, %%r14\n mov $0x15, "
      "%%r15\n"
      "syscall\n"
      "mov %%rbx, %[rbx]\n mov %%r12, %[r12]\n mov %%r13, %[r13]\n mov %%r14, %[r14]\n mov %%r15, "
      "%[r15]\n"
      : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r8), "+r"(r9),
        "+r"(r10), [rbx] "=m"(after.rbx), [r12] "=m"(after.r12), [r13] "=m"(after.r13),
        [r14] "=m"(after.r14), [r15] "=m"(after.r15)
      :
      : "rbx", "r12", "r13", "r14", "r15", "rcx", "r11", "memory", "cc");
  after.r8 = static_cast<uint64_t>(r8);
  after.r9 = static_cast<uint64_t>(r9);
  after.r10 = static_cast<uint64_t>(r10);
  CHECK_EQ(rax, 0);
  CHECK_EQ(rdi, pid);
  CHECK_EQ(rsi, tid);
  CHECK_EQ(rdx, SIGUSR1);
  return after;
}

}  // namespace

CASE(general_registers_are_restored) {
  install(SIGUSR1, [](int, siginfo_t*, void*) {
    // A handler that leaves garbage in every register it may use.
    asm volatile("" ::: "rbx", "r12", "r13", "r14", "r15");
    volatile double noise = 1.5;
    noise = noise * 3;
  });
  Registers after = registers_across_a_signal();
  CHECK_EQ(after.rbx, 0x1b);
  CHECK_EQ(after.r12, 0x12);
  CHECK_EQ(after.r13, 0x13);
  CHECK_EQ(after.r14, 0x14);
  CHECK_EQ(after.r15, 0x15);
  CHECK_EQ(after.r8, 0x8888);
  CHECK_EQ(after.r9, 0x9999);
  CHECK_EQ(after.r10, 0xaaaa);
}

CASE(the_handler_may_change_registers) {
  install(SIGUSR1, [](int, siginfo_t*, void* context) {
    auto* frame = static_cast<ucontext_t*>(context);
    CHECK_EQ(frame->uc_mcontext.gregs[REG_RBX], 0x1b);
    CHECK_EQ(frame->uc_mcontext.gregs[REG_RAX], 0);  // the result of the interrupted call
    frame->uc_mcontext.gregs[REG_RBX] = 0x77;
    frame->uc_mcontext.gregs[REG_R8] = 0x78;
  });
  Registers after = registers_across_a_signal();
  CHECK_EQ(after.rbx, 0x77);
  CHECK_EQ(after.r8, 0x78);
}

CASE(the_handler_may_skip_an_instruction) {
  install(SIGILL, [](int, siginfo_t* info, void* context) {
    auto* frame = static_cast<ucontext_t*>(context);
    CHECK(info->si_addr == reinterpret_cast<void*>(frame->uc_mcontext.gregs[REG_RIP]));
    frame->uc_mcontext.gregs[REG_RIP] += 2;  // ud2
  });
  int reached = 0;
  asm volatile("ud2\n mov $1, %0" : "=r"(reached));
  CHECK_EQ(reached, 1);
}

CASE(the_mask_in_the_frame_is_restored) {
  install(SIGUSR1, [](int, siginfo_t*, void* context) {
    auto* frame = static_cast<ucontext_t*>(context);
    CHECK(!sigismember(&frame->uc_sigmask, SIGUSR2));
    sigaddset(&frame->uc_sigmask, SIGUSR2);
    sigaddset(&frame->uc_sigmask, SIGKILL);
  });
  raise(SIGUSR1);
  sigset_t now;
  sigprocmask(SIG_BLOCK, nullptr, &now);
  CHECK(sigismember(&now, SIGUSR2));
  CHECK(!sigismember(&now, SIGUSR1));
  CHECK(!sigismember(&now, SIGKILL));
}

CASE(flags_of_the_processor) {
  // The direction flag is cleared for the handler and set again after it.
  static unsigned long inside;
  install(SIGUSR1, [](int, siginfo_t*, void*) { asm volatile("pushfq\n pop %0" : "=r"(inside)); });
  long rax = SYS_tgkill, after;
  asm volatile("std\n syscall\n pushfq\n pop %1\n cld"
               : "+a"(rax), "=r"(after)
               : "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(SIGUSR1)
               : "rcx", "r11", "memory", "cc");
  CHECK_EQ(inside & 0x400, 0);
  CHECK_EQ(after & 0x400, 0x400);
}

CASE(red_zone_is_respected) {
  install(SIGUSR1, [](int, siginfo_t*, void*) {
    volatile char noise[2048];
    for (size_t i = 0; i < sizeof noise; ++i) noise[i] = 0x5a;
  });
  uint64_t value = 0;
  long rax = SYS_tgkill;
  asm volatile(
      "movabs $0x1122334455667788, %%rcx\n mov %%rcx, -128(%%rsp)\n"
      "syscall\n mov -128(%%rsp), %1"
      : "+a"(rax), "=r"(value)
      : "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(SIGUSR1)
      : "rcx", "r11", "memory");
  CHECK_EQ(value, 0x1122334455667788);
}

CASE(sse_state_and_control_words_are_preserved) {
  install(SIGUSR1, [](int, siginfo_t*, void*) {
    unsigned int control = 0;
    asm volatile("stmxcsr %0" : "=m"(control));
    CHECK_EQ(control, 0x1f80u);  // a handler starts with the initial control word
    control = 0x1f80;
    asm volatile("ldmxcsr %0" ::"m"(control));
    asm volatile("pxor %%xmm6, %%xmm6" ::: "xmm6");
  });
  unsigned int control = 0x3f80;  // rounding down
  asm volatile("ldmxcsr %0" ::"m"(control));
  uint64_t low = 0x0123456789abcdef, back = 0;
  long rax = SYS_tgkill;
  asm volatile("movq %2, %%xmm6\n syscall\n movq %%xmm6, %1"
               : "+a"(rax), "=r"(back)
               : "r"(low), "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(SIGUSR1)
               : "rcx", "r11", "memory", "xmm6");
  asm volatile("stmxcsr %0" : "=m"(control));
  CHECK_EQ(back, low);
  CHECK_EQ(control & 0xffc0u, 0x3f80u);
}

__attribute__((target("avx"))) static void avx_across_a_signal() {
  alignas(32) unsigned char in[32], out[32] = {};
  for (int i = 0; i < 32; ++i) in[i] = static_cast<unsigned char>(i * 7 + 1);
  long rax = SYS_tgkill;
  asm volatile("vmovdqa (%1), %%ymm7\n syscall\n vmovdqa %%ymm7, (%2)"
               : "+a"(rax)
               : "r"(in), "r"(out), "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(SIGUSR1)
               : "rcx", "r11", "memory", "xmm7");
  CHECK_EQ(memcmp(in, out, 32), 0);
}

CASE(avx_state_is_preserved) {
  if (!__builtin_cpu_supports("avx")) return;
  install(SIGUSR1, [](int, siginfo_t*, void* context) {
    auto* frame = static_cast<ucontext_t*>(context);
    CHECK(frame->uc_mcontext.fpregs != nullptr);
    // XSAVE layout: software bytes at 464 carry FP_XSTATE_MAGIC1 when extended state follows.
    uint32_t magic = 0;
    memcpy(&magic, reinterpret_cast<char*>(frame->uc_mcontext.fpregs) + 464, 4);
    CHECK_EQ(magic, 0x46505853u);
    asm volatile("vzeroall" ::: "xmm7");
  });
  avx_across_a_signal();
}

CASE(x87_state_is_preserved) {
  install(SIGUSR1, [](int, siginfo_t*, void*) { asm volatile("fninit\n fld1\n fld1\n fld1"); });
  double result = 0;
  long rax = SYS_tgkill;
  asm volatile("fldpi\n syscall\n fstpl %1"
               : "+a"(rax), "=m"(result)
               : "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(SIGUSR1)
               : "rcx", "r11", "memory");
  CHECK(result > 3.14159 && result < 3.1416);
}

CASE(alternate_stack_is_used_only_on_request) {
  stack_t stack = {};
  stack.ss_sp = alternate;
  stack.ss_size = kStackSize;
  CHECK_OK(sigaltstack(&stack, nullptr));
  static bool used;
  auto probe = [](int, siginfo_t*, void*) {
    char local;
    used = on_stack(alternate, kStackSize, &local);
  };
  install(SIGUSR1, probe);
  raise(SIGUSR1);
  CHECK(!used);
  install(SIGUSR1, probe, static_cast<int>(SA_ONSTACK));
  raise(SIGUSR1);
  CHECK(used);
}

CASE(sigaltstack_reports_and_refuses) {
  stack_t stack = {}, now = {};
  CHECK_OK(sigaltstack(nullptr, &now));
  CHECK_EQ(now.ss_flags, SS_DISABLE);
  stack.ss_sp = alternate;
  stack.ss_size = kStackSize;
  stack.ss_flags = 0x40;
  CHECK_ERRNO(sigaltstack(&stack, nullptr), EINVAL);
  stack.ss_flags = 0;
  stack.ss_size = 1000;
  CHECK_ERRNO(sigaltstack(&stack, nullptr), ENOMEM);
  stack.ss_size = kStackSize;
  CHECK_OK(sigaltstack(&stack, nullptr));
  static int flags, change, change_errno;
  install(
      SIGUSR1,
      [](int, siginfo_t*, void* context) {
        stack_t inside = {};
        sigaltstack(nullptr, &inside);
        flags = inside.ss_flags;
        inside.ss_flags = 0;
        change = sigaltstack(&inside, nullptr);
        change_errno = errno;
        auto* frame = static_cast<ucontext_t*>(context);
        CHECK(frame->uc_stack.ss_sp == alternate);
        CHECK_EQ(frame->uc_stack.ss_size, kStackSize);
        CHECK_EQ(frame->uc_stack.ss_flags, 0);
      },
      static_cast<int>(SA_ONSTACK));
  raise(SIGUSR1);
  CHECK_EQ(flags, SS_ONSTACK);
  CHECK_EQ(change, -1);
  CHECK_EQ(change_errno, EPERM);
  stack.ss_flags = SS_DISABLE;
  CHECK_OK(sigaltstack(&stack, &now));
  CHECK_EQ(now.ss_flags, 0);
}

CASE(autodisarm) {
  stack_t stack = {}, now = {};
  stack.ss_sp = alternate;
  stack.ss_size = kStackSize;
  stack.ss_flags = static_cast<int>(SS_AUTODISARM);
  CHECK_OK(sigaltstack(&stack, nullptr));
  static int inside_flags;
  install(
      SIGUSR1,
      [](int, siginfo_t*, void*) {
        stack_t inside = {};
        sigaltstack(nullptr, &inside);
        inside_flags = inside.ss_flags;
      },
      static_cast<int>(SA_ONSTACK));
  raise(SIGUSR1);
  CHECK_EQ(inside_flags, SS_DISABLE);
  CHECK_OK(sigaltstack(nullptr, &now));
  CHECK_EQ(now.ss_flags, static_cast<int>(SS_AUTODISARM));  // armed again by sigreturn
}

CASE(nested_handlers_unwind_in_order) {
  static std::string* order;
  std::string text;
  order = &text;
  install(SIGUSR2, [](int, siginfo_t*, void*) { *order += "2"; });
  install(SIGUSR1, [](int, siginfo_t*, void*) {
    *order += "(";
    raise(SIGUSR2);
    *order += ")";
  });
  raise(SIGUSR1);
  CHECK_EQ(text, "(2)");
}

CASE(several_pending_signals_stack_their_frames) {
  // All frames are built before the first handler instruction: the last one built runs first.
  static std::string* order;
  std::string text;
  order = &text;
  install(SIGUSR1, [](int, siginfo_t*, void*) { *order += "1"; });
  install(SIGUSR2, [](int, siginfo_t*, void*) { *order += "2"; });
  sigset_t both, old;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  sigprocmask(SIG_BLOCK, &both, &old);
  raise(SIGUSR1);
  raise(SIGUSR2);
  sigprocmask(SIG_SETMASK, &old, nullptr);
  CHECK_EQ(text, "21");
}

CASE(a_frame_that_cannot_be_written_is_fatal) {
  pid_t pid = guest::spawn([] {
    void* pages = mmap(nullptr, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = {};
    stack.ss_sp = pages;
    stack.ss_size = 65536;
    sigaltstack(&stack, nullptr);
    install(
        SIGUSR1, [](int, siginfo_t*, void*) { _exit(3); }, static_cast<int>(SA_ONSTACK));
    raise(SIGUSR1);
  });
  CHECK_KILLED(pid, SIGSEGV);
}

CASE(sigreturn_with_a_bad_frame_is_fatal) {
  pid_t pid = guest::spawn([] {
    asm volatile("mov $16, %%rsp\n mov $15, %%eax\n syscall" ::: "memory");
  });
  CHECK_KILLED(pid, SIGSEGV);
}
