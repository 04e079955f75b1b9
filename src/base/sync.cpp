#include "src/base/sync.h"

#include <functional>

namespace boxrun {
namespace internal {
namespace {

constexpr int kMaxHeld = 16;
struct Held {
  const void* mutex[kMaxHeld];
  Rank rank[kMaxHeld];
  int count;
};
thread_local Held held{};

void push(const void* mutex, Rank rank) {
  CHECK(held.count < kMaxHeld);
  held.mutex[held.count] = mutex;
  held.rank[held.count] = rank;
  held.count++;
}

}  // namespace

void rank_acquire(const void* mutex, Rank rank) {
  for (int i = 0; i < held.count; i++) CHECK(held.rank[i] < rank && "lock order");
  push(mutex, rank);
}

void rank_acquire_equal(const void* mutex, Rank rank) {
  for (int i = 0; i < held.count; i++) CHECK(held.rank[i] <= rank && "lock order");
  push(mutex, rank);
}

void rank_release(const void* mutex) {
  for (int i = held.count - 1; i >= 0; i--) {
    if (held.mutex[i] != mutex) continue;
    for (int j = i; j + 1 < held.count; j++) {
      held.mutex[j] = held.mutex[j + 1];
      held.rank[j] = held.rank[j + 1];
    }
    held.count--;
    return;
  }
  CHECK(false && "released a lock that is not held");
}

}  // namespace internal

Lock2::Lock2(Mutex& a, Mutex& b) NO_THREAD_SAFETY_ANALYSIS
    : first_(std::less<Mutex*>()(&a, &b) ? &a : &b),
      second_(&a == &b ? nullptr : (first_ == &a ? &b : &a)) {
  first_->lock();
  if (second_ == nullptr) return;
#ifdef BOXRUN_DEBUG
  internal::rank_acquire_equal(second_, second_->rank_);
#endif
  second_->mutex_.lock();
}

Lock2::~Lock2() NO_THREAD_SAFETY_ANALYSIS {
  if (second_ != nullptr) second_->unlock();
  first_->unlock();
}

}  // namespace boxrun
