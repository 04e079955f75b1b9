#pragma once
#include "sentry/cred/credentials.h"
#include "sentry/kernel/fwd.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::kernel {

// A file that stands for a process (pidfd_open(2)): readable once the process is dead. It keeps the
// ThreadGroup alive, not its number. `flags`: O_NONBLOCK (PIDFD_NONBLOCK).
Ref<vfs::FileDescription> open_pidfd(Ref<ThreadGroup> process, Ref<Credentials> cred, int flags);
// pidfd_open(2): ESRCH, EINVAL when `pid` is a thread that leads no process.
Result<Ref<vfs::FileDescription>> open_pidfd(Task& task, pid_t pid, int flags);
// The process behind a pidfd; EBADF for any other file.
Result<Ref<ThreadGroup>> process_of(vfs::FileDescription& file);

}  // namespace boxrun::kernel
