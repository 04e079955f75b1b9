// safe_copy is one `rep movsb` between two labels. When it faults, the signal handler moves the
// instruction pointer past it; rcx then still says how many bytes were left. Linux does the same
// in copy_from_user with its exception table.
#include <signal.h>
#include <ucontext.h>

#include <cstdint>
#include <cstring>

#include "src/base/bytes.h"
#include "src/base/check.h"

extern "C" {
extern const char boxrun_safe_copy_begin[];
extern const char boxrun_safe_copy_end[];
extern const char boxrun_safe_zero_begin[];
extern const char boxrun_safe_zero_end[];
extern const char boxrun_safe_load_begin[];
extern const char boxrun_safe_load_end[];
extern const char boxrun_safe_exchange_begin[];
extern const char boxrun_safe_exchange_end[];
extern const char boxrun_safe_compare_begin[];
extern const char boxrun_safe_compare_end[];
}

namespace boxrun {

size_t safe_copy(void* to, const void* from, size_t size) {
  size_t left = size;
  asm volatile(
      ".globl boxrun_safe_copy_begin\n"
      "boxrun_safe_copy_begin:\n"
      "  rep movsb\n"
      ".globl boxrun_safe_copy_end\n"
      "boxrun_safe_copy_end:\n"
      : "+D"(to), "+S"(from), "+c"(left)
      :
      : "memory");
  return size - left;
}

size_t safe_zero(void* to, size_t size) {
  size_t left = size;
  asm volatile(
      ".globl boxrun_safe_zero_begin\n"
      "boxrun_safe_zero_begin:\n"
      "  rep stosb\n"
      ".globl boxrun_safe_zero_end\n"
      "boxrun_safe_zero_end:\n"
      : "+D"(to), "+c"(left)
      : "a"(0)
      : "memory");
  return size - left;
}

// The faulting instruction comes first, so that `done` is only set when it went through.
bool safe_load(const uint32_t* from, uint32_t& value) {
  uint32_t done = 0;
  uint32_t result = value;
  asm volatile(
      ".globl boxrun_safe_load_begin\n"
      "boxrun_safe_load_begin:\n"
      "  movl (%[from]), %[result]\n"
      "  movl $1, %[done]\n"
      ".globl boxrun_safe_load_end\n"
      "boxrun_safe_load_end:\n"
      : [result] "+&r"(result), [done] "+&r"(done)
      : [from] "r"(from)
      : "memory");
  value = result;
  return done != 0;
}

bool safe_exchange(uint32_t* at, uint32_t& value) {
  uint32_t done = 0;
  uint32_t result = value;
  asm volatile(
      ".globl boxrun_safe_exchange_begin\n"
      "boxrun_safe_exchange_begin:\n"
      "  xchgl %[result], (%[at])\n"
      "  movl $1, %[done]\n"
      ".globl boxrun_safe_exchange_end\n"
      "boxrun_safe_exchange_end:\n"
      : [result] "+&r"(result), [done] "+&r"(done)
      : [at] "r"(at)
      : "memory");
  value = result;
  return done != 0;
}

bool safe_compare_exchange(uint32_t* at, uint32_t& expected, uint32_t desired) {
  uint32_t done = 0;
  uint32_t found = expected;
  asm volatile(
      ".globl boxrun_safe_compare_begin\n"
      "boxrun_safe_compare_begin:\n"
      "  lock cmpxchgl %[desired], (%[at])\n"
      "  movl $1, %[done]\n"
      ".globl boxrun_safe_compare_end\n"
      "boxrun_safe_compare_end:\n"
      : "+a"(found), [done] "+&r"(done)
      : [at] "r"(at), [desired] "r"(desired)
      : "memory", "cc");
  expected = found;
  return done != 0;
}

namespace {

bool skip_fault(ucontext_t& context, const char* begin, const char* end) {
  auto& rip = context.uc_mcontext.gregs[REG_RIP];
  if (rip != static_cast<greg_t>(reinterpret_cast<uintptr_t>(begin))) return false;
  rip = static_cast<greg_t>(reinterpret_cast<uintptr_t>(end));
  return true;
}

// What was installed before us: nothing in boxrun, the report of a sanitizer in tests.
struct sigaction before_bus, before_segv;

void on_fault(int signo, siginfo_t*, void* context_pointer) {
  auto& context = *static_cast<ucontext_t*>(context_pointer);
  if (skip_fault(context, boxrun_safe_copy_begin, boxrun_safe_copy_end)) return;
  if (skip_fault(context, boxrun_safe_zero_begin, boxrun_safe_zero_end)) return;
  if (skip_fault(context, boxrun_safe_load_begin, boxrun_safe_load_end)) return;
  if (skip_fault(context, boxrun_safe_exchange_begin, boxrun_safe_exchange_end)) return;
  if (skip_fault(context, boxrun_safe_compare_begin, boxrun_safe_compare_end)) return;
  // Not ours: let the fault happen again without us.
  sigaction(signo, signo == SIGBUS ? &before_bus : &before_segv, nullptr);
}

}  // namespace

void install_fault_handlers() {
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  // Once: a second time would find ourselves.
  static const bool installed = sigaction(SIGBUS, &action, &before_bus) == 0 &&
                                sigaction(SIGSEGV, &action, &before_segv) == 0;
  CHECK(installed);
}

}  // namespace boxrun
