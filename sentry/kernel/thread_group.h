#pragma once
#include <sys/resource.h>
#include <sys/types.h>

#include <atomic>
#include <memory>
#include <vector>

#include "sentry/kernel/fwd.h"
#include "sentry/kernel/job_control.h"
#include "sentry/kernel/limits.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/signal_state.h"
#include "sentry/kernel/task_tree.h"
#include "sentry/time/clock.h"
#include "sentry/wait/wait.h"
#include "src/base/ref.h"
#include "src/base/sync.h"

namespace boxrun::kernel {

class SignalLock;

struct CpuTimes {
  Nanos user = 0;
  Nanos system = 0;
  CpuTimes operator+(CpuTimes o) const { return {user + o.user, system + o.system}; }
};

// What getrusage(2) and wait4(2) add up.
struct Accounting {
  CpuTimes cpu;
  uint64_t max_rss_bytes = 0;
  uint64_t minor_faults = 0;
  uint64_t voluntary_switches = 0;
  uint64_t involuntary_switches = 0;
  void add(const Accounting& other);
  rusage to_rusage() const;
};

// A process: tasks that share a pid, signal actions, limits and fate (struct signal_struct). Owned
// by its parent's list of children until it is reaped, and by its tasks.
class ThreadGroup final : public RefCounted {
 public:
  ThreadGroup(Kernel& kernel, pid_t tgid, Ref<SignalHandlers> handlers);
  ~ThreadGroup() override;

  Kernel& kernel() const { return kernel_; }
  const pid_t tgid;

  // --- guarded by the tree lock
  enum class State : uint8_t { kRunning, kZombie, kReaped };
  struct Links {
    State state = State::kRunning;
    ThreadGroup* parent = nullptr;  // null: the internal init, or reaped
    Task* parent_task = nullptr;    // the thread that made it, for __WNOTHREAD and PDEATHSIG
    std::vector<Ref<ThreadGroup>> children;
    std::vector<Ref<Task>> tasks;  // that have not exited, and the leader until it is reaped
    Task* leader = nullptr;
    Ref<ProcessGroup> process_group;
    int exit_signal = 0;             // sent to the parent; 0: none
    int exit_status = 0;             // wait status, valid from kZombie on
    bool executed = false;           // setpgid(2): EACCES once a child has called execve
    bool subreaper = false;          // PR_SET_CHILD_SUBREAPER
    bool from_outside = false;       // made by Kernel::create_process: init acts as its shell
    bool disowned = false;           // ... until nobody outside would continue them
    bool terminal_released = false;  // TIOCNOTTY by a process that leads no session
    Accounting own;                  // of tasks that have exited
    Accounting children_usage;       // of children that were waited for
  };
  Links& links(TreeLock&) { return links_; }

  // --- guarded by the signal lock of this group, as are the TaskSignals of its tasks
  struct Signals {
    explicit Signals(SignalQueueCount& queued) : shared(queued) {}
    PendingSignals shared;
    std::vector<Task*> tasks;   // that have not exited: a subset of Links::tasks
    bool exiting = false;       // every task is to exit, with exit_status
    int exit_status = 0;        // wait status
    Task* executing = nullptr;  // a task in execve that waits for the others to be gone
    int stop_signal = 0;        // job-control stop begun or completed; 0: running
    bool stopped = false;       // completed
    int report_stop = 0;        // for WUNTRACED: the signal, until waited for
    bool report_continue = false;
    int parent_notice = 0;   // CLD_STOPPED or CLD_CONTINUED: to be told by the next task to look
    int notice_status = 0;   // si_status of that notice
    CpuTimes cpu_of_exited;  // tasks that are gone
    bool immune = false;     // the internal init
  };
  Signals& signals(SignalLock&) { return signals_; }
  Ref<SignalHandlers> handlers(SignalLock&) const { return handlers_; }
  void set_handlers(SignalLock&, Ref<SignalHandlers> handlers);

  // Ends the process: every task exits with wait status `status`. The first status counts.
  void exit_all(int status);
  void exit_all(SignalLock& lock, int status);
  // A group stop is complete when the last task has stopped or exited.
  void complete_stop(SignalLock& lock);
  // True once it is dead; `status` gets the wait status. For who holds no place in the tree.
  bool exited(int& status);

  // --- thread-safe by themselves
  ResourceLimits& limits() { return limits_; }
  ProcessTimers& timers() { return *timers_; }
  // Notified (kReadable) when a child changes state; and when a task of this group exits.
  WaitQueue& child_events() { return child_events_; }
  // Notified (kReadable) when a signal becomes pending: signalfds.
  WaitQueue& signal_events() { return signal_events_; }
  // Notified (kReadable) when this process is dead: pidfds, Kernel::wait.
  WaitQueue& exit_events() { return exit_events_; }
  CpuTimes cpu_times();
  // Of the tasks that live.
  CpuTimes running_cpu_times();
  Accounting accounting(TreeLock& tree);
  size_t task_count();
  Ref<Task> find_task(pid_t tid);  // one of its own that has not exited, or null
  // Count of tasks that have not begun to exit. A task that exits asks whether it is the last.
  void task_added() { live_.fetch_add(1); }
  bool last_to_exit() { return live_.fetch_sub(1) == 1; }

  enum class Dumpable : uint8_t { kNo = 0, kYes = 1 };
  std::atomic<Dumpable> dumpable{Dumpable::kYes};  // PR_SET_DUMPABLE
  std::atomic<int> oom_score_adj{0};
  std::atomic<int> nice{0};  // inherited by fork; has no effect on scheduling
  Nanos start_time() const { return start_time_; }  // CLOCK_BOOTTIME

  Ref<vfs::FileDescription> exe() const EXCLUDES(mutex_);
  void set_exe(Ref<vfs::FileDescription> exe) EXCLUDES(mutex_);

 private:
  friend class SignalLock;
  Kernel& kernel_;
  const Nanos start_time_;
  Links links_;
  std::atomic<int> live_{0};
  Mutex signal_mutex_{Rank::kSignals};
  Signals signals_;
  Ref<SignalHandlers> handlers_;
  ResourceLimits limits_;
  std::unique_ptr<ProcessTimers> timers_;
  WaitQueue child_events_;
  WaitQueue exit_events_;
  WaitQueue signal_events_;
  mutable Mutex mutex_{Rank::kTask};
  Ref<vfs::FileDescription> exe_ GUARDED_BY(mutex_);
};

// Proof that a group's signal lock is held; see TreeLock.
class SignalLock {
 public:
  explicit SignalLock(ThreadGroup& group) NO_THREAD_SAFETY_ANALYSIS : mutex_(group.signal_mutex_) {
    mutex_.lock();
  }
  ~SignalLock() NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock(); }
  SignalLock(const SignalLock&) = delete;
  SignalLock& operator=(const SignalLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace boxrun::kernel
