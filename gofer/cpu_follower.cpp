#include "gofer/cpu_follower.h"

#include "gofer/protocol.h"

namespace boxrun::gofer {

CpuFollower::CpuFollower() {
  if (::sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) CPU_ZERO(&allowed_);
}

void CpuFollower::follow(uint16_t hint, Time now) {
  const bool again = hint == last_;
  last_ = hint;
  if (hint == current_ || !again || hint == kNoCpu) return;
  const int cpu = hint - 1;
  if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &allowed_)) return;
  if (now - moved_ < std::chrono::milliseconds(1)) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  // Fails where the host has narrowed what we may use; then there is nothing to try again for a
  // while.
  if (::sched_setaffinity(0, sizeof one, &one) == 0) current_ = hint;
  moved_ = now;
}

}  // namespace boxrun::gofer
