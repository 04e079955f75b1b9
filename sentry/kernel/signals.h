// Who may send which signal to whom, and how a sent signal becomes pending (kill(2), tgkill(2),
// rt_sigqueueinfo(2), signal(7)).
#pragma once
#include <sys/types.h>

#include "sentry/kernel/fwd.h"
#include "sentry/kernel/signal_state.h"
#include "sentry/kernel/task_tree.h"
#include "src/base/result.h"

namespace boxrun::kernel {

// --- system calls: permission is checked
Result<void> kill(Task& sender, pid_t pid, int signo);  // pid as in kill(2): > 0, 0, -1, < -1
Result<void> tgkill(Task& sender, pid_t tgid, pid_t tid, int signo);
Result<void> tkill(Task& sender, pid_t tid, int signo);
// rt_sigqueueinfo: EPERM for a si_code >= 0 or SI_TKILL towards another process.
Result<void> sigqueue(Task& sender, pid_t tgid, SigInfo info);
Result<void> tgsigqueue(Task& sender, pid_t tgid, pid_t tid, SigInfo info);
Result<void> pidfd_send_signal(Task& sender, ThreadGroup& target, int signo, const SigInfo* info);

// --- from inside the kernel: no permission check
Result<void> send_to_group(ThreadGroup& group, const SigInfo& info);
Result<void> send_to_task(Task& task, const SigInfo& info);
// To every member of a process group.
void send_to_process_group(TreeLock& tree, ProcessGroup& group, const SigInfo& info);
// A POSIX timer's: queued once per source. To the group when `task` is null.
void send_timer_signal(ThreadGroup& group, Task* task, const SigInfo& info,
                       Ref<SignalSource> source);
// The caller holds the tree lock (notifications from child to parent).
void send_to_group(TreeLock& tree, ThreadGroup& group, const SigInfo& info);
// SIGCHLD's information about `child`, and the one for stops and continuations (code CLD_STOPPED or
// CLD_CONTINUED), with a wake-up of whoever waits for children.
SigInfo child_signal(TreeLock& tree, ThreadGroup& child, int code, int status);
void notify_parent(TreeLock& tree, ThreadGroup& child, int code, int status);

// EPERM unless `sender` may signal `target` (kill(2), "the real or effective user ID of ...").
Result<void> may_signal(TreeLock& tree, Task& sender, ThreadGroup& target, int signo);

}  // namespace boxrun::kernel
