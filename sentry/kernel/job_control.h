#pragma once
#include <sys/types.h>

#include <vector>

#include "sentry/kernel/fwd.h"
#include "sentry/kernel/signal_state.h"
#include "sentry/kernel/task_tree.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::kernel {

// A session (credentials(7)): process groups that share at most one controlling terminal. Kept
// alive by its process groups.
class Session final : public RefCounted {
 public:
  Session(TaskTree& tree, Ref<PidNamespace> pids, pid_t id);
  ~Session() override;
  const pid_t id;

  struct Links {
    Ref<vfs::Terminal> terminal;    // the controlling terminal; null: none
    Ref<ProcessGroup> foreground;   // of the terminal
    ThreadGroup* leader = nullptr;  // null once it exited
  };
  Links& links(TreeLock&) { return links_; }

 private:
  TaskTree& tree_;
  const Ref<PidNamespace> pids_;
  Links links_;
};

// A process group: the unit of job control. Kept alive by its members.
class ProcessGroup final : public RefCounted {
 public:
  ProcessGroup(TaskTree& tree, Ref<PidNamespace> pids, pid_t id, Ref<Session> session);
  ~ProcessGroup() override;
  const pid_t id;
  const Ref<Session> session;

  std::vector<ThreadGroup*>& members(TreeLock&) { return members_; }
  // POSIX: no member has a parent in another group of the same session (exit(3p)). `without` is
  // taken as gone already.
  bool orphaned(TreeLock&, const ThreadGroup* without = nullptr);

 private:
  TaskTree& tree_;
  const Ref<PidNamespace> pids_;
  std::vector<ThreadGroup*> members_;
};

// --- system calls; errors as in the man pages
Result<void> set_process_group(Task& task, pid_t pid, pid_t pgid);  // setpgid
Result<pid_t> get_process_group(Task& task, pid_t pid);             // getpgid
Result<pid_t> get_session(Task& task, pid_t pid);                   // getsid
Result<pid_t> create_session(Task& task);                           // setsid

// --- what terminals need (ioctl_tty(2)): the kernel side of vfs::IoctlCaller. All but the first
// are ENOTTY unless `terminal` is the controlling terminal of the caller's session.
// EPERM: the caller leads no session, has a terminal, or another session has this one.
Result<void> acquire_terminal(Task& task, vfs::Terminal& terminal, bool steal);  // TIOCSCTTY
Result<void> release_terminal(Task& task, vfs::Terminal& terminal);              // TIOCNOTTY
Result<pid_t> foreground_group(Task& task, vfs::Terminal& terminal);             // TIOCGPGRP
Result<void> set_foreground_group(Task& task, vfs::Terminal& terminal, pid_t pgid);
Result<pid_t> terminal_session(Task& task, vfs::Terminal& terminal);  // TIOCGSID
// Before reading (SIGTTIN) or changing (SIGTTOU) the terminal from a background process group: ok
// to go on, EIO, or kRestartSys after the signal was sent to the group.
Result<void> check_background(Task& task, vfs::Terminal& terminal, int signo);
// Ctrl-C and its like, SIGWINCH: to the foreground process group of the session it controls.
void signal_foreground(Kernel& kernel, vfs::Terminal& terminal, int signo);

}  // namespace boxrun::kernel
