// execve: the loader has built a new memory; from then on there is no way back. The other threads
// go, and what belongs to the old program is dropped (fs/exec.c: begin_new_exec).
#include <linux/personality.h>
#include <linux/securebits.h>
#include <sys/stat.h>

#include <climits>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/file_description.h"

namespace boxrun::kernel {

Result<void> Task::exec(const ExecRequest& request) {
  ExecImage image = TRY(kernel_.loader().load(*this, request));
  if (!become_only_task()) return Errno::kAgain;  // killed, or another thread is faster
  install(std::move(image));
  keep_registers();
  return {};
}

// Ends all other tasks of the process; false when this one is to exit itself.
bool Task::become_only_task() {
  {
    SignalLock lock(group());
    auto& shared = group().signals(lock);
    if (must_exit(lock) || shared.executing != nullptr) return false;
    shared.executing = this;
    for (Task* task : shared.tasks) {
      if (task == this) continue;
      task->signals_.die = true;
      task->interrupt();
    }
  }
  const bool alone = wait_for_others();
  {
    SignalLock lock(group());
    group().signals(lock).executing = nullptr;
  }
  if (alone) take_over_leader();
  return alone;
}

bool Task::wait_for_others() {
  sleeper_.reset();
  WaitQueue::Entry entry(group().child_events(), kReadable, sleeper_);
  bool interrupted = false;
  bool alone = false;
  for (;;) {
    {
      SignalLock lock(group());
      if (must_exit(lock)) break;
      alone = group().signals(lock).tasks.size() == 1;
      if (alone) break;
    }
    if (sleeper_.sleep({}).ok()) continue;
    sleeper_.take_interrupt();
    interrupted = true;
  }
  if (interrupted) sleeper_.interrupt();
  return alone;
}

// The process keeps its number whichever thread executes: that thread becomes the leader.
void Task::take_over_leader() {
  TreeLock tree(kernel_.tree());
  auto& links = group().links(tree);
  links.executed = true;
  links.exit_signal = SIGCHLD;
  if (links.leader == this) return;
  const Ref<Task> old(links.leader);
  std::erase(links.tasks, old);
  kernel_.pids().set_task(tree, tid(), nullptr);
  kernel_.pids().set_task(tree, tgid(), this);
  tid_.store(tgid(), std::memory_order_relaxed);
  links.leader = this;
}

void Task::install(ExecImage image) {
  if (resources_.mm) {
    note_memory_use();
    release_memory();
    // Descriptors and actions stop being shared with other processes.
    if (fds().ref_count() > 1) set_fds(fds().clone());
    fds().close_on_exec();
    group().timers().remove_all();
  }
  {
    SignalLock lock(group());
    Ref<SignalHandlers> handlers = group().handlers(lock);
    if (handlers->ref_count() > 2) handlers = handlers->copy();  // the group's and this one
    handlers->reset_for_exec();
    group().set_handlers(lock, std::move(handlers));
  }
  saved_mask_ = std::nullopt;
  alt_stack_ = {};
  robust_list = 0;
  clear_child_tid = 0;
  restart_ = nullptr;
  last_fault_ = {};
  set_comm(image.comm);
  group().set_exe(std::move(image.exe));
  Ref<Credentials> cred = (image.cred ? image.cred : resources_.cred)->clone();
  cred->securebits &= ~static_cast<uint32_t>(SECBIT_KEEP_CAPS);
  set_cred(std::move(cred));
  group().dumpable =
      image.secure || !image.readable ? ThreadGroup::Dumpable::kNo : ThreadGroup::Dumpable::kYes;
  if (image.secure) {
    persona.fetch_and(~static_cast<uint32_t>(PER_CLEAR_ON_SETID));
    TreeLock tree(kernel_.tree());
    pdeath_signal = 0;
  }
  {
    Lock lock(mutex_);
    if (resources_.mm) image.mm->huge_pages_disabled = resources_.mm->huge_pages_disabled.load();
    retired_mm_ = std::exchange(resources_.mm, std::move(image.mm));
  }
  cpu_.reset(image.registers);
}

ExecIdentity exec_credentials(Task& task, mode_t mode, uid_t uid, gid_t gid, bool honour_setid) {
  const Credentials& old = task.cred();
  Ref<Credentials> cred = old.clone();
  const bool setid = honour_setid && !task.no_new_privs;
  if (setid && (mode & S_ISUID) != 0) cred->euid = uid;
  // Set-group-ID without group execution is mandatory locking.
  if (setid && (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) cred->egid = gid;
  cred->suid = cred->fsuid = cred->euid;
  cred->sgid = cred->fsgid = cred->egid;

  const bool changed = cred->euid != old.euid || cred->egid != old.egid;
  if (changed) cred->ambient = {};
  const bool root_is_special = (old.securebits & SECBIT_NOROOT) == 0;
  const bool root = root_is_special && (cred->euid == 0 || cred->ruid == 0);
  if (root) {
    cred->ambient = {};
    cred->permitted.bits = old.inheritable.bits | old.bounding.bits;
    cred->effective = cred->euid == 0 ? cred->permitted : CapSet{};
  } else {
    cred->permitted = cred->effective = cred->ambient;
  }
  const bool secure = cred->euid != cred->ruid || cred->egid != cred->rgid;
  return {std::move(cred), secure};
}

}  // namespace boxrun::kernel
