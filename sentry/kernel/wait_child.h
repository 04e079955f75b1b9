#pragma once
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>

#include "sentry/kernel/fwd.h"
#include "sentry/kernel/signal_state.h"
#include "src/base/result.h"

namespace boxrun::kernel {

// Which children wait4(2) or waitid(2) asks for.
struct WaitSelector {
  enum class Kind : uint8_t { kAny, kProcess, kProcessGroup } kind = Kind::kAny;
  pid_t id = 0;  // with kProcessGroup, 0 is the caller's
};

// What happened to a child.
struct WaitResult {
  pid_t pid = 0;  // 0: WNOHANG and nothing to report
  uid_t uid = 0;
  int code = 0;         // CLD_*
  int status = 0;       // si_status: exit status or signal number
  int wait_status = 0;  // as wait4 encodes it
  rusage usage{};       // of the child and the descendants it waited for
};

// `options`: WEXITED WSTOPPED(=WUNTRACED) WCONTINUED WNOHANG WNOWAIT __WALL __WCLONE __WNOTHREAD.
// ECHILD; kRestartSys when interrupted. Reaps a zombie unless WNOWAIT.
Result<WaitResult> wait_child(Task& task, WaitSelector selector, int options);

}  // namespace boxrun::kernel
