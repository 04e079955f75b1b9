#pragma once
#include <signal.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <span>

#include "platforms/cpu_state.h"
#include "platforms/stub/layout.h"
#include "src/base/result.h"

namespace boxrun::platform {

// One thread of a stub process, traced by the calling host thread from seize() to release() or its
// death; every method but the constructor and ended() is for that host thread only. Stopped
// whenever no method runs. Methods that find the thread dead return ESRCH and dead() is true from
// then on.
class StubThread {
 public:
  StubThread(const StubLayout& layout, pid_t process, pid_t thread)
      : layout_(layout), process_(process), thread_(thread) {}
  StubThread(const StubThread&) = delete;
  StubThread& operator=(const StubThread&) = delete;
  // Must have been released or be dead.
  ~StubThread();

  pid_t process() const { return process_; }
  pid_t thread() const { return thread_; }
  bool dead() const { return dead_; }
  // Whether the thread has ended, noticed or not. Any host thread.
  bool ended() const;

  // Begins to trace the thread and stops it where it is. EPERM: the host forbids it.
  Result<void> seize();
  // Puts back what injections displaced, ends the tracing and lets the thread go on.
  Result<void> release();
  // Sends the thread to the parking loop instead, where it waits for the next seize().
  Result<void> park();
  // Ends the thread alone.
  Result<void> exit();
  // After the process was killed: waits until the thread is gone.
  void reap();

  // --- system calls made by the thread itself, from stub text. A negative result of the call is
  // the error.
  Result<uint64_t> call(const StubCall& call);
  // As call(), for clone(2); `sentry` is the parent of a new process and 0 for a thread.
  Result<pid_t> clone(uint64_t flags, pid_t sentry);
  // Calls in order until one fails; at most kStubListCapacity. `written` is what the list page of
  // this process holds. Returns how many were done and the error of the first that was not.
  struct ListResult {
    size_t done;
    Errno error;
  };
  ListResult call_list(std::span<const StubCall> calls,
                       std::array<StubCall, kStubListCapacity>& written);

  // --- the registers of the interrupted code
  Result<Registers> registers();
  Result<void> set_registers(const Registers& registers);
  Result<void> set_result(uint64_t rax);
  Result<uint64_t> ip();
  Result<void> get_xstate(std::span<std::byte> out);
  Result<void> set_xstate(std::span<const std::byte> from);
  Result<siginfo_t> signal_info();

  // Lets guest code run until the next stop, with every system call of it trapped and not made:
  // the status as of wait(2).
  Result<int> resume_guest();
  // What a system call stop was. EIO when the host does not know PTRACE_GET_SYSCALL_INFO.
  struct SyscallStop {
    uint32_t audit_arch;
    uint64_t number;
    std::array<uint64_t, 6> args;
    uint64_t ip;
    uint64_t sp;
  };
  Result<SyscallStop> syscall_stop();

 private:
  Result<void> request(int what, uintptr_t addr, void* data);
  Result<int> wait();
  Result<int> wait_for_leader();
  Result<void> displace();
  Result<void> put_back();
  // Runs stub text from `from` until the int3 before `done`.
  Result<Registers> run_stub(Registers registers, const char* from, const char* done);
  Result<Registers> injection_registers();
  Result<void> set_signal_mask(uint64_t mask);

  const StubLayout layout_;
  const pid_t process_;
  const pid_t thread_;
  bool traced_ = false;
  bool dead_ = false;
  bool displaced_ = false;  // own_ is what the registers must be before guest code goes on
  Registers own_{};
};

}  // namespace boxrun::platform
