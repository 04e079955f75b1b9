#include "sentry/wait/wait.h"

#include <utility>

namespace boxrun {

void Sleeper::wake() {
  Lock lock(mutex_);
  woken_ = true;
  changed_.notify_one();
}

void Sleeper::interrupt() {
  Lock lock(mutex_);
  interrupted_ = true;
  changed_.notify_one();
}

bool Sleeper::take_interrupt() {
  Lock lock(mutex_);
  return std::exchange(interrupted_, false);
}

bool Sleeper::interrupted() const {
  Lock lock(mutex_);
  return interrupted_;
}

void Sleeper::reset() {
  Lock lock(mutex_);
  woken_ = false;
}

Result<void> Sleeper::sleep(Deadline deadline) {
  Lock lock(mutex_);
  while (!woken_) {
    if (interrupted_) return Errno::kIntr;
    if (!deadline) {
      changed_.wait(mutex_);
    } else if (!changed_.wait_until(mutex_, *deadline) && !woken_) {
      return interrupted_ ? Errno::kIntr : Errno::kTimedOut;
    }
  }
  woken_ = false;
  return {};
}

WaitQueue::Entry::Entry(WaitQueue& queue, Events mask, Waiter& waiter, Mode mode)
    : queue_(queue), mask_(mask), waiter_(waiter), mode_(mode) {
  Lock lock(queue_.mutex_);
  prev_ = queue_.tail_;
  (prev_ != nullptr ? prev_->next_ : queue_.head_) = this;
  queue_.tail_ = this;
}

WaitQueue::Entry::~Entry() {
  Lock lock(queue_.mutex_);
  (prev_ != nullptr ? prev_->next_ : queue_.head_) = next_;
  (next_ != nullptr ? next_->prev_ : queue_.tail_) = prev_;
}

void WaitQueue::notify(Events events, int exclusive) {
  const NotifyLock lock(*this);
  for (Entry* entry = head_; entry != nullptr; entry = entry->next_) {
    if (((entry->mask_ | kError | kHangup) & events) == 0) continue;
    if (entry->mode_ == Mode::kExclusive && exclusive-- <= 0) continue;
    entry->waiter_.notified(events);
  }
}

bool WaitQueue::empty() const {
  Lock lock(mutex_);
  return head_ == nullptr;
}

}  // namespace boxrun
