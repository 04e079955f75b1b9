#pragma once
#include <sched.h>
#include <signal.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <vector>

#include "sentry/kernel/fwd.h"
#include "src/base/result.h"

namespace boxrun::kernel {

// clone(2), clone3(2), fork(2) and vfork(2) in one form: the fields of struct clone_args.
struct CloneArgs {
  uint64_t flags = 0;  // CLONE_*, without the signal in the low byte
  uint64_t pidfd = 0;  // guest addresses, from here on
  uint64_t child_tid = 0;
  uint64_t parent_tid = 0;
  uint64_t exit_signal = SIGCHLD;
  uint64_t stack = 0;  // the child's stack pointer; 0: the parent's
  uint64_t tls = 0;
  std::vector<pid_t> set_tid;  // needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE
};

// A child that runs from the caller's registers on, with 0 in rax. Returns its tid; with
// CLONE_VFORK only after the child executed a program or exited. Namespaces: EPERM (CLONE_NEW*
// needs CAP_SYS_ADMIN, which the sandbox never has). EAGAIN at RLIMIT_NPROC or the sandbox's limit
// of tasks.
Result<pid_t> clone_task(Task& task, const CloneArgs& args);

// The pieces of unshare(2) that concern tasks: CLONE_FILES, CLONE_FS and flags that are no-ops for
// a single-threaded process; namespaces are EPERM.
Result<void> unshare(Task& task, uint64_t flags);

}  // namespace boxrun::kernel
