#include "sentry/wait/wait.h"

#include <array>
#include <span>

namespace boxrun {

Result<void> Sleeper::sleep(Deadline deadline) {
  const auto end = [this](uint32_t bits, Errno error) -> Result<void> {
    state_.fetch_and(~bits);
    if (error != Errno::kOk) return error;
    return {};
  };
  for (bool late = false;;) {
    const uint32_t state = state_.fetch_or(kAsleep) | kAsleep;
    if ((state & kWoken) != 0) return end(kAsleep | kWoken, Errno::kOk);
    if ((state & kInterrupted) != 0) return end(kAsleep, Errno::kIntr);
    if (late) return end(kAsleep, Errno::kTimedOut);
    late = !futex_wait(state_, state, deadline);
  }
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
  // More of them than fit are woken under the lock: slower, not wrong.
  std::array<const FutexWord*, 8> words;
  size_t count = 0;
  {
    const NotifyLock lock(*this);
    for (Entry* entry = head_; entry != nullptr; entry = entry->next_) {
      if (((entry->mask_ | kError | kHangup) & events) == 0) continue;
      if (entry->mode_ == Mode::kExclusive && exclusive-- <= 0) continue;
      const FutexWord* word = entry->waiter_.notified(events);
      if (word == nullptr) continue;
      if (count < words.size()) {
        words[count++] = word;
      } else {
        futex_wake(word);
      }
    }
  }
  for (const FutexWord* word : std::span(words).first(count)) futex_wake(word);
}

bool WaitQueue::empty() const {
  Lock lock(mutex_);
  return head_ == nullptr;
}

}  // namespace boxrun
