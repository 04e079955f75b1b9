#pragma once
#include <sys/types.h>

#include <utility>
#include <vector>

#include "sentry/kernel/fwd.h"
#include "sentry/kernel/signal_state.h"
#include "sentry/kernel/task_tree.h"
#include "sentry/vfs/terminal.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::kernel {

// A session (credentials(7)): process groups that share at most one controlling terminal. Kept
// alive by its process groups.
class Session final : public RefCounted {
 public:
  explicit Session(pid_t session_id) : id(session_id) {}
  const pid_t id;

  struct Links {
    Ref<vfs::Terminal> terminal;    // the controlling terminal; null: none
    Ref<ProcessGroup> foreground;   // of the terminal; null: none
    ThreadGroup* leader = nullptr;  // null once it has exited
    size_t groups = 0;              // process groups with members
  };
  Links& links(TreeLock&) { return links_; }

 private:
  Links links_;
};

// A process group: the unit of job control. Kept alive by its members.
class ProcessGroup final : public RefCounted {
 public:
  ProcessGroup(pid_t group_id, Ref<Session> its_session)
      : id(group_id), session(std::move(its_session)) {}
  const pid_t id;
  const Ref<Session> session;

  std::vector<ThreadGroup*>& members(TreeLock&) { return members_; }
  // No member has a parent in another group of the same session (POSIX, "Orphaned Process
  // Group"). `without` counts as gone.
  bool orphaned(TreeLock& tree, const ThreadGroup* without = nullptr);

 private:
  std::vector<ThreadGroup*> members_;
};

// Moves a process into a process group; the numbers of groups and sessions without members go.
void join_process_group(TreeLock& tree, ThreadGroup& process, Ref<ProcessGroup> group);
void leave_process_group(TreeLock& tree, ThreadGroup& process);
// The controlling terminal of a process, or null.
vfs::Terminal* controlling_terminal(TreeLock& tree, ThreadGroup& process);
// A process is about to leave the tree, or to lose its parent: SIGHUP and SIGCONT to process
// groups that become orphaned with stopped members (exit(3p)).
void hang_up_if_orphaned(TreeLock& tree, ThreadGroup& process, ThreadGroup* exiting_parent);

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
// Ctrl-C and its like, SIGWINCH: to the foreground process group of the session it controls, which
// is returned; 0: there is none.
pid_t signal_foreground(Kernel& kernel, vfs::Terminal& terminal, int signo);

}  // namespace boxrun::kernel
