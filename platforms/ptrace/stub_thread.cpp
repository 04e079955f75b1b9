#include "platforms/ptrace/stub_thread.h"

#include <elf.h>
#include <linux/ptrace.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <ctime>

#include "src/base/check.h"
#include "src/base/fd.h"

namespace boxrun::platform {
namespace {

static_assert(sizeof(user_regs_struct) == sizeof(Registers));

constexpr uint64_t kUserCode = 0x33;  // __USER_CS
constexpr uint64_t kUserData = 0x2b;  // __USER_DS
constexpr uint64_t kPlainFlags = 0x202;

constexpr uint64_t bit(int signo) { return uint64_t{1} << (signo - 1); }
// A thread that runs stub text only: nothing but SIGKILL and SIGSTOP can reach it.
constexpr uint64_t kMaskParked = ~uint64_t{0};
// A guest thread: the doorbell, and the signals that guest code raises itself. The kernel would
// unblock the latter by force when they are raised, and forget their place (force_sig_info).
constexpr uint64_t kMaskGuest = ~(bit(kDoorbell) | bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) |
                                  bit(SIGILL) | bit(SIGTRAP) | bit(SIGSYS));

bool is_event_stop(int status) { return status >> 16 == PTRACE_EVENT_STOP; }

}  // namespace

StubThread::~StubThread() { CHECK(!traced_ || dead_); }

Result<void> StubThread::request(int what, uintptr_t addr, void* data) {
  if (dead_) return Errno::kSrch;
  const long r = ::syscall(SYS_ptrace, what, thread_, addr, data);
  if (r >= 0) return {};
  const Errno e = last_error();
  // Not stopped although nothing resumed it: SIGKILL arrived. Its end is there to be waited for.
  if (e == Errno::kSrch && traced_) reap();
  return e;
}

Result<int> StubThread::wait() {
  int status = 0;
  if (thread_ == process_) {
    status = TRY(wait_for_leader());
  } else {
    pid_t r;
    do {
      r = ::wait4(thread_, &status, __WALL, nullptr);
    } while (r < 0 && errno == EINTR);
    if (r < 0) dead_ = true;
  }
  if (WIFEXITED(status) || WIFSIGNALED(status)) dead_ = true;
  if (dead_) return Errno::kSrch;
  return status;
}

// The end of a thread group's leader cannot be waited for until all its other threads were reaped
// (kernel/exit.c: delay_group_leader), each by its own tracer, which may be busy elsewhere or may
// wait for the caller. So this wait looks every now and then whether the leader still has memory.
Result<int> StubThread::wait_for_leader() {
  constexpr int kYields = 64;
  constexpr int kPauses = 100;
  for (int i = 0;; i++) {
    int status = 0;
    const pid_t r = ::wait4(thread_, &status, __WALL | WNOHANG, nullptr);
    if (r == thread_) return status;
    uint64_t word = 0;
    iovec here{&word, sizeof word};
    iovec there{reinterpret_cast<void*>(layout_.list()), sizeof word};
    const bool look = i % kPauses == kPauses - 1;
    if ((r < 0 && errno != EINTR) ||
        (look && ::process_vm_readv(thread_, &here, 1, &there, 1, 0) < 0 && errno == ESRCH)) {
      dead_ = true;
      return Errno::kSrch;
    }
    const timespec pause{0, i < 2 * kYields ? 50'000 : 500'000};
    if (i < kYields) {
      ::sched_yield();
    } else {
      ::nanosleep(&pause, nullptr);
    }
  }
}

bool StubThread::ended() const {
  siginfo_t info{};
  // WNOWAIT: to be reaped is left to its tracer.
  if (::waitid(P_PID, static_cast<id_t>(thread_), &info, WEXITED | WNOHANG | WNOWAIT | __WALL) !=
      0) {
    return true;  // ECHILD: it was
  }
  // Stops that the tracer has not seen yet are told of, too, whatever is asked for
  // (kernel/exit.c: wait_task_stopped).
  return info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED;
}

void StubThread::reap() {
  // A dead leader is reaped with its process.
  if (thread_ == process_) dead_ = dead_ || traced_;
  while (!dead_ && traced_) (void)wait();
}

Result<void> StubThread::seize() {
  constexpr uintptr_t kOptions = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD;
  TRY(request(PTRACE_SEIZE, 0, reinterpret_cast<void*>(kOptions)));
  traced_ = true;
  TRY(request(PTRACE_INTERRUPT, 0, nullptr));
  for (;;) {
    const int status = TRY(wait());
    if (is_event_stop(status)) return set_signal_mask(kMaskGuest);
    // A signal that came before the interrupt: dropped, like every signal from outside.
    TRY(request(PTRACE_CONT, 0, nullptr));
  }
}

Result<void> StubThread::release() {
  TRY(put_back());
  TRY(set_signal_mask(kMaskParked));
  TRY(request(PTRACE_DETACH, 0, nullptr));
  traced_ = false;
  return {};
}

Result<void> StubThread::park() {
  Registers r{};
  r.rip = layout_.address_of(boxrun_stub_park);
  r.cs = kUserCode;
  r.ss = kUserData;
  r.eflags = kPlainFlags;
  TRY(set_registers(r));
  return release();
}

Result<void> StubThread::exit() {
  TRY(displace());
  Registers r = TRY(injection_registers());
  r.rax = SYS_exit;
  r.rip = layout_.address_of(boxrun_stub_call);
  TRY(request(PTRACE_SETREGS, 0, &r));
  TRY(request(PTRACE_CONT, 0, nullptr));
  while (!dead_) {
    if (wait().ok()) TRY(request(PTRACE_CONT, 0, nullptr));
  }
  return {};
}

Result<void> StubThread::set_signal_mask(uint64_t mask) {
  return request(PTRACE_SETSIGMASK, sizeof mask, &mask);
}

Result<void> StubThread::displace() {
  if (displaced_) return {};
  TRY(request(PTRACE_GETREGS, 0, &own_));
  displaced_ = true;
  return {};
}

Result<void> StubThread::put_back() {
  if (!displaced_) return {};
  TRY(request(PTRACE_SETREGS, 0, &own_));
  displaced_ = false;
  return {};
}

// Segment bases and data selectors stay the guest's: stub text uses no memory through them.
Result<Registers> StubThread::injection_registers() {
  TRY(displace());
  Registers r = own_;
  r.cs = kUserCode;
  r.ss = kUserData;
  r.eflags = kPlainFlags;
  r.orig_rax = UINT64_MAX;  // no system call to restart
  return r;
}

Result<Registers> StubThread::run_stub(Registers registers, const char* from, const char* done) {
  registers.rip = layout_.address_of(from);
  const uint64_t end = layout_.address_of(done) + 1;
  TRY(request(PTRACE_SETREGS, 0, &registers));
  for (;;) {
    TRY(request(PTRACE_CONT, 0, nullptr));
    const int status = TRY(wait());
    if (!WIFSTOPPED(status) || is_event_stop(status)) continue;
    switch (WSTOPSIG(status)) {
      case SIGTRAP: {
        Registers now;
        TRY(request(PTRACE_GETREGS, 0, &now));
        if (now.rip == end) return now;
        break;
      }
      case SIGSEGV:
      case SIGBUS:
      case SIGFPE:
      case SIGILL:
      case SIGSYS:
        // Stub text does none of these. Whatever was done to it, the process is lost.
        ::kill(process_, SIGKILL);
        break;
      default:
        break;  // a doorbell, already latched, or a signal from outside: dropped
    }
  }
}

Result<uint64_t> StubThread::call(const StubCall& call) {
  Registers r = TRY(injection_registers());
  r.rax = call.number;
  r.rdi = call.args[0];
  r.rsi = call.args[1];
  r.rdx = call.args[2];
  r.r10 = call.args[3];
  r.r8 = call.args[4];
  r.r9 = call.args[5];
  r = TRY(run_stub(r, boxrun_stub_call, boxrun_stub_call_done));
  const auto result = static_cast<int64_t>(r.rax);
  if (result < 0 && result > -4096) return from_host(static_cast<int>(-result));
  return r.rax;
}

Result<pid_t> StubThread::clone(uint64_t flags, pid_t sentry) {
  Registers r = TRY(injection_registers());
  r.rax = SYS_clone;
  r.rdi = flags;
  r.rsi = r.rdx = r.r10 = r.r8 = r.r9 = 0;
  r.r12 = static_cast<uint64_t>(sentry);
  r = TRY(run_stub(r, boxrun_stub_clone, boxrun_stub_clone_done));
  const auto result = static_cast<int64_t>(r.rax);
  if (result <= 0) return from_host(static_cast<int>(-result));
  return static_cast<pid_t>(result);
}

StubThread::ListResult StubThread::call_list(std::span<const StubCall> calls,
                                             std::array<StubCall, kStubListCapacity>& written) {
  CHECK(calls.size() <= kStubListCapacity);
  const auto run = [&]() -> Result<ListResult> {
    TRY(displace());
    // The page is private and read-only in the stub; ptrace writes it nevertheless, word by word,
    // so only words that changed since the last list are worth a call.
    for (size_t i = 0; i < calls.size(); i++) {
      const auto* now = reinterpret_cast<const uint64_t*>(&calls[i]);
      auto* before = reinterpret_cast<uint64_t*>(&written[i]);
      for (size_t w = 0; w < sizeof(StubCall) / 8; w++) {
        if (now[w] == before[w]) continue;
        const uint64_t addr = layout_.list() + i * sizeof(StubCall) + w * 8;
        TRY(request(PTRACE_POKEDATA, addr, reinterpret_cast<void*>(now[w])));
        before[w] = now[w];
      }
    }
    Registers r = TRY(injection_registers());
    r.rbx = layout_.list();
    r.rbp = calls.size();
    r = TRY(run_stub(r, boxrun_stub_list, boxrun_stub_list_done));
    const size_t done = calls.size() - std::min<uint64_t>(r.rbp, calls.size());
    if (done == calls.size()) return ListResult{done, Errno::kOk};
    return ListResult{done, from_host(static_cast<int>(-static_cast<int64_t>(r.rax)))};
  };
  Result<ListResult> result = run();
  if (!result.ok()) return {0, result.error()};
  return *result;
}

Result<Registers> StubThread::registers() {
  if (displaced_) return own_;
  Registers r;
  TRY(request(PTRACE_GETREGS, 0, &r));
  return r;
}

Result<void> StubThread::set_registers(const Registers& registers) {
  TRY(request(PTRACE_SETREGS, 0, const_cast<Registers*>(&registers)));
  displaced_ = false;
  return {};
}

Result<void> StubThread::set_result(uint64_t rax) {
  if (displaced_) {
    own_.rax = rax;
    return {};
  }
  return request(PTRACE_POKEUSR, offsetof(user, regs.rax), reinterpret_cast<void*>(rax));
}

Result<uint64_t> StubThread::ip() {
  if (displaced_) return own_.rip;
  uint64_t rip = 0;
  TRY(request(PTRACE_PEEKUSR, offsetof(user, regs.rip), &rip));
  return rip;
}

Result<void> StubThread::get_xstate(std::span<std::byte> out) {
  iovec area{out.data(), out.size()};
  return request(PTRACE_GETREGSET, NT_X86_XSTATE, &area);
}

Result<void> StubThread::set_xstate(std::span<const std::byte> from) {
  iovec area{const_cast<std::byte*>(from.data()), from.size()};
  return request(PTRACE_SETREGSET, NT_X86_XSTATE, &area);
}

Result<siginfo_t> StubThread::signal_info() {
  siginfo_t info{};
  TRY(request(PTRACE_GETSIGINFO, 0, &info));
  return info;
}

Result<int> StubThread::resume_guest() {
  TRY(put_back());
  TRY(request(PTRACE_SYSEMU, 0, nullptr));
  return wait();
}

Result<StubThread::SyscallStop> StubThread::syscall_stop() {
  ptrace_syscall_info info{};
  TRY(request(PTRACE_GET_SYSCALL_INFO, sizeof info, &info));
  if (info.op != PTRACE_SYSCALL_INFO_ENTRY) return Errno::kIo;
  SyscallStop stop{info.arch, info.entry.nr, {}, info.instruction_pointer, info.stack_pointer};
  std::memcpy(stop.args.data(), info.entry.args, sizeof stop.args);
  return stop;
}

}  // namespace boxrun::platform
