// The life of a task: run guest code, serve the event that ended it, look at signals, go on. Here,
// and nowhere else, an interrupted system call is turned into a restart or an EINTR.
#include <pthread.h>
#include <sys/syscall.h>

#include <array>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace boxrun::kernel {
namespace {

constexpr uint64_t kSyscallInstructionSize = 2;

// Like the kernel's `current`: a fact about the thread, set once when it begins.
thread_local Task* current_task = nullptr;

// Generous for handlers, small enough for thousands of tasks: only touched pages count.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kThreadStackSize = size_t{4} << 20;
#else
constexpr size_t kThreadStackSize = size_t{512} << 10;
#endif

// Exception vectors as a signal frame reports them (arch/x86/include/asm/trapnr.h).
enum Trap : uint64_t {
  kDivideError = 0,
  kDebug = 1,
  kBreakpoint = 3,
  kInvalidOpcode = 6,
  kGeneralProtection = 13,
  kPageFault = 14,
  kX87Error = 16,
  kAlignmentCheck = 17,
  kSimdError = 19,
};

uint64_t trap_of(const platform::Stop& stop) {
  switch (stop.signo) {
    case SIGFPE:
      return stop.code == FPE_INTDIV ? kDivideError : kSimdError;
    case SIGILL:
      return kInvalidOpcode;
    case SIGTRAP:
      return stop.code == SI_KERNEL ? kBreakpoint : kDebug;
    case SIGBUS:
      return kAlignmentCheck;
    default:
      return kGeneralProtection;
  }
}

bool is_restart(Errno e) {
  return e == Errno::kRestartSys || e == Errno::kRestartNoIntr || e == Errno::kRestartNoHand ||
         e == Errno::kRestartBlock;
}

}  // namespace

Result<void> Task::start() {
  TRY(kernel_.thread_starting());
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kThreadStackSize);
  pthread_t thread;
  ref();  // the thread's own
  const int error = pthread_create(&thread, &attributes, thread_main, this);
  pthread_attr_destroy(&attributes);
  if (error == 0) return {};
  unref();
  kernel_.thread_ended();
  return Errno::kAgain;
}

void Task::go(Go how) {
  go_.store(how);
  go_.notify_one();
}

Task* Task::current() { return current_task; }

void* Task::thread_main(void* arg) {
  Ref<Task> task = adopt_ref(static_cast<Task*>(arg));
  current_task = task.get();
  Kernel& kernel = task->kernel_;
  task->go_.wait(Go::kWait);
  if (task->go_ == Go::kRun) task->run();
  current_task = nullptr;
  task = nullptr;
  kernel.thread_ended();
  return nullptr;
}

void Task::run() {
  clockid_t clock = -1;
  pthread_getcpuclockid(pthread_self(), &clock);
  host_cpu_clock_.store(clock, std::memory_order_relaxed);
  auto context = kernel_.platform().new_context();
  if (context.ok()) {
    Lock lock(mutex_);
    context_ = std::move(*context);
  } else {
    kernel_.events().killed(*this, KillReason::kNoHostThread);
    group().exit_all(SIGKILL);
  }
  while (!exiting_) {
    const bool look = sleeper_.interrupted() || interrupted_call_ || saved_mask_;
    if (look && !handle_signals()) break;
    in_guest_.store(true);
    if (sleeper_.interrupted()) {  // see interrupt()
      in_guest_.store(false);
      continue;
    }
    const Nanos entered = kernel_.clock().monotonic();
    guest_entered_.store(entered, std::memory_order_relaxed);
    const platform::Stop stop = context_->run(mm().address_space(), cpu_);
    guest_entered_.store(0, std::memory_order_relaxed);
    user_time_.fetch_add(kernel_.clock().monotonic() - entered, std::memory_order_relaxed);
    in_guest_.store(false);
    if (retired_mm_) retired_mm_ = nullptr;
    handle(stop);
  }
  finish();
}

void Task::handle(const platform::Stop& stop) {
  switch (stop.why) {
    case platform::Why::kSyscall:
      return handle_syscall(stop);
    case platform::Why::kFault:
      return handle_fault(stop);
    case platform::Why::kTrap:
      return handle_trap(stop);
    case platform::Why::kInterrupted:
      return;
    case platform::Why::kLost:
      return end_lost();
  }
}

void Task::end_lost() {
  {
    SignalLock lock(group());
    if (group().signals(lock).exiting) return;
    group().exit_all(lock, SIGKILL);
  }
  kernel_.events().killed(*this, KillReason::kLostStub);
}

void Task::handle_syscall(const platform::Stop& stop) {
  const uint64_t number = cpu_.syscall_number();
  if (stop.arch != platform::Arch::kX86_64) {
    kernel_.dispatcher().foreign_call(*this, stop.arch, number);
    cpu_.set_result(static_cast<uint64_t>(-ENOSYS));
    return;
  }
  if (stop.hot) mm().improve_call(cpu_.ip(), number);
  std::array<uint64_t, 6> args;
  for (size_t i = 0; i < args.size(); i++) args[i] = cpu_.syscall_arg(i);
  finish_syscall(number, kernel_.dispatcher().dispatch(*this, number, args));
}

void Task::finish_syscall(uint64_t number, const Result<uint64_t>& result) {
  if (keep_registers_) {
    keep_registers_ = false;
    return;
  }
  if (!result.ok() && is_restart(result.error())) {
    interrupted_call_ = result.error();
    interrupted_number_ = number;
    return;
  }
  cpu_.set_result(result.ok() ? *result
                              : static_cast<uint64_t>(-static_cast<int64_t>(result.error())));
}

// arch/x86/kernel/signal.c: arch_do_signal_or_restart and handle_signal. `handler` is the action of
// the first handler that is about to run; null when none is.
void Task::resolve_restart(const SignalAction* handler) {
  if (!interrupted_call_) return;
  const Errno code = *interrupted_call_;
  interrupted_call_ = std::nullopt;
  const bool restarts = handler == nullptr || code == Errno::kRestartNoIntr ||
                        (code == Errno::kRestartSys && (handler->flags & SA_RESTART) != 0);
  if (!restarts) {
    cpu_.set_result(static_cast<uint64_t>(-EINTR));
    return;
  }
  platform::Registers& registers = cpu_.registers_for_write();
  registers.rax = code == Errno::kRestartBlock ? SYS_restart_syscall : interrupted_number_;
  registers.rip -= kSyscallInstructionSize;
}

void Task::handle_fault(const platform::Stop& stop) {
  faults_.fetch_add(1, std::memory_order_relaxed);
  const mm::FaultResult result = mm().fault(stop.addr, stop.access, memory_limits());
  if (result == mm::FaultResult::kResolved) return;
  if (result == mm::FaultResult::kNoMemory) {
    kernel_.events().killed(*this, KillReason::kNoMemory);
    group().exit_all(SIGKILL);
    return;
  }
  // The page fault error code: protection violation, write, user mode, instruction fetch.
  uint64_t error = 4;
  if (result != mm::FaultResult::kMapError) error |= 1;
  if (stop.access == mm::Access::kWrite) error |= 2;
  if (stop.access == mm::Access::kExecute) error |= 16;
  last_fault_ = {kPageFault, error, stop.addr};
  switch (result) {
    case mm::FaultResult::kBusError:
      return force_signal(fault_signal(SIGBUS, BUS_ADRERR, stop.addr));
    case mm::FaultResult::kAccessError:
      return force_signal(fault_signal(SIGSEGV, SEGV_ACCERR, stop.addr));
    default:
      return force_signal(fault_signal(SIGSEGV, SEGV_MAPERR, stop.addr));
  }
}

void Task::handle_trap(const platform::Stop& stop) {
  last_fault_.trap = trap_of(stop);
  last_fault_.error = 0;
  force_signal(fault_signal(stop.signo, stop.code, stop.addr));
}

}  // namespace boxrun::kernel
