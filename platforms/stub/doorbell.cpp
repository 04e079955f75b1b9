#include "platforms/stub/doorbell.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "platforms/stub/layout.h"

namespace boxrun::platform {

void Doorbell::ring() {
  // Who latched it first rings: signals that come faster than they are handled would leave the
  // guest thread no time to stop.
  if (latched_.exchange(true)) return;
  Lock lock(mutex_);
  if (!running_.load() || thread_ == 0) return;
  ::syscall(SYS_tgkill, process_, thread_, kDoorbell);
}

void Doorbell::attach(pid_t process, pid_t thread) {
  Lock lock(mutex_);
  process_ = process;
  thread_ = thread;
}

}  // namespace boxrun::platform
