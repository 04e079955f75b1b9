#pragma once
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "platforms/platform.h"
#include "sentry/kernel/exec.h"
#include "sentry/kernel/futex.h"
#include "sentry/kernel/fwd.h"
#include "sentry/kernel/limits.h"
#include "sentry/kernel/pid_namespace.h"
#include "sentry/kernel/signal_state.h"
#include "sentry/kernel/task_tree.h"
#include "sentry/mm/memory_file.h"
#include "sentry/time/call.h"
#include "sentry/time/clock.h"
#include "sentry/time/timer_queue.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::kernel {

// Runs system calls. Implemented by sentry/syscalls.
class SyscallDispatcher {
 public:
  virtual ~SyscallDispatcher() = default;
  // On the task's thread. The result goes to rax, errors as -errno, restart codes are resolved by
  // the kernel.
  virtual Result<uint64_t> dispatch(Task& task, uint64_t number,
                                    const std::array<uint64_t, 6>& args) = 0;
  // The guest made an i386 or x32 call, which is ENOSYS: for the report.
  virtual void foreign_call(Task& task, platform::Arch arch, uint64_t number) = 0;
};

// Why the kernel ends a process whose own doing is no reason.
enum class KillReason : uint8_t {
  kNoMemory,      // a page that it touched cannot be had within the memory limit
  kLostStub,      // the host process that it ran in is gone
  kNoHostThread,  // the host has no thread for one of its threads
};

// What whoever started the sandbox wants to hear. Called on task threads, and in
// end_lost_processes(); no lock held.
class KernelEvents {
 public:
  virtual ~KernelEvents() = default;
  // A process made by create_process was stopped by, or continued from, job control.
  virtual void stopped(ThreadGroup& process, int signo) = 0;
  virtual void continued(ThreadGroup& process) = 0;
  // The kernel ends the process of `task`.
  virtual void killed(Task& task, KillReason reason) = 0;
};

struct KernelConfig {
  platform::Platform& platform;
  mm::MemoryFile& memory_file;
  SyscallDispatcher& dispatcher;
  Loader& loader;
  KernelEvents& events;
  const Clock& clock;
  Ref<vfs::MountNamespace> root;
  uint64_t max_tasks = UINT64_MAX;  // the sandbox's limit of processes and threads
  std::string hostname = "boxrun";
};

// One program to run.
struct ProcessSpec {
  ExecRequest program;
  Ref<vfs::FdTable> fds;
  Ref<vfs::FsContext> fs;
  Ref<Credentials> cred;
  Ref<vfs::Terminal> terminal = nullptr;  // becomes its controlling terminal, it the foreground
  std::vector<std::pair<int, ResourceLimit>> limits;  // where they differ from Linux's defaults
  SignalSet ignored;                                  // the others have their default action
};

// The kernel of one sandbox. Creating it, creating processes, running them and waiting for them are
// apart, because later processes come from outside. Pid 1 is an init without a thread that adopts
// and reaps orphans and ignores signals; the first process is pid 2. Thread-safe.
class Kernel {
 public:
  static Result<std::unique_ptr<Kernel>> create(KernelConfig config);
  ~Kernel();  // after shutdown()
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // A child of init in a process group of its own, loaded and ready to start. Errors of execve(2).
  Result<Ref<ThreadGroup>> create_process(ProcessSpec spec);
  Result<void> start(ThreadGroup& process);
  struct Exit {
    int status = 0;  // wait status
    rusage usage{};
  };
  // Blocks the calling host thread until the process is dead.
  Exit wait(ThreadGroup& process);
  // From outside the sandbox (forwarded SIGINT, timeouts): to the process group of `process`.
  void signal(ThreadGroup& process, int signo);
  // A key, a new size or the end of the terminal: to its foreground process group, or to that of
  // `process` where the terminal has none. SIGHUP goes to both.
  void terminal_signal(ThreadGroup& process, vfs::Terminal* terminal, int signo);
  // Nobody outside continues `process` when it stops: its group counts as orphaned from now on.
  void disown(ThreadGroup& process);
  // After platform::Options::losses: kills processes whose address space is lost, wherever their
  // tasks wait.
  void end_lost_processes();
  // Kills every process; returns when no task is left. No process can be made afterwards.
  void shutdown();

  platform::Platform& platform() const { return config_.platform; }
  mm::MemoryFile& memory_file() const { return config_.memory_file; }
  SyscallDispatcher& dispatcher() const { return config_.dispatcher; }
  Loader& loader() const { return config_.loader; }
  KernelEvents& events() const { return config_.events; }
  const Clock& clock() const { return config_.clock; }
  const Ref<vfs::MountNamespace>& root() const { return config_.root; }
  TimerQueue& timers() { return timers_; }
  FutexTable& futexes() { return futexes_; }
  TaskTree& tree() { return tree_; }
  PidNamespace& pids() { return *pids_; }
  const Ref<PidNamespace>& pids_ref() { return pids_; }
  ThreadGroup& init() { return *init_; }
  SignalQueueCount& queued_signals() { return queued_signals_; }
  // The mount of files without a name: pidfds, eventfds, epolls and their like.
  const Ref<vfs::Mount>& anonymous_files() const { return anonymous_files_; }
  uint64_t max_tasks() const { return config_.max_tasks; }
  // What all processes of the sandbox have used, those that are gone included.
  Nanos cpu_time();
  void add_cpu_of_exited(Nanos used) { cpu_of_exited_.fetch_add(used, std::memory_order_relaxed); }
  // Set when max_tasks keeps a task from being made.
  const RefusalMark& refused_task() const { return refused_task_; }

  // References are taken under the tree lock; null when there is none.
  Ref<Task> find_task(pid_t tid);
  Ref<ThreadGroup> find_group(pid_t tgid);

  std::string hostname() const EXCLUDES(names_mutex_);
  void set_hostname(std::string name) EXCLUDES(names_mutex_);
  std::string domainname() const EXCLUDES(names_mutex_);
  void set_domainname(std::string name) EXCLUDES(names_mutex_);

  // --- for the task's files: host threads that exist
  Result<void> thread_starting() EXCLUDES(threads_mutex_);  // EAGAIN after shutdown began
  void thread_ended() EXCLUDES(threads_mutex_);

 private:
  explicit Kernel(KernelConfig config);
  void create_init();
  pid_t process_group_of(ThreadGroup& process);

  KernelConfig config_;
  const Ref<vfs::Mount> anonymous_files_;
  SignalQueueCount queued_signals_{0};
  TaskTree tree_;
  const Ref<PidNamespace> pids_;
  TimerQueue timers_;
  FutexTable futexes_;
  Ref<ThreadGroup> init_;
  mutable Mutex names_mutex_{Rank::kTask};
  std::string hostname_ GUARDED_BY(names_mutex_);
  std::string domainname_ GUARDED_BY(names_mutex_) = "(none)";
  Mutex threads_mutex_{Rank::kKernel};
  CondVar threads_changed_;
  const RefusalMark refused_task_;
  std::atomic<Nanos> cpu_of_exited_{0};
  size_t threads_ GUARDED_BY(threads_mutex_) = 0;
  bool stopping_ GUARDED_BY(threads_mutex_) = false;
};

}  // namespace boxrun::kernel
