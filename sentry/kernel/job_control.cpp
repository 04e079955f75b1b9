#include "sentry/kernel/job_control.h"

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/signals.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"

namespace boxrun::kernel {
namespace {

Session& session_of(TreeLock& tree, ThreadGroup& process) {
  return *process.links(tree).process_group->session;
}

bool has_stopped_member(TreeLock& tree, ProcessGroup& group) {
  const auto& members = group.members(tree);
  return std::any_of(members.begin(), members.end(), [](ThreadGroup* member) {
    SignalLock lock(*member);
    return member->signals(lock).stopped;
  });
}

// The process that `pid` names, the caller's own for 0.
Result<ThreadGroup*> process_of(TreeLock& tree, Task& task, pid_t pid) {
  if (pid == 0) return &task.group();
  ThreadGroup* process = task.kernel().pids().find_group(tree, pid);
  if (process != nullptr) return process;
  Task* thread = task.kernel().pids().find_task(tree, pid);
  if (thread == nullptr) return Errno::kSrch;
  return &thread->group();
}

}  // namespace

bool ProcessGroup::orphaned(TreeLock& tree, const ThreadGroup* without) {
  for (ThreadGroup* member : members_) {
    auto& links = member->links(tree);
    if (member == without || links.state != ThreadGroup::State::kRunning) continue;
    if (links.parent == nullptr) continue;
    // Init is nobody's shell, except for the processes that it was told to make.
    if (links.parent->tgid == 1 && (!links.from_outside || links.disowned)) continue;
    const ProcessGroup* of_parent = links.parent->links(tree).process_group.get();
    if (of_parent != nullptr && of_parent != this && of_parent->session == session) return false;
  }
  return true;
}

void join_process_group(TreeLock& tree, ThreadGroup& process, Ref<ProcessGroup> group) {
  auto& links = process.links(tree);
  if (links.process_group == group) return;
  if (group->members(tree).empty()) {
    PidNamespace& pids = process.kernel().pids();
    pids.set_process_group(tree, group->id, group.get());
    if (group->session->links(tree).groups++ == 0) {
      pids.set_session(tree, group->session->id, group->session.get());
    }
  }
  group->members(tree).push_back(&process);
  leave_process_group(tree, process);
  links.process_group = std::move(group);
}

void leave_process_group(TreeLock& tree, ThreadGroup& process) {
  Ref<ProcessGroup> group = std::move(process.links(tree).process_group);
  if (!group) return;
  std::erase(group->members(tree), &process);
  if (!group->members(tree).empty()) return;
  PidNamespace& pids = process.kernel().pids();
  pids.set_process_group(tree, group->id, nullptr);
  auto& session = group->session->links(tree);
  if (session.foreground == group) session.foreground = nullptr;
  if (--session.groups == 0) {
    session.terminal = nullptr;
    pids.set_session(tree, group->session->id, nullptr);
  }
}

vfs::Terminal* controlling_terminal(TreeLock& tree, ThreadGroup& process) {
  auto& links = process.links(tree);
  if (!links.process_group || links.terminal_released) return nullptr;
  return links.process_group->session->links(tree).terminal.get();
}

void hang_up_if_orphaned(TreeLock& tree, ThreadGroup& process, ThreadGroup* exiting_parent) {
  // Two cases, as in kernel/exit.c: kill_orphaned_pgrp. The process itself exits: its own group
  // loses a member with a parent outside. Its parent exits: the process's group loses that link.
  auto& links = process.links(tree);
  ThreadGroup* parent = exiting_parent != nullptr ? exiting_parent : links.parent;
  ProcessGroup* group = links.process_group.get();
  if (parent == nullptr || group == nullptr) return;
  ProcessGroup* of_parent = parent->links(tree).process_group.get();
  if (of_parent == nullptr || of_parent == group || of_parent->session != group->session) return;
  if (!group->orphaned(tree, exiting_parent != nullptr ? nullptr : &process)) return;
  if (!has_stopped_member(tree, *group)) return;
  send_to_process_group(tree, *group, kernel_signal(SIGHUP));
  send_to_process_group(tree, *group, kernel_signal(SIGCONT));
}

Result<void> set_process_group(Task& task, pid_t pid, pid_t pgid) {
  if (pgid < 0) return Errno::kInval;
  Kernel& kernel = task.kernel();
  TreeLock tree(kernel.tree());
  if (pid == 0) pid = task.tgid();
  if (pgid == 0) pgid = pid;
  ThreadGroup* process = kernel.pids().find_group(tree, pid);
  if (process == nullptr) {
    // Linux finds a thread by its tid, too, and then insists on the leader.
    return kernel.pids().find_task(tree, pid) != nullptr ? Errno::kInval : Errno::kSrch;
  }
  auto& links = process->links(tree);
  if (links.parent == &task.group()) {
    if (&session_of(tree, *process) != &session_of(tree, task.group())) return Errno::kPerm;
    if (links.executed) return Errno::kAcces;
  } else if (process != &task.group()) {
    return Errno::kSrch;
  }
  Session& session = session_of(tree, *process);
  if (session.links(tree).leader == process) return Errno::kPerm;
  Ref<ProcessGroup> group(kernel.pids().find_process_group(tree, pgid));
  if (group) {
    if (group->session.get() != &session) return Errno::kPerm;
  } else {
    if (pgid != pid) return Errno::kPerm;
    group = make_ref<ProcessGroup>(pgid, Ref<Session>(&session));
  }
  join_process_group(tree, *process, std::move(group));
  return {};
}

Result<pid_t> get_process_group(Task& task, pid_t pid) {
  TreeLock tree(task.kernel().tree());
  ThreadGroup* process = TRY(process_of(tree, task, pid));
  return process->links(tree).process_group->id;
}

Result<pid_t> get_session(Task& task, pid_t pid) {
  TreeLock tree(task.kernel().tree());
  ThreadGroup* process = TRY(process_of(tree, task, pid));
  return session_of(tree, *process).id;
}

Result<pid_t> create_session(Task& task) {
  TreeLock tree(task.kernel().tree());
  const pid_t id = task.tgid();
  ThreadGroup& process = task.group();
  if (session_of(tree, process).links(tree).leader == &process) return Errno::kPerm;
  if (task.kernel().pids().find_process_group(tree, id) != nullptr) return Errno::kPerm;
  auto session = make_ref<Session>(id);
  session->links(tree).leader = &process;
  process.links(tree).terminal_released = false;
  join_process_group(tree, process, make_ref<ProcessGroup>(id, std::move(session)));
  return id;
}

Result<void> acquire_terminal(Task& task, vfs::Terminal& terminal, bool steal) {
  pid_t foreground = 0;
  {
    TreeLock tree(task.kernel().tree());
    Session& session = session_of(tree, task.group());
    auto& links = session.links(tree);
    const bool leader = links.leader == &task.group();
    if (leader && links.terminal.get() == &terminal) return {};
    if (!leader || links.terminal) return Errno::kPerm;
    for (Session* other : task.kernel().pids().sessions(tree)) {
      if (other->links(tree).terminal.get() != &terminal) continue;
      if (!steal || !task.cred().has_capability(CAP_SYS_ADMIN)) return Errno::kPerm;
      other->links(tree).terminal = nullptr;
      other->links(tree).foreground = nullptr;
    }
    links.terminal = Ref<vfs::Terminal>(&terminal);
    links.foreground = task.group().links(tree).process_group;
    foreground = links.foreground->id;
  }
  terminal.foreground_changed(foreground);
  return {};
}

Result<void> release_terminal(Task& task, vfs::Terminal& terminal) {
  TreeLock tree(task.kernel().tree());
  if (controlling_terminal(tree, task.group()) != &terminal) return Errno::kNoTty;
  auto& links = session_of(tree, task.group()).links(tree);
  if (links.leader != &task.group()) {
    task.group().links(tree).terminal_released = true;
    return {};
  }
  if (Ref<ProcessGroup> group = links.foreground) {
    send_to_process_group(tree, *group, kernel_signal(SIGHUP));
    send_to_process_group(tree, *group, kernel_signal(SIGCONT));
  }
  links.foreground = nullptr;
  links.terminal = nullptr;
  return {};
}

Result<pid_t> foreground_group(Task& task, vfs::Terminal& terminal) {
  const bool outside = terminal.sandbox_in_background();
  TreeLock tree(task.kernel().tree());
  if (controlling_terminal(tree, task.group()) != &terminal) return Errno::kNoTty;
  const auto& links = session_of(tree, task.group()).links(tree);
  // 0 as for any group that the caller's pid namespace does not know (pid_vnr).
  return links.foreground && !outside ? links.foreground->id : 0;
}

Result<void> set_foreground_group(Task& task, vfs::Terminal& terminal, pid_t pgid) {
  if (const auto allowed = check_background(task, terminal, SIGTTOU); !allowed.ok()) {
    return allowed.error() == Errno::kIo ? Errno::kNoTty : allowed.error();
  }
  {
    TreeLock tree(task.kernel().tree());
    if (controlling_terminal(tree, task.group()) != &terminal) return Errno::kNoTty;
    if (pgid < 0) return Errno::kInval;
    ProcessGroup* group = task.kernel().pids().find_process_group(tree, pgid);
    if (group == nullptr) return Errno::kSrch;
    Session& session = session_of(tree, task.group());
    if (group->session.get() != &session) return Errno::kPerm;
    session.links(tree).foreground = Ref<ProcessGroup>(group);
  }
  terminal.foreground_changed(pgid);
  return {};
}

Result<pid_t> terminal_session(Task& task, vfs::Terminal& terminal) {
  TreeLock tree(task.kernel().tree());
  if (controlling_terminal(tree, task.group()) != &terminal) return Errno::kNoTty;
  return session_of(tree, task.group()).id;
}

Result<void> check_background(Task& task, vfs::Terminal& terminal, int signo) {
  const bool outside = terminal.sandbox_in_background();
  TreeLock tree(task.kernel().tree());
  if (controlling_terminal(tree, task.group()) != &terminal) return {};
  const Ref<ProcessGroup> own = task.group().links(tree).process_group;
  const auto& links = own->session->links(tree);
  if (!outside && (!links.foreground || links.foreground == own)) return {};
  {
    SignalLock lock(task.group());
    const bool ignored = task.signals(lock).blocked.has(signo) ||
                         task.group().handlers(lock)->get(signo).is_ignore();
    if (ignored) {
      if (signo == SIGTTIN) return Errno::kIo;
      return {};
    }
  }
  if (own->orphaned(tree)) return Errno::kIo;
  send_to_process_group(tree, *own, kernel_signal(signo));
  return Errno::kRestartSys;
}

pid_t signal_foreground(Kernel& kernel, vfs::Terminal& terminal, int signo) {
  TreeLock tree(kernel.tree());
  for (Session* session : kernel.pids().sessions(tree)) {
    auto& links = session->links(tree);
    if (links.terminal.get() != &terminal) continue;
    const Ref<ProcessGroup> group = links.foreground;
    if (group) send_to_process_group(tree, *group, kernel_signal(signo));
    return group ? group->id : 0;
  }
  return 0;
}

}  // namespace boxrun::kernel
