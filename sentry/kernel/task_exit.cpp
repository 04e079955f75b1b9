// The end of a task, and of a process when it was the last: robust futexes, orphans, job control,
// the zombie and its parent (kernel/exit.c).
#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/life.h"
#include "sentry/kernel/signals.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/fs_context.h"

namespace boxrun::kernel {
namespace {

// struct robust_list_head (linux/futex.h), and the bound on the walk.
struct RobustListHead {
  uint64_t next;
  int64_t futex_offset;
  uint64_t pending;
};
constexpr int kRobustListLimit = 2048;
constexpr uint32_t kTidMask = 0x3fffffff, kOwnerDied = 0x40000000, kWaiters = 0x80000000;

// A robust mutex whose owner is dying: mark it and wake one waiter (handle_futex_death).
Result<void> release_robust(Task& task, uint64_t addr, bool pending) {
  mm::MemoryManager& mm = task.mm();
  uint32_t value = TRY(mm.load_u32(addr));
  for (;;) {
    if ((value & kTidMask) != static_cast<uint32_t>(task.tid())) {
      // The owner died between unlocking and waking: somebody may sleep for ever.
      if (pending && value == 0) {
        TRY(task.kernel().futexes().wake(mm, addr, true, 1, FutexTable::kAnyBit));
      }
      return {};
    }
    if (TRY(mm.compare_exchange_u32(addr, value, (value & kWaiters) | kOwnerDied))) break;
  }
  if ((value & kWaiters) != 0) {
    TRY(task.kernel().futexes().wake(mm, addr, true, 1, FutexTable::kAnyBit));
  }
  return {};
}

// Who adopts the children of a process without threads: the nearest subreaper, else init.
ThreadGroup& reaper_of(TreeLock& tree, ThreadGroup& process) {
  for (ThreadGroup* at = process.links(tree).parent; at != nullptr; at = at->links(tree).parent) {
    if (at->links(tree).subreaper && at->links(tree).state == ThreadGroup::State::kRunning) {
      return *at;
    }
  }
  return process.kernel().init();
}

void send_pdeath_signals(TreeLock& tree, ThreadGroup& child) {
  for (const Ref<Task>& task : child.links(tree).tasks) {
    if (task->pdeath_signal != 0) {
      send_to_group(tree, child, user_signal(task->pdeath_signal, SI_USER, 0, 0));
    }
  }
}

// The children of one thread go to another of the same process.
void hand_over_children(TreeLock& tree, Task& from, Task& to) {
  for (const Ref<ThreadGroup>& child : from.group().links(tree).children) {
    if (child->links(tree).parent_task != &from) continue;
    child->links(tree).parent_task = &to;
    send_pdeath_signals(tree, *child);
  }
}

void orphan_children(TreeLock& tree, ThreadGroup& process) {
  ThreadGroup& reaper = reaper_of(tree, process);
  for (const Ref<ThreadGroup>& child : std::exchange(process.links(tree).children, {})) {
    auto& links = child->links(tree);
    links.parent = &reaper;
    links.parent_task = reaper.links(tree).leader;
    hang_up_if_orphaned(tree, *child, &process);
    links.exit_signal = SIGCHLD;
    reaper.links(tree).children.push_back(child);
    send_pdeath_signals(tree, *child);
    if (links.state == ThreadGroup::State::kZombie) announce_zombie(tree, *child);
  }
}

// A session loses its leader (disassociate_ctty): the foreground hears of it, the terminal is free.
void end_session(TreeLock& tree, ThreadGroup& process) {
  const Ref<ProcessGroup>& group = process.links(tree).process_group;
  if (!group || group->session->links(tree).leader != &process) return;
  auto& session = group->session->links(tree);
  session.leader = nullptr;
  if (!session.terminal) return;
  if (const Ref<ProcessGroup> foreground = std::exchange(session.foreground, nullptr)) {
    send_to_process_group(tree, *foreground, kernel_signal(SIGHUP));
    send_to_process_group(tree, *foreground, kernel_signal(SIGCONT));
  }
  session.terminal = nullptr;
}

}  // namespace

void announce_zombie(TreeLock& tree, ThreadGroup& process) {
  auto& links = process.links(tree);
  ThreadGroup* parent = links.parent;
  if (parent == nullptr) return;
  bool reap_at_once = parent->tgid == 1;
  int signo = links.exit_signal;
  if (signo == SIGCHLD) {
    SignalLock lock(*parent);
    const SignalAction action = parent->handlers(lock)->get(SIGCHLD);
    // POSIX: such a parent gets no zombies, and with SIG_IGN no signal either.
    if (action.is_ignore() || (action.flags & SA_NOCLDWAIT) != 0) reap_at_once = true;
    if (action.is_ignore()) signo = 0;
  }
  if (signo != 0) {
    const int status = links.exit_status;
    SigInfo info = child_signal(tree, process, WIFEXITED(status) ? CLD_EXITED : CLD_KILLED,
                                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    info.si_signo = signo;
    send_to_group(tree, *parent, info);
  }
  if (reap_at_once) reap(tree, process);
  parent->child_events().notify(kReadable, INT_MAX);
}

void reap(TreeLock& tree, ThreadGroup& process) {
  auto& links = process.links(tree);
  const Ref<ThreadGroup> keep(&process);
  links.state = ThreadGroup::State::kReaped;
  PidNamespace& pids = process.kernel().pids();
  leave_process_group(tree, process);
  pids.set_group(tree, process.tgid, nullptr);
  pids.set_task(tree, process.tgid, nullptr);
  if (ThreadGroup* parent = std::exchange(links.parent, nullptr)) {
    auto& of_parent = parent->links(tree);
    std::erase_if(of_parent.children, [&](const auto& child) { return child.get() == &process; });
  }
  links.parent_task = nullptr;
  links.leader = nullptr;
  links.tasks.clear();
}

void Task::walk_robust_list() {
  const uint64_t head_address = std::exchange(robust_list, 0);
  RobustListHead head;
  if (head_address == 0 || !mm().copy_in(head_address, writable_bytes_of(head)).ok()) return;
  // Bit 0 of an entry says that the futex is a PI one.
  const auto entry = [](uint64_t link) { return link & ~uint64_t{1}; };
  uint64_t at = head.next;
  for (int i = 0; i < kRobustListLimit && entry(at) != head_address; i++) {
    uint64_t next = 0;
    const bool readable = mm().copy_in(entry(at), writable_bytes_of(next)).ok();
    if (entry(at) != entry(head.pending) &&
        !release_robust(*this, entry(at) + head.futex_offset, false).ok()) {
      return;
    }
    if (!readable) return;
    at = next;
  }
  if (entry(head.pending) != 0) {
    (void)release_robust(*this, entry(head.pending) + head.futex_offset, true);
  }
}

// What a task tells others through its memory before it lets go of it (mm_release).
void Task::release_memory() {
  walk_robust_list();
  const uint64_t tid_address = std::exchange(clear_child_tid, 0);
  if (tid_address != 0 && resources_.mm->ref_count() > 1) {
    const int32_t zero = 0;
    (void)mm().copy_out(tid_address, bytes_of(zero));
    (void)kernel_.futexes().wake(mm(), tid_address, true, 1, FutexTable::kAnyBit);
  }
  if (const Ref<Completion> done = std::exchange(vfork_done_, nullptr)) done->complete();
}

void Task::finish() {
  note_memory_use();
  release_memory();
  TaskResources old;
  {
    Lock lock(mutex_);
    old = resources_;
    resources_ = {.mm = nullptr, .fds = nullptr, .fs = nullptr, .cred = old.cred};
  }
  old.fds = nullptr;
  old.fs = nullptr;
  retired_mm_ = nullptr;
  {
    // The context goes before its address space; nobody can be interrupting it any more.
    std::unique_ptr<platform::Context> context;
    {
      Lock lock(mutex_);
      context = std::move(context_);
    }
  }
  old.mm = nullptr;
  const Ref<ThreadGroup> process = group_;
  if (process->last_to_exit()) {
    // Before the parent can know: it may overwrite the program file at once.
    process->set_exe(nullptr);
    process->timers().remove_all();
    process->timers().stop_intervals();
  }
  if (!leave_tree()) {
    process->child_events().notify(kReadable, INT_MAX);  // execve of another task waits for it
    tell_parent_of_stop();
    return;
  }
  process->exit_events().notify(kReadable | kHangup, INT_MAX);
}

// Takes the task out of its process; true when it was the last, and the process is dead.
bool Task::leave_tree() {
  TreeLock tree(kernel_.tree());
  auto& links = group().links(tree);
  const Accounting used = accounting();
  Task* heir = nullptr;
  {
    SignalLock lock(group());
    auto& shared = group().signals(lock);
    signals_.exited = true;
    signals_.pending.clear();
    std::erase(shared.tasks, this);
    shared.cpu_of_exited = shared.cpu_of_exited + used.cpu;
    kernel_.add_cpu_of_exited(used.cpu.user + used.cpu.system);
    host_cpu_clock_.store(-1, std::memory_order_relaxed);
    if (shared.exiting) exit_status_ = shared.exit_status;
    if (shared.tasks.empty()) {
      shared.exiting = true;
      shared.shared.clear();
    } else {
      heir = shared.tasks.front();
      group().complete_stop(lock);
      // Shared signals that this task was woken for are for the others now.
      for (Task* task : shared.tasks) {
        if (!(shared.shared.set() & ~task->signals_.blocked).empty()) task->interrupt();
      }
    }
  }
  links.own.add(used);
  // Without an exit_group, the status of the last thread counts (since Linux 5.17).
  if (heir == nullptr) links.exit_status = exit_status_;
  if (links.leader != this) {
    kernel_.pids().set_task(tree, tid(), nullptr);
    std::erase_if(links.tasks, [this](const Ref<Task>& task) { return task.get() == this; });
  }
  if (heir != nullptr) {
    hand_over_children(tree, *this, *heir);
    return false;
  }
  orphan_children(tree, group());
  hang_up_if_orphaned(tree, group(), nullptr);
  end_session(tree, group());
  links.state = ThreadGroup::State::kZombie;
  announce_zombie(tree, group());
  return true;
}

}  // namespace boxrun::kernel
