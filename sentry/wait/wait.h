// Objects never block, tasks do. An object that may become ready owns a WaitQueue and notifies it;
// a task that wants to wait registers a WaitQueue::Entry for its Sleeper, tries its operation once
// more, and sleeps. Task::block_on (kernel/task.h) puts the pieces together with signals.
#pragma once
#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <optional>

#include "src/base/futex.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun {

// Readiness, in the bits that poll(2) and epoll(7) share.
using Events = uint32_t;
inline constexpr Events kReadable = EPOLLIN | EPOLLRDNORM;
inline constexpr Events kWritable = EPOLLOUT | EPOLLWRNORM;
inline constexpr Events kPriority = EPOLLPRI;
inline constexpr Events kError = EPOLLERR;
inline constexpr Events kHangup = EPOLLHUP;
inline constexpr Events kReadHangup = EPOLLRDHUP;
inline constexpr Events kAllEvents = ~Events{0};

using Deadline = std::optional<std::chrono::steady_clock::time_point>;  // none: forever

// What a WaitQueue calls. `notified` runs under the queue's lock (rank kWaitQueue): it may take
// only locks of a greater rank, and must not block. It may return a word that somebody sleeps on:
// the queue wakes that one after it has dropped its lock, which the woken needs at once.
class Waiter {
 public:
  virtual const FutexWord* notified(Events events) = 0;

 protected:
  ~Waiter() = default;
};

// The one thing a task's thread sleeps on: a latched wake-up and a latched interruption.
// sleep(), reset() and take_interrupt() are for its owner's thread; the other methods are for any.
class Sleeper final : public Waiter {
 public:
  const FutexWord* notified(Events) override { return add(kWoken); }
  void wake() { rouse(kWoken); }
  // Makes the current sleep, or the next one, return EINTR until take_interrupt.
  void interrupt() { rouse(kInterrupted); }
  bool take_interrupt() { return (state_.fetch_and(~kInterrupted) & kInterrupted) != 0; }
  bool interrupted() const { return (state_.load() & kInterrupted) != 0; }
  // Forgets an earlier wake-up: call before registering entries for a new wait.
  void reset() { state_.fetch_and(~kWoken); }
  // Consumes one wake-up. ETIMEDOUT after the deadline; EINTR when interrupted, which wins over
  // a deadline but not over a wake-up that has already come.
  Result<void> sleep(Deadline deadline);

 private:
  static constexpr uint32_t kWoken = 1;
  static constexpr uint32_t kInterrupted = 2;
  static constexpr uint32_t kAsleep = 4;  // set by the owner before it sleeps, cleared afterwards

  // The word if its owner must be woken now.
  const FutexWord* add(uint32_t bit) {
    return (state_.fetch_or(bit) & (kAsleep | bit)) == kAsleep ? &state_ : nullptr;
  }
  void rouse(uint32_t bit) {
    if (const FutexWord* word = add(bit)) futex_wake(word);
  }

  FutexWord state_ = 0;
};

// Who waits for an object. The queue must outlive its entries: whoever registers holds a reference
// to the object that owns the queue.
class WaitQueue {
 public:
  // kEpollQueue is for the queues of epolls, which other epolls may watch: such queues notify each
  // other, as deep as epoll allows nesting, and in no cycle.
  explicit WaitQueue(Rank rank = Rank::kWaitQueue)
      : nested_(rank == Rank::kEpollQueue), mutex_(rank) {}
  ~WaitQueue() { DCHECK(head_ == nullptr); }
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;

  enum class Mode : uint8_t { kShared, kExclusive };

  // A registration for `mask`, in force from construction to destruction. Lives on the waiting
  // thread's stack, or inside an epoll's watch.
  class Entry {
   public:
    Entry(WaitQueue& queue, Events mask, Waiter& waiter, Mode mode = Mode::kShared);
    ~Entry();
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    friend class WaitQueue;
    WaitQueue& queue_;
    const Events mask_;
    Waiter& waiter_;
    const Mode mode_;
    Entry* next_ = nullptr;
    Entry* prev_ = nullptr;
  };

  // Notifies every shared entry whose mask meets `events` and, in the order they came, at most
  // `exclusive` of the exclusive ones. EPOLLERR and EPOLLHUP reach everyone.
  void notify(Events events, int exclusive = 1) EXCLUDES(mutex_);
  bool empty() const EXCLUDES(mutex_);

 private:
  class SCOPED_CAPABILITY NotifyLock {
   public:
    explicit NotifyLock(WaitQueue& queue) ACQUIRE(queue.mutex_) : mutex_(queue.mutex_) {
      queue.nested_ ? mutex_.lock_nested() : mutex_.lock();
    }
    ~NotifyLock() RELEASE() { mutex_.unlock(); }

   private:
    Mutex& mutex_;
  };

  const bool nested_;
  mutable Mutex mutex_;
  Entry* head_ GUARDED_BY(mutex_) = nullptr;
  Entry* tail_ GUARDED_BY(mutex_) = nullptr;
};

}  // namespace boxrun
