#pragma once
#include <array>
#include <cstdint>

#include "sentry/kernel/fwd.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/wait/wait.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::kernel {

// All futexes of a sandbox (futex(2)): waiters hashed by where the word lives. The word is compared
// under the bucket's lock, so a wake-up that follows a store cannot fall between comparison and
// registration. That is the one place where guest memory is touched under a lock; the page is
// touched before, so that a fault inside is rare. Thread-safe.
class FutexTable {
 public:
  static constexpr uint32_t kAnyBit = 0xffffffff;  // FUTEX_BITSET_MATCH_ANY

  // Sleeps while *addr == expected, until a wake whose bitset meets `bitset`. EAGAIN when the
  // values differ, ETIMEDOUT, EINTR when interrupted (the caller picks the restart), EFAULT,
  // EINVAL (misaligned, empty bitset).
  Result<void> wait(Task& task, uint64_t addr, bool shared, uint32_t expected, uint32_t bitset,
                    Deadline deadline);
  // Wakes at most `count` waiters; returns how many.
  Result<uint32_t> wake(mm::MemoryManager& mm, uint64_t addr, bool shared, uint32_t count,
                        uint32_t bitset);
  // FUTEX_REQUEUE, and with `expected` FUTEX_CMP_REQUEUE: how many were woken or moved.
  Result<uint32_t> requeue(mm::MemoryManager& mm, uint64_t from, uint64_t to, bool shared,
                           uint32_t wake_count, uint32_t requeue_count, const uint32_t* expected);
  // FUTEX_WAKE_OP with the encoded operation `op`.
  Result<uint32_t> wake_op(mm::MemoryManager& mm, uint64_t first, uint64_t second, bool shared,
                           uint32_t wake_first, uint32_t wake_second, uint32_t op);

 private:
  struct Waiter;
  struct Bucket {
    Mutex mutex{Rank::kFutex};
    Waiter* head GUARDED_BY(mutex) = nullptr;
    Waiter* tail GUARDED_BY(mutex) = nullptr;
  };
  static constexpr size_t kBuckets = 256;

  Bucket& bucket_of(const mm::FutexKey& key);
  static void append(Bucket& bucket, Waiter& waiter) REQUIRES(bucket.mutex);
  static void remove(Bucket& bucket, Waiter& waiter) REQUIRES(bucket.mutex);
  static uint32_t wake_locked(Bucket& bucket, const mm::FutexKey& key, uint32_t count,
                              uint32_t bitset) REQUIRES(bucket.mutex);
  Result<void> enqueue(mm::MemoryManager& mm, uint64_t addr, uint32_t expected, Waiter& waiter);
  static bool withdraw(Waiter& waiter);

  std::array<Bucket, kBuckets> buckets_;
};

}  // namespace boxrun::kernel
