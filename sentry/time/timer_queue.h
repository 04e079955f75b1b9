#pragma once
#include <cstdint>
#include <map>
#include <thread>
#include <utility>

#include "sentry/time/clock.h"
#include "src/base/check.h"
#include "src/base/sync.h"

namespace boxrun {

class TimerQueue;

// Something that happens at a time: itimers, POSIX timers, timerfds, alarm. Its owner calls
// TimerQueue::disarm before destroying it.
class Timer {
 public:
  // Runs on the queue's thread with no lock held. May arm this timer again: not for sooner than
  // TimerQueue::kShortestPause, and not once somebody is disarming it.
  virtual void expired() = 0;

 protected:
  virtual ~Timer() { CHECK(!armed_); }

 private:
  friend class TimerQueue;
  Nanos deadline_ = 0;  // this and the rest: guarded by TimerQueue::mutex_
  uint64_t sequence_ = 0;
  bool armed_ = false;
  int disarming_ = 0;  // callers of disarm() that wait for expired() to return
};

// All timers of a sandbox, run by one thread that sleeps until the earliest deadline; no ticks.
class TimerQueue {
 public:
  // Between two expirations of one timer, so that one that is always due leaves the others their
  // turn, and the host its CPU. Who counts expirations loses none.
  static constexpr Nanos kShortestPause = 50'000;

  TimerQueue();
  ~TimerQueue();
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  // Calls timer.expired() once CLOCK_MONOTONIC has reached `deadline`. Replaces an earlier one.
  void arm(Timer& timer, Nanos deadline) EXCLUDES(mutex_);
  // On return expired() neither runs nor will run, unless called from expired() itself, or another
  // thread has armed the timer meanwhile: keeping that from happening is up to its owner.
  void disarm(Timer& timer) EXCLUDES(mutex_);

 private:
  void run();
  bool on_own_thread() const { return std::this_thread::get_id() == thread_.get_id(); }
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
