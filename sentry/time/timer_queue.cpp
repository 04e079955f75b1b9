#include "sentry/time/timer_queue.h"

#include <algorithm>
#include <chrono>

namespace boxrun {
namespace {

// CLOCK_MONOTONIC is what steady_clock counts.
using Time = std::chrono::steady_clock::time_point;

Nanos now() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

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
  if (running_ == &timer && on_own_thread()) {
    if (timer.disarming_ > 0) return;
    deadline = std::max(deadline, now() + kShortestPause);
  }
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
  if (on_own_thread()) return;
  timer.disarming_++;
  while (running_ == &timer) changed_.wait(mutex_);
  timer.disarming_--;
}

void TimerQueue::run() {
  Lock lock(mutex_);
  while (!stop_) {
    if (timers_.empty()) {
      changed_.wait(mutex_);
      continue;
    }
    const Nanos deadline = timers_.begin()->first.first;
    if (now() < deadline) {
      changed_.wait_until(mutex_, Time(std::chrono::nanoseconds(deadline)));
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
