// clone, fork and vfork: a child is made of copies of, or references to, its parent's parts,
// entered into the tree, and started (kernel/fork.c).
#include <utility>

#include "sentry/kernel/clone.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/life.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/fs_context.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

namespace boxrun::kernel {
namespace {

constexpr uint64_t kNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                 CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWTIME;
constexpr uint64_t kIntoCgroup = 0x200000000;
constexpr uint64_t kDetached = 0x00400000;

bool has(uint64_t flags, uint64_t flag) { return (flags & flag) != 0; }

Result<void> check_flags(const CloneArgs& args) {
  const uint64_t flags = args.flags;
  if (has(flags, CLONE_NEWNS) && has(flags, CLONE_FS)) return Errno::kInval;
  if (has(flags, CLONE_NEWUSER) && has(flags, CLONE_FS)) return Errno::kInval;
  if (has(flags, CLONE_THREAD) && !has(flags, CLONE_SIGHAND)) return Errno::kInval;
  if (has(flags, CLONE_SIGHAND) && !has(flags, CLONE_VM)) return Errno::kInval;
  if (has(flags, CLONE_SIGHAND) && has(flags, CLONE_CLEAR_SIGHAND)) return Errno::kInval;
  if (has(flags, CLONE_THREAD) && has(flags, CLONE_NEWUSER | CLONE_NEWPID)) return Errno::kInval;
  // Descriptors for single threads (PIDFD_THREAD) are not there yet.
  if (has(flags, CLONE_PIDFD) && has(flags, kDetached | CLONE_THREAD)) return Errno::kInval;
  if (args.exit_signal > kSignalCount || has(flags, kIntoCgroup)) return Errno::kInval;
  if (has(flags, kNamespaces) || !args.set_tid.empty()) {
    // There is one namespace of each kind; making more is a right nobody has here.
    return Errno::kPerm;
  }
  return {};
}

Result<TaskResources> copy_resources(Task& task, uint64_t flags) {
  TaskResources own = task.resources();
  TaskResources out{.mm = own.mm, .fds = own.fds, .fs = own.fs, .cred = own.cred};
  if (!has(flags, CLONE_VM)) out.mm = TRY(task.mm().fork());
  if (!has(flags, CLONE_FILES)) out.fds = task.fds().clone();
  if (!has(flags, CLONE_FS)) out.fs = task.fs().clone();
  return out;
}

Ref<ThreadGroup> new_process(Task& task, const CloneArgs& args, pid_t pid) {
  Ref<SignalHandlers> handlers;
  {
    SignalLock lock(task.group());
    handlers = task.group().handlers(lock);
  }
  if (!has(args.flags, CLONE_SIGHAND)) handlers = handlers->copy();
  if (has(args.flags, CLONE_CLEAR_SIGHAND)) handlers->reset_for_exec();
  auto process = make_ref<ThreadGroup>(task.kernel(), pid, std::move(handlers));
  process->limits().copy_from(task.group().limits());
  process->timers().watch_cpu_limit();
  process->dumpable = task.group().dumpable.load();
  process->oom_score_adj = task.group().oom_score_adj.load();
  process->nice = task.group().nice.load();
  process->set_exe(task.group().exe());
  return process;
}

// RLIMIT_NPROC counts processes of a user: here, all of the sandbox.
Result<void> check_task_limits(TreeLock& tree, Task& task) {
  const size_t count = task.kernel().pids().task_count(tree);
  const Credentials& cred = task.cred();
  const bool privileged =
      cred.ruid == 0 || cred.has_capability(CAP_SYS_RESOURCE) || cred.has_capability(CAP_SYS_ADMIN);
  // Init is not the guest's.
  if (count - 1 >= task.kernel().max_tasks()) {
    task.kernel().refused_task().set();
    return Errno::kAgain;
  }
  if (!privileged && count - 1 >= task.group().limits().soft(RLIMIT_NPROC)) return Errno::kAgain;
  return {};
}

// Puts a new process into the tree.
void enter_process(TreeLock& tree, Task& parent, Task& child, const CloneArgs& args) {
  ThreadGroup& process = child.group();
  auto& links = process.links(tree);
  auto& of_caller = parent.group().links(tree);
  if (has(args.flags, CLONE_PARENT)) {
    links.parent = of_caller.parent;
    links.parent_task = of_caller.parent_task;
    links.exit_signal = of_caller.exit_signal;
  } else {
    links.parent = &parent.group();
    links.parent_task = &parent;
    links.exit_signal = static_cast<int>(args.exit_signal);
  }
  links.leader = &child;
  links.terminal_released = of_caller.terminal_released;
  join_process_group(tree, process, of_caller.process_group);
  links.parent->links(tree).children.emplace_back(&process);
  child.kernel().pids().set_group(tree, process.tgid, &process);
}

}  // namespace

void enter_task(TreeLock& tree, Task& child) {
  ThreadGroup& process = child.group();
  process.links(tree).tasks.emplace_back(&child);
  process.task_added();
  child.kernel().pids().set_task(tree, child.tid(), &child);
  SignalLock lock(process);
  process.signals(lock).tasks.push_back(&child);
  // A thread that is born into a stop stops, too.
  child.signals(lock).must_stop = process.signals(lock).stop_signal != 0;
}

void Task::inherit(Task& parent, const CloneArgs& args) {
  cpu_.copy_from(parent.cpu_);
  platform::Registers& registers = cpu_.registers_for_write();
  registers.rax = 0;
  registers.orig_rax = UINT64_MAX;
  if (args.stack != 0) registers.rsp = args.stack;
  if (has(args.flags, CLONE_SETTLS)) registers.fs_base = args.tls;
  set_comm(parent.comm());
  no_new_privs = parent.no_new_privs.load();
  persona = parent.persona.load();
  set_scheduling(parent.scheduling().for_child());
  timer_slack = parent.timer_slack;
  if (has(args.flags, CLONE_CHILD_CLEARTID)) clear_child_tid = args.child_tid;
  // A stack of one's own makes sense only in a memory of one's own (copy_thread).
  if (!has(args.flags, CLONE_VM) || has(args.flags, CLONE_VFORK)) alt_stack_ = parent.alt_stack_;
  const SignalSet mask = parent.signal_mask();
  SignalLock lock(group());
  signals_.blocked = mask;
}

namespace {

// What is undone when a clone fails half-way.
class CloneGuard {
 public:
  explicit CloneGuard(Task& parent) : parent_(parent) {}
  ~CloneGuard() {
    if (done_) return;
    if (started_) started_->go(Task::Go::kGiveUp);
    if (fd_ >= 0) (void)parent_.fds().close(fd_);
    if (tid_ == 0) return;
    TreeLock tree(parent_.kernel().tree());
    parent_.kernel().pids().release(tree, tid_);
  }
  CloneGuard(const CloneGuard&) = delete;
  CloneGuard& operator=(const CloneGuard&) = delete;

  void reserved(pid_t tid) { tid_ = tid; }
  void installed(int fd) { fd_ = fd; }
  void started(Ref<Task> child) { started_ = std::move(child); }
  void done() { done_ = true; }

 private:
  Task& parent_;
  pid_t tid_ = 0;
  int fd_ = -1;
  Ref<Task> started_;
  bool done_ = false;
};

Result<pid_t> reserve_tid(Task& task) {
  TreeLock tree(task.kernel().tree());
  TRY(check_task_limits(tree, task));
  return task.kernel().pids().allocate(tree);
}

Result<int> install_pidfd(Task& task, Ref<ThreadGroup> process) {
  return task.fds().install(open_pidfd(std::move(process), task.resources().cred, 0),
                            vfs::FdTable::OnExec::kClose,
                            task.group().limits().soft(RLIMIT_NOFILE));
}

// The moment from which the child exists for others.
Result<void> enter(Task& task, Task& child, const CloneArgs& args) {
  TreeLock tree(task.kernel().tree());
  TRY(check_task_limits(tree, task));
  // A signal to both, or one that kills the process, must not fall between parent and child.
  if (task.work_pending()) return Errno::kRestartNoIntr;
  if (!has(args.flags, CLONE_THREAD)) enter_process(tree, task, child, args);
  enter_task(tree, child);
  return {};
}

}  // namespace

Result<pid_t> clone_task(Task& task, const CloneArgs& args) {
  TRY(check_flags(args));
  CloneGuard guard(task);
  const pid_t tid = TRY(reserve_tid(task));
  guard.reserved(tid);
  const Ref<ThreadGroup> process = has(args.flags, CLONE_THREAD) ? Ref<ThreadGroup>(&task.group())
                                                                 : new_process(task, args, tid);
  auto child = make_ref<Task>(task.kernel(), process, tid, TRY(copy_resources(task, args.flags)));
  child->inherit(task, args);
  auto done = make_ref<Completion>();
  if (has(args.flags, CLONE_VFORK)) child->set_vfork_done(done);
  if (has(args.flags, CLONE_PIDFD)) {
    const int fd = TRY(install_pidfd(task, process));
    guard.installed(fd);
    TRY(task.mm().copy_out(args.pidfd, bytes_of(fd)));
  }
  TRY(child->start());
  guard.started(child);
  TRY(enter(task, *child, args));
  guard.done();
  // Linux ignores failures of these two.
  if (has(args.flags, CLONE_PARENT_SETTID)) {
    (void)task.mm().copy_out(args.parent_tid, bytes_of(tid));
  }
  if (has(args.flags, CLONE_CHILD_SETTID)) {
    (void)child->mm().copy_out(args.child_tid, bytes_of(tid));
  }
  child->go(Task::Go::kRun);
  if (has(args.flags, CLONE_VFORK)) (void)task.wait_killable(*done);
  return tid;
}

Result<void> unshare(Task& task, uint64_t flags) {
  constexpr uint64_t kOfTask = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
  if ((flags & ~(kNamespaces | kOfTask | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM)) != 0) {
    return Errno::kInval;
  }
  if ((flags & kOfTask) != 0 && task.group().task_count() > 1) return Errno::kInval;
  if (has(flags, kNamespaces)) return Errno::kPerm;
  if (has(flags, CLONE_FILES)) task.set_fds(task.fds().clone());
  if (has(flags, CLONE_FS)) task.set_fs(task.fs().clone());
  return {};
}

}  // namespace boxrun::kernel
