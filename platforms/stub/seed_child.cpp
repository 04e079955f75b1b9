#include "platforms/stub/seed_child.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "platforms/stub/layout.h"

namespace boxrun::platform {

const char* seed_step_name(SeedStep step) {
  switch (step) {
    case SeedStep::kStart:
      return "arm the parent death signal of the first stub";
    case SeedStep::kSession:
      return "give the first stub its own session";
    case SeedStep::kDescriptors:
      return "set up the descriptors of the first stub";
    case SeedStep::kThreadState:
      return "clear the thread state of the first stub";
    case SeedStep::kSignals:
      return "set the signal handlers of the first stub";
    case SeedStep::kLimits:
      return "limit the core dumps of the first stub";
    case SeedStep::kCapabilities:
      return "drop the capabilities of the first stub";
    case SeedStep::kPrivileges:
      return "set no_new_privs in the first stub";
    case SeedStep::kFilter:
      return "install the seccomp filter of the first stub";
  }
  return "start the first stub";
}

namespace {

constexpr uint64_t kSaRestorer = 0x04000000;  // SA_RESTORER: asm/signal.h

[[noreturn]] void fail(int socket, SeedStep step) {
  const uint64_t packet = static_cast<uint64_t>(step) << 32 | static_cast<uint32_t>(errno);
  (void)::syscall(SYS_sendto, socket, &packet, sizeof packet, MSG_NOSIGNAL, nullptr, 0);
  for (;;) ::syscall(SYS_exit_group, 1);
}

// Gives `fd`, which was moved out of the way, its number in the stubs' table.
void place(long fd, int number, int report_to) {
  if (fd < 0 || ::syscall(SYS_dup3, fd, number, O_CLOEXEC) < 0) {
    fail(report_to, SeedStep::kDescriptors);
  }
}

void set_up_descriptors(const SeedChild& plan) {
  // All are moved out of the way first: each may be at the number of another.
  constexpr int kFirstFree = kStubControlFd + 1;
  const long socket = ::syscall(SYS_fcntl, plan.socket, F_DUPFD, kFirstFree);
  if (socket < 0) fail(plan.socket, SeedStep::kDescriptors);
  const int socket_fd = static_cast<int>(socket);
  const bool has_memory = plan.memory_file >= 0;
  const bool has_control = plan.control_file >= 0;
  const long memory = has_memory ? ::syscall(SYS_fcntl, plan.memory_file, F_DUPFD, kFirstFree) : -1;
  const long control =
      has_control ? ::syscall(SYS_fcntl, plan.control_file, F_DUPFD, kFirstFree) : -1;
  if (has_memory) place(memory, kStubMemoryFd, socket_fd);
  if (has_control) place(control, kStubControlFd, socket_fd);
  place(socket_fd, kStubSocketFd, socket_fd);
  if (!has_memory) ::syscall(SYS_close, kStubMemoryFd);
  const unsigned first_closed = has_control ? kFirstFree : kStubControlFd;
  if (::syscall(SYS_close_range, first_closed, ~0U, 0) == 0) return;
  // Linux before 5.9.
  constexpr uint64_t kMany = 1 << 20;
  rlimit limit{};
  ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
  const auto end = static_cast<unsigned>(limit.rlim_cur < kMany ? limit.rlim_cur : kMany);
  for (unsigned fd = first_closed; fd < end; fd++) ::syscall(SYS_close, fd);
}

// The kernel must forget every address of the Sentry before its memory is unmapped.
void clear_thread_state(const SeedChild& plan) {
  constexpr int kRseqUnregister = 1;
  if (plan.rseq_size != 0 &&
      ::syscall(SYS_rseq, plan.rseq_area, plan.rseq_size, kRseqUnregister, RSEQ_SIG) != 0) {
    fail(kStubSocketFd, SeedStep::kThreadState);
  }
  constexpr size_t kRobustListHeadSize = 24;
  if (::syscall(SYS_set_robust_list, nullptr, kRobustListHeadSize) != 0) {
    fail(kStubSocketFd, SeedStep::kThreadState);
  }
  ::syscall(SYS_set_tid_address, nullptr);
  stack_t no_stack{};
  no_stack.ss_flags = SS_DISABLE;
  ::syscall(SYS_sigaltstack, &no_stack, nullptr);
  // A shadow stack that the C library may have turned on would be unmapped, too. Where there is
  // none this fails, as it should.
  constexpr int kShadowStackDisable = 0x5002;  // ARCH_SHSTK_DISABLE
  ::syscall(SYS_arch_prctl, kShadowStackDisable, 1UL);
}

// Those that guest code raises, and the one that interrupts it. Stubs inherit the handlers.
void set_signal_handlers(const SeedChild& plan) {
  if (plan.signal_handler == 0) return;
  struct {  // struct sigaction of the kernel
    uint64_t handler, flags, restorer, mask;
  } action{plan.signal_handler, SA_SIGINFO | SA_ONSTACK | SA_NODEFER | kSaRestorer,
           plan.signal_restorer, 0};
  for (const int signo : {SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, kDoorbell}) {
    if (::syscall(SYS_rt_sigaction, signo, &action, nullptr, sizeof action.mask) != 0) {
      fail(kStubSocketFd, SeedStep::kSignals);
    }
  }
}

void drop_privileges(const SeedChild& plan) {
  // A limit of 1 stops a piped core_pattern, too, which 0 does not (fs/coredump.c).
  const rlimit no_core{1, 1};
  if (::syscall(SYS_prlimit64, 0, RLIMIT_CORE, &no_core, nullptr) != 0) {
    fail(kStubSocketFd, SeedStep::kLimits);
  }
  // Fewer capabilities than the Sentry will have, or it may not trace us (security/commoncap.c).
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2]{};
  if (::syscall(SYS_capset, &header, none) != 0) fail(kStubSocketFd, SeedStep::kCapabilities);
  if (::syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    fail(kStubSocketFd, SeedStep::kPrivileges);
  }
  // Speculation stays as the host has it: without the flag, kernels before 5.16 slow the guest
  // down.
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                &plan.filter) != 0) {
    fail(kStubSocketFd, SeedStep::kFilter);
  }
}

[[noreturn]] void enter_stub_text(const SeedChild& plan) {
  const uint64_t values[] = {
      plan.below,   plan.above,      plan.above_size, plan.message,
      plan.request, plan.descriptor, plan.reply,      static_cast<uint64_t>(plan.sentry),
      plan.page,    plan.entry};
  asm volatile(
      "mov 0(%0), %%rsi\n mov 8(%0), %%r8\n mov 16(%0), %%r9\n mov 24(%0), %%rbx\n"
      "mov 40(%0), %%r13\n mov 48(%0), %%r14\n mov 56(%0), %%r12\n mov 64(%0), %%r15\n"
      "mov 72(%0), %%rcx\n mov 32(%0), %%rbp\n xor %%edi, %%edi\n"
      "jmp *%%rcx\n"
      :
      : "a"(values)
      : "memory");
  __builtin_unreachable();
}

}  // namespace

void run_seed_child(const SeedChild& plan) {
  if (::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 ||
      ::syscall(SYS_getppid) != plan.sentry) {
    fail(plan.socket, SeedStep::kStart);
  }
  if (::syscall(SYS_setsid) < 0) fail(plan.socket, SeedStep::kSession);
  set_up_descriptors(plan);
  clear_thread_state(plan);
  set_signal_handlers(plan);
  drop_privileges(plan);
  enter_stub_text(plan);
}

}  // namespace boxrun::platform
