#include "sentry/kernel/pid_namespace.h"

namespace boxrun::kernel {

Result<pid_t> PidNamespace::allocate(TreeLock&) {
  for (pid_t tried = 0; tried < kMaxPid; tried++) {
    last_ = last_ + 1 < kMaxPid ? last_ + 1 : 2;
    if (entries_.contains(last_)) continue;
    entries_[last_].reserved = true;
    return last_;
  }
  return Errno::kAgain;
}

void PidNamespace::release(TreeLock&, pid_t id) {
  entries_[id].reserved = false;
  drop_if_unused(id);
}

const PidNamespace::Entry* PidNamespace::find(pid_t id) const {
  const auto at = entries_.find(id);
  return at == entries_.end() ? nullptr : &at->second;
}

void PidNamespace::drop_if_unused(pid_t id) {
  const auto at = entries_.find(id);
  const Entry& e = at->second;
  if (!e.reserved && !e.task && !e.group && !e.process_group && !e.session) entries_.erase(at);
}

Task* PidNamespace::find_task(TreeLock&, pid_t tid) const {
  const Entry* entry = find(tid);
  return entry != nullptr ? entry->task : nullptr;
}

ThreadGroup* PidNamespace::find_group(TreeLock&, pid_t tgid) const {
  const Entry* entry = find(tgid);
  return entry != nullptr ? entry->group : nullptr;
}

ProcessGroup* PidNamespace::find_process_group(TreeLock&, pid_t pgid) const {
  const Entry* entry = find(pgid);
  return entry != nullptr ? entry->process_group : nullptr;
}

Session* PidNamespace::find_session(TreeLock&, pid_t sid) const {
  const Entry* entry = find(sid);
  return entry != nullptr ? entry->session : nullptr;
}

void PidNamespace::set_task(TreeLock&, pid_t tid, Task* task) {
  entries_[tid].reserved = false;
  Task*& place = entries_[tid].task;
  if (place == nullptr && task != nullptr) task_count_++;
  if (place != nullptr && task == nullptr) task_count_--;
  place = task;
  drop_if_unused(tid);
}

void PidNamespace::set_group(TreeLock&, pid_t tgid, ThreadGroup* group) {
  entries_[tgid].group = group;
  drop_if_unused(tgid);
}

void PidNamespace::set_process_group(TreeLock&, pid_t pgid, ProcessGroup* group) {
  entries_[pgid].process_group = group;
  drop_if_unused(pgid);
}

void PidNamespace::set_session(TreeLock&, pid_t sid, Session* session) {
  entries_[sid].session = session;
  drop_if_unused(sid);
}

std::vector<ThreadGroup*> PidNamespace::groups(TreeLock&) const {
  std::vector<ThreadGroup*> out;
  for (const auto& [id, entry] : entries_) {
    if (entry.group != nullptr) out.push_back(entry.group);
  }
  return out;
}

std::vector<Session*> PidNamespace::sessions(TreeLock&) const {
  std::vector<Session*> out;
  for (const auto& [id, entry] : entries_) {
    if (entry.session != nullptr) out.push_back(entry.session);
  }
  return out;
}

}  // namespace boxrun::kernel
