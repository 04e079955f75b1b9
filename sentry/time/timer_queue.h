#pragma once
#include <cstdint>
#include <map>
#include <thread>
#include <utility>

#include "sentry/time/clock.h"
#include "src/base/sync.h"

namespace boxrun {

class TimerQueue;

// Something that happens at a time: itimers, POSIX timers, timerfds, alarm. Its owner calls
// TimerQueue::disarm before destroying it.
class Timer {
 public:
  // Runs on the queue's thread with no lock held. May arm this timer again.
  virtual void expired() = 0;

 protected:
  virtual ~Timer() = default;

 private:
  friend class TimerQueue;
  Nanos deadline_ = 0;  // this and the rest: guarded by TimerQueue::mutex_
  uint64_t sequence_ = 0;
  bool armed_ = false;
};

// All timers of a sandbox, run by one thread that sleeps until the earliest deadline; no ticks.
class TimerQueue {
 public:
  TimerQueue();
  ~TimerQueue();
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  // Calls timer.expired() once CLOCK_MONOTONIC has reached `deadline`. Replaces an earlier one.
  void arm(Timer& timer, Nanos deadline) EXCLUDES(mutex_);
  // On return expired() neither runs nor will run, unless called from expired() itself.
  void disarm(Timer& timer) EXCLUDES(mutex_);

 private:
  void run();
  void remove_locked(Timer& timer) REQUIRES(mutex_);

  Mutex mutex_{Rank::kTimers};
  CondVar changed_;
  std::map<std::pair<Nanos, uint64_t>, Timer*> timers_ GUARDED_BY(mutex_);
  uint64_t next_sequence_ GUARDED_BY(mutex_) = 0;
  Timer* running_ GUARDED_BY(mutex_) = nullptr;
  bool stop_ GUARDED_BY(mutex_) = false;
  std::jthread thread_;
};

}  // namespace boxrun
