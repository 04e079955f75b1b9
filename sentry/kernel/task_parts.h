#pragma once
#include "sentry/cred/credentials.h"
#include "sentry/kernel/signal_state.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/fs_context.h"
#include "src/base/ref.h"

namespace boxrun::kernel {

// What a task shares with others or has for itself, by the flags of clone(2).
struct TaskResources {
  Ref<mm::MemoryManager> mm;
  Ref<vfs::FdTable> fds;
  Ref<vfs::FsContext> fs;
  Ref<Credentials> cred;
};

// The part of a task's signal state that others touch: guarded by its group's signal lock.
struct TaskSignals {
  explicit TaskSignals(SignalQueueCount& queued) : pending(queued) {}
  PendingSignals pending;
  SignalSet blocked;
  SignalSet waiting_for;       // in rt_sigtimedwait: blocked, yet not to be dropped
  bool die = false;            // this task alone must exit (execve of another)
  bool must_stop = false;      // takes part in a group stop
  bool stop_dequeued = false;  // took a stop signal that no SIGCONT has cancelled since
  bool stopped = false;
  bool exited = false;
};

}  // namespace boxrun::kernel
