#pragma once
#include <sys/types.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "platforms/platform.h"
#include "sentry/cred/credentials.h"
#include "sentry/kernel/clone.h"
#include "sentry/kernel/completion.h"
#include "sentry/kernel/exec.h"
#include "sentry/kernel/fwd.h"
#include "sentry/kernel/scheduling.h"
#include "sentry/kernel/signal_state.h"
#include "sentry/kernel/task_parts.h"
#include "sentry/kernel/task_tree.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/wait/wait.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::kernel {

// One guest thread (struct task_struct), served by one host thread that runs Task::run. Owned by
// its thread group's links and by that host thread. Members without a note are for that thread
// only.
class Task final : public RefCounted {
 public:
  Task(Kernel& kernel, Ref<ThreadGroup> group, pid_t tid, TaskResources resources);
  ~Task() override;
  static Task* current();  // whose thread this is, or null: for proc, which nobody tells who reads
  Kernel& kernel() const { return kernel_; }
  ThreadGroup& group() const { return *group_; }
  pid_t tid() const { return tid_.load(std::memory_order_relaxed); }  // any thread
  pid_t tgid() const { return group_->tgid; }

  // --- what it has, for its own thread
  mm::MemoryManager& mm() const { return *resources_.mm; }
  vfs::FdTable& fds() const { return *resources_.fds; }
  vfs::FsContext& fs() const { return *resources_.fs; }
  const Credentials& cred() const { return *resources_.cred; }
  platform::CpuState& cpu() { return cpu_; }
  mm::Limits memory_limits() const { return group_->limits().memory(); }
  void set_cred(Ref<Credentials> cred) EXCLUDES(mutex_);
  void set_fds(Ref<vfs::FdTable> fds) EXCLUDES(mutex_);
  void set_fs(Ref<vfs::FsContext> fs) EXCLUDES(mutex_);

  // --- the same for any thread; null mm, fds and fs once the task has exited
  TaskResources resources() const EXCLUDES(mutex_);
  Ref<Credentials> cred_ref() const EXCLUDES(mutex_);
  std::string comm() const EXCLUDES(mutex_);
  void set_comm(std::string_view comm) EXCLUDES(mutex_);  // cut to 15 bytes
  Scheduling scheduling() const EXCLUDES(mutex_);
  void set_scheduling(const Scheduling& scheduling) EXCLUDES(mutex_);
  CpuTimes cpu_times() const;
  char state_letter();  // R S T Z X for /proc/PID/stat
  Accounting accounting() const;
  // Looks at how much memory is resident; the greatest amount seen is ru_maxrss.
  void note_memory_use();

  // --- blocking (DESIGN 6). `op` returns a Result and kAgain while it cannot proceed; it is tried
  // before and after registering with `queue`, and after each wake-up. ETIMEDOUT after the
  // deadline, `interrupted` when a signal is to be handled.
  template <class Op>
  auto block_on(WaitQueue& queue, Events events, Deadline deadline, Op op,
                Errno interrupted = Errno::kRestartSys,
                WaitQueue::Mode mode = WaitQueue::Mode::kShared) -> decltype(op());
  // For many queues: the caller has registered entries for sleeper() and calls it in a loop that
  // tries its operation first. EINTR only when there is something to handle.
  Result<void> sleep(Deadline deadline);
  Sleeper& sleeper() { return sleeper_; }
  // Sleeps until the deadline: kOk when it passed, EINTR.
  Result<void> sleep_until(Deadline deadline);

  // Makes the task look at its signals soon: any thread, may be called under the signal lock.
  void interrupt();

  // --- after a system call handler: how registers are left
  // The handler has set all registers (execve, rt_sigreturn): its result is not written to rax.
  void keep_registers() { keep_registers_ = true; }
  // With kRestartBlock: what restart_syscall(2) calls.
  using Restart = std::function<Result<uint64_t>(Task&)>;
  void set_restart(Restart restart) { restart_ = std::move(restart); }
  Result<uint64_t> restart();

  // --- life
  // Makes the host thread, which waits for go(); EAGAIN.
  Result<void> start();
  enum class Go : uint8_t { kWait, kRun, kGiveUp };
  void go(Go how);
  // The thread of the task: returns when the task has exited.
  void run();
  // exit(2) and exit_group(2), with the low eight bits of `code`: the task ends, or all tasks of
  // its process, when the current system call returns.
  void exit(int code);
  void exit_group(int code);
  // The host side of its process is gone: ends the process, and says so once. Any thread, no lock.
  void end_lost();
  // Whether there is a signal, stop or exit to handle before the guest goes on.
  bool work_pending();
  // execve(2). On success registers are those of the new program.
  Result<void> exec(const ExecRequest& request);
  void install(ExecImage image);  // the second half of exec; alone for the first program

  // --- signals of this task
  TaskSignals& signals(SignalLock&) { return signals_; }
  Result<SignalAction> sigaction(int signo, const SignalAction* wanted);
  SignalSet signal_mask();
  void set_signal_mask(SignalSet mask);
  SignalSet pending_signals();  // own and shared, blocked ones only: rt_sigpending
  // For ppoll, pselect6, epoll_pwait, rt_sigsuspend: in force until the call has ended, when the
  // old mask comes back: after the frame of a handler was built with it.
  void set_temporary_mask(SignalSet mask);
  Result<void> sigsuspend(SignalSet mask);  // returns kRestartNoHand
  // Takes a pending signal of `wanted`, waiting until the deadline: EAGAIN, EINTR.
  Result<SigInfo> sigtimedwait(SignalSet wanted, Deadline deadline);
  // sigaltstack(2). EPERM while running on it, ENOMEM when too small, EINVAL.
  Result<AltStack> sigaltstack(const AltStack* wanted);
  void sigreturn();  // rt_sigreturn(2); a broken frame is SIGSEGV
  // A synchronous signal: when blocked or ignored, the process dies of it.
  void force_signal(const SigInfo& info);

  // --- prctl(2), set_robust_list(2), set_tid_address(2)
  int pdeath_signal = 0;  // guarded by the tree lock
  std::atomic<bool> no_new_privs{false};
  std::atomic<uint32_t> persona{0};  // personality(2)
  Nanos timer_slack = 50'000;
  uint64_t robust_list = 0;
  uint64_t clear_child_tid = 0;

  // For clone and exec: what the parent of a vfork waits for.
  Completion* vfork_done() const { return vfork_done_.get(); }
  void set_vfork_done(Ref<Completion> done) { vfork_done_ = std::move(done); }
  // Waits for `done`, ignoring all but what ends the task: false when it is to exit.
  bool wait_killable(Completion& done);
  // Inherits what fork(2) and clone(2) copy; called by the parent before the child starts.
  void inherit(Task& parent, const CloneArgs& args);

 private:
  // task_run.cpp
  static void* thread_main(void* task);
  void handle(const platform::Stop& stop);
  void handle_syscall(const platform::Stop& stop);
  void handle_fault(const platform::Stop& stop);
  void handle_trap(const platform::Stop& stop);
  void finish_syscall(uint64_t number, const Result<uint64_t>& result);
  void resolve_restart(const SignalAction* handler);
  bool work_pending(SignalLock& lock);
  // signal_delivery.cpp: false when the task must exit
  bool handle_signals();
  bool must_exit(SignalLock& lock);
  void take_part_in_stop();
  bool stopped_now();
  void begin_stop(int signo);
  void tell_parent_of_stop();
  std::optional<SigInfo> next_signal();
  void deliver(const SigInfo& info);
  void run_handler(const SigInfo& info, const SignalAction& action);
  // task_signals.cpp
  std::optional<SigInfo> take_waited(SignalSet wanted);
  Result<void> set_alt_stack(const AltStack& wanted, uint64_t sp);
  // signal_frame.cpp
  Result<void> push_signal_frame(const SigInfo& info, const SignalAction& action, SignalSet mask);
  Result<void> pop_signal_frame();
  Result<void> restore_xstate(uint64_t address);
  // task_exit.cpp
  void finish();
  void release_memory();
  void walk_robust_list();
  bool leave_tree();
  // task_exec.cpp
  bool become_only_task();
  bool wait_for_others();
  void take_over_leader();

  // What a signal frame reports of the last exception (thread.trap_nr, error_code, cr2).
  struct LastFault {
    uint64_t trap = 0, error = 0, address = 0;
  };

  Kernel& kernel_;
  const Ref<ThreadGroup> group_;
  std::atomic<pid_t> tid_;
  mutable Mutex mutex_{Rank::kTask};
  // Written by the own thread under mutex_, which reads them without it.
  TaskResources resources_;
  std::array<char, 16> comm_ GUARDED_BY(mutex_){};
  Scheduling scheduling_ GUARDED_BY(mutex_);
  std::unique_ptr<platform::Context> context_;  // own thread; others under mutex_ to interrupt it
  std::atomic<Go> go_{Go::kWait};
  std::atomic<bool> in_guest_{false};
  platform::CpuState cpu_;
  Sleeper sleeper_;
  std::atomic<bool> asleep_{false};  // for /proc/PID/stat
  TaskSignals signals_;
  // What a temporary mask has replaced: back when the system call ends without a handler.
  std::optional<SignalSet> saved_mask_;
  AltStack alt_stack_;
  LastFault last_fault_;
  Restart restart_;
  std::optional<Errno> interrupted_call_;  // a restart code not resolved yet
  uint64_t interrupted_number_ = 0;
  bool keep_registers_ = false;
  bool exiting_ = false;
  int exit_status_ = 0;
  Ref<Completion> vfork_done_;
  Ref<mm::MemoryManager> retired_mm_;  // of before execve, until the context has left it
  std::atomic<Nanos> user_time_{0};
  std::atomic<Nanos> guest_entered_{0};  // CLOCK_MONOTONIC; 0: not in the guest
  std::atomic<clockid_t> host_cpu_clock_{-1};
  std::atomic<uint64_t> faults_{0};
  std::atomic<uint64_t> sleeps_{0};
  std::atomic<uint64_t> max_rss_bytes_{0};
};

template <class Op>
auto Task::block_on(WaitQueue& queue, Events events, Deadline deadline, Op op, Errno interrupted,
                    WaitQueue::Mode mode) -> decltype(op()) {
  if (auto result = op(); result.ok() || result.error() != Errno::kAgain) return result;
  sleeper_.reset();
  WaitQueue::Entry entry(queue, events, sleeper_, mode);
  for (;;) {
    if (auto result = op(); result.ok() || result.error() != Errno::kAgain) return result;
    if (auto slept = sleep(deadline); !slept.ok()) {
      return slept.error() == Errno::kIntr ? interrupted : slept.error();
    }
  }
}

}  // namespace boxrun::kernel
