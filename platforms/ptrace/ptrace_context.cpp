#include "platforms/ptrace/ptrace_context.h"

#include <linux/audit.h>
#include <linux/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

namespace boxrun::platform {
namespace {

constexpr uint64_t kX32Bit = 0x40000000;  // __X32_SYSCALL_BIT
constexpr uint64_t kVsyscallPage = 0xffffffffff600000;
constexpr uint64_t kUserCode = 0x33;
constexpr uint64_t kUserData = 0x2b;

// Makes the host accept registers that a guest may have made up in a signal frame: PTRACE_SETREGS
// refuses these with EIO where Linux's sigreturn(2) and arch_prctl(2) could not have set them.
Registers acceptable(const Registers& from) {
  Registers r = from;
  const auto user_selector = [](uint64_t s) { return s <= 0xffff && (s & 3) == 3; };
  if (!user_selector(r.cs)) r.cs = kUserCode;
  if (!user_selector(r.ss)) r.ss = kUserData;
  for (uint64_t* s : {&r.ds, &r.es, &r.fs, &r.gs}) {
    if (!user_selector(*s)) *s = 0;
  }
  if (r.fs_base >= kUserEnd) r.fs_base = 0;
  if (r.gs_base >= kUserEnd) r.gs_base = 0;
  r.orig_rax = UINT64_MAX;  // the host must not restart a system call of its own
  return r;
}

}  // namespace

PtraceContext::~PtraceContext() { leave(); }

Stop PtraceContext::run(AddressSpace& address_space, CpuState& cpu) {
  const Ref<StubProcess>& process = static_cast<PtraceAddressSpace&>(address_space).process();
  if (process != process_ && !move_to(process, cpu).ok()) return {.why = Why::kLost};
  doorbell_.set_running(true);
  Result<Stop> stop = run_until_stop(cpu);
  doorbell_.set_running(false);
  if (stop.ok()) return *stop;
  process_->kill();
  cpu.stopped(*this);
  return {.why = Why::kLost};
}

Result<void> PtraceContext::move_to(const Ref<StubProcess>& process, CpuState& cpu) {
  if (thread_ != nullptr) {
    // The state that the caller did not replace moves along.
    cpu.registers_for_write();
    cpu.xstate_for_write();
  }
  leave();
  thread_ = TRY(process->attach());
  process_ = process;
  pair_.enter(thread_->thread());
  doorbell_.attach(thread_->process(), thread_->thread());
  return {};
}

void PtraceContext::leave() {
  if (thread_ == nullptr) return;
  doorbell_.detach();
  pair_.leave();
  process_->detach(std::move(thread_));
  process_ = nullptr;
}

Result<void> PtraceContext::write_back(CpuState& cpu) {
  if (cpu.registers_dirty()) {
    TRY(thread_->set_registers(acceptable(cpu.registers())));
  } else if (cpu.result_dirty()) {
    TRY(thread_->set_result(cpu.result()));
  }
  if (cpu.xstate_dirty()) TRY(thread_->set_xstate(cpu.xstate()));
  cpu.written();
  return {};
}

Result<Stop> PtraceContext::run_until_stop(CpuState& cpu) {
  if (doorbell_.answer()) return Stop{.why = Why::kInterrupted};
  TRY(write_back(cpu));
  for (;;) {
    pair_.guest_runs();
    const int status = TRY(thread_->resume_guest());
    pair_.guest_stopped();
    if (std::optional<Stop> stop = TRY(handle_stop(status, cpu))) return *stop;
  }
}

Result<std::optional<Stop>> PtraceContext::handle_stop(int status, CpuState& cpu) {
  constexpr int kSyscallStop = SIGTRAP | 0x80;  // PTRACE_O_TRACESYSGOOD
  if (!WIFSTOPPED(status) || status >> 16 == PTRACE_EVENT_STOP) return std::optional<Stop>();
  if (WSTOPSIG(status) == kSyscallStop) return std::optional<Stop>(TRY(system_call(cpu)));
  return signal(WSTOPSIG(status), cpu);
}

Result<Stop> PtraceContext::system_call(CpuState& cpu) {
  const StubThread::SyscallStop call = TRY(thread_->syscall_stop());
  Stop stop{.why = Why::kSyscall};
  uint64_t number = call.number;
  if (call.audit_arch != AUDIT_ARCH_X86_64) {
    stop.arch = Arch::kI386;
  } else if ((number & kX32Bit) != 0 && number >> 32 == 0) {
    stop.arch = Arch::kX32;
    number &= ~kX32Bit;
  }
  cpu.stopped_in_syscall(*this, number, call.args, call.ip, call.sp);
  return stop;
}

Result<std::optional<Stop>> PtraceContext::signal(int signo, CpuState& cpu) {
  if (signo == kDoorbell) {
    if (!doorbell_.answer()) return std::optional<Stop>();
    cpu.stopped(*this);
    return std::optional<Stop>(Stop{.why = Why::kInterrupted});
  }
  const siginfo_t info = TRY(thread_->signal_info());
  // From another process: the guest has no business with it.
  if (info.si_code <= 0) return std::optional<Stop>();
  Stop stop{.why = Why::kTrap, .signo = signo, .code = info.si_code};
  stop.addr = reinterpret_cast<uint64_t>(info.si_addr);
  switch (signo) {
    case SIGSYS:
      return vsyscall(info, cpu);
    case SIGSEGV:
      // SI_KERNEL is a general protection fault (a non-canonical address, a privileged
      // instruction): Linux gives no address for it.
      if (info.si_code == SI_KERNEL) break;
      stop = {.why = Why::kFault, .signo = signo, .code = info.si_code, .addr = stop.addr};
      if (TRY(thread_->ip()) == stop.addr) stop.access = Access::kExecute;
      break;
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
      break;
    default:
      return std::optional<Stop>();
  }
  if (info.si_code == SI_KERNEL) stop.addr = 0;
  cpu.stopped(*this);
  return std::optional<Stop>(stop);
}

// The filter trapped a call into the vsyscall page, and the host returned from it to the caller,
// as Linux's emulation does after a call (arch/x86/entry/vsyscall). What is left is to give rax.
Result<std::optional<Stop>> PtraceContext::vsyscall(const siginfo_t& info, CpuState& cpu) {
  const auto from = reinterpret_cast<uint64_t>(info.si_call_addr);
  // Anything else that reaches the filter is a system call that was not trapped.
  if (page_down(from) != kVsyscallPage) return Errno::kSrch;
  const Registers r = TRY(thread_->registers());
  cpu.stopped_in_syscall(*this, static_cast<uint64_t>(info.si_syscall),
                         {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9}, r.rip, r.rsp);
  return std::optional<Stop>(Stop{.why = Why::kSyscall});
}

void PtraceContext::fetch_registers(Registers& out) {
  out = {};
  if (thread_ == nullptr) return;
  if (Result<Registers> r = thread_->registers(); r.ok()) out = *r;
}

void PtraceContext::fetch_xstate(std::span<std::byte> out) {
  if (thread_ == nullptr || !thread_->get_xstate(out).ok()) initial_xstate(out);
}

}  // namespace boxrun::platform
