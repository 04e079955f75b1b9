#pragma once
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <vector>

#include "sentry/kernel/fwd.h"
#include "sentry/kernel/task_tree.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::kernel {

// Numbers for tasks, process groups and sessions (pid_namespaces(7)); so far there is one. A
// number stays taken while anything still uses it: a task or zombie, a process group or a session.
// Holds no references: objects take themselves out. Guarded by the tree lock.
class PidNamespace final : public RefCounted {
 public:
  static constexpr pid_t kMaxPid = 32768;  // pid_max of a small Linux machine

  // Reserves the next free number, round robin. EAGAIN when none is left. It is taken by set_task
  // or given back by release.
  Result<pid_t> allocate(TreeLock&);
  void release(TreeLock&, pid_t id);

  Task* find_task(TreeLock&, pid_t tid) const;
  ThreadGroup* find_group(TreeLock&, pid_t tgid) const;
  ProcessGroup* find_process_group(TreeLock&, pid_t pgid) const;
  Session* find_session(TreeLock&, pid_t sid) const;

  void set_task(TreeLock&, pid_t tid, Task* task);
  void set_group(TreeLock&, pid_t tgid, ThreadGroup* group);
  void set_process_group(TreeLock&, pid_t pgid, ProcessGroup* group);
  void set_session(TreeLock&, pid_t sid, Session* session);

  // In ascending order of pid: for /proc and kill(-1).
  std::vector<ThreadGroup*> groups(TreeLock&) const;
  std::vector<Session*> sessions(TreeLock&) const;
  size_t task_count(TreeLock&) const { return task_count_; }

 private:
  struct Entry {
    bool reserved = false;
    Task* task = nullptr;
    ThreadGroup* group = nullptr;
    ProcessGroup* process_group = nullptr;
    Session* session = nullptr;
  };
  const Entry* find(pid_t id) const;
  void drop_if_unused(pid_t id);

  std::map<pid_t, Entry> entries_;
  pid_t last_ = 0;
  size_t task_count_ = 0;
};

}  // namespace boxrun::kernel
