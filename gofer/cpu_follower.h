// A client waits while its request is served, so the two share one CPU like a call and its return:
// waking a thread on another, idle CPU takes several times as long as what most requests do. Left
// alone, schedulers choose the idle CPU. So each serving thread follows its client's.
#pragma once
#include <sched.h>

#include <chrono>
#include <cstdint>

namespace boxrun::gofer {

// One per serving thread, used by it alone. A wrong or hostile hint costs speed, nothing else.
class CpuFollower {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // What it never leaves is what the calling thread may use now.
  CpuFollower();
  // After a reply was sent: pins the calling thread to the CPU of a hint (protocol.h) that came
  // twice in a row. At most one move a millisecond: both sides may be moving.
  void follow(uint16_t hint, Time now = std::chrono::steady_clock::now());

 private:
  cpu_set_t allowed_;
  uint16_t current_ = 0;  // hints, as below
  uint16_t last_ = 0;
  Time moved_{};
};

}  // namespace boxrun::gofer
