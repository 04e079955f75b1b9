#include "sentry/time/timer_queue.h"

#include <chrono>

namespace boxrun {

TimerQueue::TimerQueue() : thread_([this] { run(); }) {}

TimerQueue::~TimerQueue() {
  {
    Lock lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void TimerQueue::remove_locked(Timer& timer) {
  if (!timer.armed_) return;
  timers_.erase({timer.deadline_, timer.sequence_});
  timer.armed_ = false;
}

void TimerQueue::arm(Timer& timer, Nanos deadline) {
  Lock lock(mutex_);
  remove_locked(timer);
  timer.deadline_ = deadline;
  timer.sequence_ = next_sequence_++;
  timer.armed_ = true;
  const auto [at, inserted] = timers_.emplace(std::pair(deadline, timer.sequence_), &timer);
  if (at == timers_.begin()) changed_.notify_all();
}

void TimerQueue::disarm(Timer& timer) {
  Lock lock(mutex_);
  remove_locked(timer);
  if (std::this_thread::get_id() == thread_.get_id()) return;
  while (running_ == &timer) changed_.wait(mutex_);
  remove_locked(timer);  // expired() may have armed it again
}

void TimerQueue::run() {
  Lock lock(mutex_);
  while (!stop_) {
    if (timers_.empty()) {
      changed_.wait(mutex_);
      continue;
    }
    // CLOCK_MONOTONIC is what steady_clock counts.
    const std::chrono::steady_clock::time_point deadline{
        std::chrono::nanoseconds(timers_.begin()->first.first)};
    if (std::chrono::steady_clock::now() < deadline) {
      changed_.wait_until(mutex_, deadline);
      continue;
    }
    Timer& timer = *timers_.begin()->second;
    remove_locked(timer);
    running_ = &timer;
    mutex_.unlock();
    timer.expired();
    mutex_.lock();
    running_ = nullptr;
    changed_.notify_all();
  }
}

}  // namespace boxrun
