#include "sentry/kernel/signals.h"

#include <algorithm>
#include <climits>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"

namespace boxrun::kernel {
namespace {

void discard_everywhere(SignalLock& lock, ThreadGroup& group, SignalSet signals) {
  group.signals(lock).shared.discard(signals);
  for (Task* task : group.signals(lock).tasks) task->signals(lock).pending.discard(signals);
}

// SIGCONT continues a process when it is generated, whatever becomes of the signal.
void resume(SignalLock& lock, ThreadGroup& group) {
  auto& signals = group.signals(lock);
  discard_everywhere(lock, group, kStopSignals);
  for (Task* task : signals.tasks) {
    task->signals(lock).stop_dequeued = false;
    task->signals(lock).must_stop = false;
  }
  if (signals.stop_signal == 0) return;
  // A stop that was not complete is reported as one all the same (prepare_signal).
  signals.parent_notice = signals.stopped ? CLD_CONTINUED : CLD_STOPPED;
  signals.notice_status = signals.stopped ? SIGCONT : signals.stop_signal;
  signals.report_continue = signals.stopped;
  signals.report_stop = 0;
  signals.stop_signal = 0;
  signals.stopped = false;
  for (Task* task : signals.tasks) task->interrupt();
}

// Whether it is pointless to queue the signal. Blocked signals are kept even when ignored, because
// the action may change before they are unblocked.
bool dropped(SignalLock& lock, ThreadGroup& group, Task& target, int signo) {
  const TaskSignals& signals = target.signals(lock);
  if ((signals.blocked | signals.waiting_for).has(signo)) return false;
  return group.handlers(lock)->ignored(signo);
}

bool wants(SignalLock& lock, Task& task, int signo) {
  const TaskSignals& signals = task.signals(lock);
  return !signals.blocked.has(signo) || signals.waiting_for.has(signo);
}

// Makes `info` pending for `target`, or for the group when it is null.
Result<void> make_pending(SignalLock& lock, ThreadGroup& group, Task* target, const SigInfo& info,
                          Ref<SignalSource> source = nullptr) {
  const int signo = info.si_signo;
  auto& signals = group.signals(lock);
  if (signals.exiting || signals.immune || signals.tasks.empty()) return {};
  if (kStopSignals.has(signo)) discard_everywhere(lock, group, SignalSet::of(SIGCONT));
  if (signo == SIGCONT) resume(lock, group);
  if (signo == SIGKILL) {
    group.exit_all(lock, SIGKILL);
    return {};
  }
  if (dropped(lock, group, target != nullptr ? *target : *signals.tasks.front(), signo)) return {};
  PendingSignals& queue = target != nullptr ? target->signals(lock).pending : signals.shared;
  if (source) {
    queue.add_from(info, std::move(source));
  } else {
    TRY(queue.add(info, group.limits().soft(RLIMIT_SIGPENDING)));
  }
  group.signal_events().notify(kReadable);
  if (target == nullptr) {
    const auto at = std::find_if(signals.tasks.begin(), signals.tasks.end(),
                                 [&](Task* task) { return wants(lock, *task, signo); });
    if (at == signals.tasks.end()) return {};
    target = *at;
  }
  if (wants(lock, *target, signo)) target->interrupt();
  return {};
}

Result<void> check_signo(int signo) {
  if (signo != 0 && !valid_signal(signo)) return Errno::kInval;
  return {};
}

SigInfo info_from(Task& sender, int signo, int code) {
  return user_signal(signo, code, sender.tgid(), sender.cred().ruid);
}

// Permission, then the signal; 0 only asks.
Result<void> checked_send(TreeLock& tree, Task& sender, ThreadGroup& group, Task* target,
                          const SigInfo& info) {
  TRY(may_signal(tree, sender, group, info.si_signo));
  if (info.si_signo == 0) return {};
  SignalLock lock(group);
  return make_pending(lock, group, target, info);
}

// To many: success when anybody got it, else the last failure.
class Broadcast {
 public:
  void add(Result<void> result) {
    reached_ = reached_ || result.ok();
    if (!result.ok()) error_ = result.error();
  }
  Result<void> result() const { return reached_ ? Errno::kOk : error_; }

 private:
  bool reached_ = false;
  Errno error_ = Errno::kSrch;
};

Result<Task*> find_thread(TreeLock& tree, Task& sender, pid_t tgid, pid_t tid) {
  Task* target = sender.kernel().pids().find_task(tree, tid);
  if (target == nullptr || (tgid > 0 && target->tgid() != tgid)) return Errno::kSrch;
  return target;
}

}  // namespace

Result<void> may_signal(TreeLock& tree, Task& sender, ThreadGroup& target, int signo) {
  if (&sender.group() == &target) return {};
  const auto& links = target.links(tree);
  const Ref<Credentials> theirs = links.leader->cred_ref();
  const Credentials& own = sender.cred();
  if (own.euid == theirs->suid || own.euid == theirs->ruid || own.ruid == theirs->suid ||
      own.ruid == theirs->ruid || own.has_capability(CAP_KILL)) {
    return {};
  }
  const auto& own_links = sender.group().links(tree);
  if (signo == SIGCONT && links.process_group && own_links.process_group &&
      links.process_group->session == own_links.process_group->session) {
    return {};
  }
  return Errno::kPerm;
}

Result<void> kill(Task& sender, pid_t pid, int signo) {
  TRY(check_signo(signo));
  const SigInfo info = info_from(sender, signo, SI_USER);
  PidNamespace& pids = sender.kernel().pids();
  TreeLock tree(sender.kernel().tree());
  if (pid > 0) {
    ThreadGroup* group = pids.find_group(tree, pid);
    if (group == nullptr) {
      // A thread's number reaches its process, as on Linux.
      Task* thread = pids.find_task(tree, pid);
      if (thread == nullptr) return Errno::kSrch;
      group = &thread->group();
    }
    return checked_send(tree, sender, *group, nullptr, info);
  }
  if (pid == INT32_MIN) return Errno::kSrch;
  Broadcast broadcast;
  if (pid == -1) {
    for (ThreadGroup* group : pids.groups(tree)) {
      if (group->tgid == 1 || group == &sender.group()) continue;
      broadcast.add(checked_send(tree, sender, *group, nullptr, info));
    }
    return broadcast.result();
  }
  ProcessGroup* target = pid == 0 ? sender.group().links(tree).process_group.get()
                                  : pids.find_process_group(tree, -pid);
  if (target == nullptr) return Errno::kSrch;
  for (ThreadGroup* group : target->members(tree)) {
    broadcast.add(checked_send(tree, sender, *group, nullptr, info));
  }
  return broadcast.result();
}

Result<void> tgkill(Task& sender, pid_t tgid, pid_t tid, int signo) {
  if (tgid <= 0 || tid <= 0) return Errno::kInval;
  TRY(check_signo(signo));
  TreeLock tree(sender.kernel().tree());
  Task* target = TRY(find_thread(tree, sender, tgid, tid));
  return checked_send(tree, sender, target->group(), target, info_from(sender, signo, SI_TKILL));
}

Result<void> tkill(Task& sender, pid_t tid, int signo) {
  if (tid <= 0) return Errno::kInval;
  TRY(check_signo(signo));
  TreeLock tree(sender.kernel().tree());
  Task* target = TRY(find_thread(tree, sender, 0, tid));
  return checked_send(tree, sender, target->group(), target, info_from(sender, signo, SI_TKILL));
}

Result<void> sigqueue(Task& sender, pid_t tgid, SigInfo info) {
  if ((info.si_code >= 0 || info.si_code == SI_TKILL) && tgid != sender.tgid()) {
    return Errno::kPerm;
  }
  TRY(check_signo(info.si_signo));
  TreeLock tree(sender.kernel().tree());
  ThreadGroup* group = sender.kernel().pids().find_group(tree, tgid);
  if (group == nullptr) return Errno::kSrch;
  return checked_send(tree, sender, *group, nullptr, info);
}

Result<void> tgsigqueue(Task& sender, pid_t tgid, pid_t tid, SigInfo info) {
  if (tgid <= 0 || tid <= 0) return Errno::kInval;
  if ((info.si_code >= 0 || info.si_code == SI_TKILL) && tgid != sender.tgid()) {
    return Errno::kPerm;
  }
  TRY(check_signo(info.si_signo));
  TreeLock tree(sender.kernel().tree());
  Task* target = TRY(find_thread(tree, sender, tgid, tid));
  return checked_send(tree, sender, target->group(), target, info);
}

Result<void> pidfd_send_signal(Task& sender, ThreadGroup& target, int signo, const SigInfo* info) {
  TRY(check_signo(signo));
  if (info != nullptr) {
    if (info->si_signo != signo) return Errno::kInval;
    if ((info->si_code >= 0 || info->si_code == SI_TKILL) && &target != &sender.group()) {
      return Errno::kPerm;
    }
  }
  TreeLock tree(sender.kernel().tree());
  if (target.links(tree).state == ThreadGroup::State::kReaped) return Errno::kSrch;
  return checked_send(tree, sender, target, nullptr,
                      info != nullptr ? *info : info_from(sender, signo, SI_USER));
}

Result<void> send_to_group(ThreadGroup& group, const SigInfo& info) {
  SignalLock lock(group);
  return make_pending(lock, group, nullptr, info);
}

void send_to_group(TreeLock&, ThreadGroup& group, const SigInfo& info) {
  SignalLock lock(group);
  (void)make_pending(lock, group, nullptr, info);
}

Result<void> send_to_task(Task& task, const SigInfo& info) {
  SignalLock lock(task.group());
  if (task.signals(lock).exited) return Errno::kSrch;
  return make_pending(lock, task.group(), &task, info);
}

void send_timer_signal(ThreadGroup& group, Task* task, const SigInfo& info,
                       Ref<SignalSource> source) {
  SignalLock lock(group);
  if (task != nullptr && task->signals(lock).exited) return;
  (void)make_pending(lock, group, task, info, std::move(source));
}

void notify_parent(TreeLock& tree, ThreadGroup& child, int code, int status) {
  auto& links = child.links(tree);
  if (links.parent == nullptr) return;
  const SigInfo info = child_signal(tree, child, code, status);
  {
    SignalLock lock(*links.parent);
    const SignalAction action = links.parent->handlers(lock)->get(SIGCHLD);
    if (!action.is_ignore() && (action.flags & SA_NOCLDSTOP) == 0) {
      (void)make_pending(lock, *links.parent, nullptr, info);
    }
  }
  links.parent->child_events().notify(kReadable, INT_MAX);
}

SigInfo child_signal(TreeLock& tree, ThreadGroup& child, int code, int status) {
  SigInfo info{};
  info.si_signo = SIGCHLD;
  info.si_code = code;
  info.si_pid = child.tgid;
  info.si_uid = child.links(tree).leader->cred_ref()->ruid;
  info.si_status = status;
  const CpuTimes cpu = child.accounting(tree).cpu;
  const long ticks = kSecond / 100;  // USER_HZ
  info.si_utime = cpu.user / ticks;
  info.si_stime = cpu.system / ticks;
  return info;
}

void send_to_process_group(TreeLock& tree, ProcessGroup& group, const SigInfo& info) {
  for (ThreadGroup* member : group.members(tree)) send_to_group(tree, *member, info);
}

}  // namespace boxrun::kernel
