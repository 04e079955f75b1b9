#include "sentry/kernel/futex.h"

#include <functional>

#include "sentry/kernel/task.h"

namespace boxrun::kernel {
namespace {

// Linux counts before it compares, so that asking for none, or for a negative number, wakes one.
uint32_t at_least_one(uint32_t count) { return static_cast<int32_t>(count) < 1 ? 1 : count; }

int32_t sign_extend_12(uint32_t v) { return static_cast<int32_t>(v << 20) >> 20; }

// FUTEX_WAKE_OP as futex(2) encodes it.
struct WakeOp {
  uint32_t op;
  uint32_t compare;
  uint32_t op_arg;
  int32_t compare_arg;

  static Result<WakeOp> decode(uint32_t encoded) {
    WakeOp w{.op = encoded >> 28 & 7,
             .compare = encoded >> 24 & 15,
             .op_arg = static_cast<uint32_t>(sign_extend_12(encoded >> 12 & 0xfff)),
             .compare_arg = sign_extend_12(encoded & 0xfff)};
    // FUTEX_OP_OPARG_SHIFT. Linux masks shifts outside 0..31 rather than refusing them.
    if ((encoded >> 28 & 8) != 0) w.op_arg = uint32_t{1} << (w.op_arg & 31);
    if (w.op > 4 || w.compare > 5) return Errno::kNoSys;
    return w;
  }
  uint32_t apply(uint32_t old) const {
    switch (op) {
      case 0:
        return op_arg;
      case 1:
        return old + op_arg;
      case 2:
        return old | op_arg;
      case 3:
        return old & ~op_arg;
      default:
        return old ^ op_arg;
    }
  }
  bool matches(uint32_t old_bits) const {
    const auto old = static_cast<int32_t>(old_bits);
    switch (compare) {
      case 0:
        return old == compare_arg;
      case 1:
        return old != compare_arg;
      case 2:
        return old < compare_arg;
      case 3:
        return old <= compare_arg;
      case 4:
        return old > compare_arg;
      default:
        return old >= compare_arg;
    }
  }
};

}  // namespace

// One sleeping task, on its own stack. In at most one bucket; `bucket` changes under the locks of
// both the old and the new bucket, and is read without one only to find out which lock to take.
struct FutexTable::Waiter {
  mm::FutexKey key;
  uint32_t bitset = kAnyBit;
  Sleeper* sleeper = nullptr;
  std::atomic<Bucket*> bucket{nullptr};
  bool queued = false;  // and links: guarded by the bucket's lock
  Waiter* next = nullptr;
  Waiter* prev = nullptr;
  std::atomic<bool> woken{false};
};

FutexTable::Bucket& FutexTable::bucket_of(const mm::FutexKey& key) {
  const size_t hash = std::hash<const void*>()(key.object) * 31 + (key.offset >> 2) * 0x9e3779b1U;
  return buckets_[(hash ^ hash >> 16) % kBuckets];
}

void FutexTable::append(Bucket& bucket, Waiter& waiter) {
  waiter.bucket.store(&bucket, std::memory_order_release);
  waiter.queued = true;
  waiter.next = nullptr;
  waiter.prev = bucket.tail;
  (bucket.tail != nullptr ? bucket.tail->next : bucket.head) = &waiter;
  bucket.tail = &waiter;
}

void FutexTable::remove(Bucket& bucket, Waiter& waiter) {
  (waiter.prev != nullptr ? waiter.prev->next : bucket.head) = waiter.next;
  (waiter.next != nullptr ? waiter.next->prev : bucket.tail) = waiter.prev;
  waiter.queued = false;
}

uint32_t FutexTable::wake_locked(Bucket& bucket, const mm::FutexKey& key, uint32_t count,
                                 uint32_t bitset) {
  uint32_t woken = 0;
  Waiter* next = nullptr;
  for (Waiter* waiter = bucket.head; waiter != nullptr && woken < count; waiter = next) {
    next = waiter->next;
    if (!(waiter->key == key) || (waiter->bitset & bitset) == 0) continue;
    remove(bucket, *waiter);
    // The waiter may return as soon as it sees `woken`; it takes the bucket's lock before it lets
    // go of its stack, so the sleeper is valid until this lock is released.
    waiter->woken.store(true, std::memory_order_release);
    waiter->sleeper->wake();
    woken++;
  }
  return woken;
}

Result<void> FutexTable::enqueue(mm::MemoryManager& mm, uint64_t addr, uint32_t expected,
                                 Waiter& waiter) {
  Bucket& bucket = bucket_of(waiter.key);
  Lock lock(bucket.mutex);
  if (TRY(mm.load_u32(addr)) != expected) return Errno::kAgain;
  append(bucket, waiter);
  return {};
}

bool FutexTable::withdraw(Waiter& waiter) {
  for (;;) {
    Bucket* bucket = waiter.bucket.load(std::memory_order_acquire);
    Lock lock(bucket->mutex);
    if (waiter.bucket.load(std::memory_order_relaxed) != bucket) continue;  // requeued meanwhile
    if (!waiter.queued) return false;
    remove(*bucket, waiter);
    return true;
  }
}

Result<void> FutexTable::wait(Task& task, uint64_t addr, bool shared, uint32_t expected,
                              uint32_t bitset, Deadline deadline) {
  if (bitset == 0) return Errno::kInval;
  mm::MemoryManager& mm = task.mm();
  Waiter waiter;
  waiter.key = TRY(mm.futex_key(addr, shared));
  waiter.bitset = bitset;
  waiter.sleeper = &task.sleeper();
  if (TRY(mm.load_u32(addr)) != expected) return Errno::kAgain;
  task.sleeper().reset();
  TRY(enqueue(mm, addr, expected, waiter));
  Result<void> slept;
  while (!waiter.woken.load(std::memory_order_acquire) && slept.ok()) slept = task.sleep(deadline);
  // A wake-up that was counted beats the signal or timeout that came at the same time.
  return withdraw(waiter) ? slept.error() : Errno::kOk;
}

Result<uint32_t> FutexTable::wake(mm::MemoryManager& mm, uint64_t addr, bool shared, uint32_t count,
                                  uint32_t bitset) {
  if (bitset == 0) return Errno::kInval;
  const mm::FutexKey key = TRY(mm.futex_key(addr, shared));
  Bucket& bucket = bucket_of(key);
  Lock lock(bucket.mutex);
  return wake_locked(bucket, key, at_least_one(count), bitset);
}

Result<uint32_t> FutexTable::requeue(mm::MemoryManager& mm, uint64_t from, uint64_t to, bool shared,
                                     uint32_t wake_count, uint32_t requeue_count,
                                     const uint32_t* expected) NO_THREAD_SAFETY_ANALYSIS {
  if (static_cast<int32_t>(wake_count) < 0 || static_cast<int32_t>(requeue_count) < 0) {
    return Errno::kInval;
  }
  const mm::FutexKey from_key = TRY(mm.futex_key(from, shared));
  const mm::FutexKey to_key = TRY(mm.futex_key(to, shared));
  if (expected != nullptr && TRY(mm.load_u32(from)) != *expected) return Errno::kAgain;
  Bucket& source = bucket_of(from_key);
  Bucket& target = bucket_of(to_key);
  Lock2 locks(source.mutex, target.mutex);
  if (expected != nullptr && TRY(mm.load_u32(from)) != *expected) return Errno::kAgain;
  const uint32_t woken = wake_locked(source, from_key, wake_count, kAnyBit);
  uint32_t moved = 0;
  Waiter* next = nullptr;
  for (Waiter* waiter = source.head; waiter != nullptr && moved < requeue_count; waiter = next) {
    next = waiter->next;
    if (!(waiter->key == from_key)) continue;
    moved++;
    if (from_key == to_key) continue;
    remove(source, *waiter);
    waiter->key = to_key;
    append(target, *waiter);
  }
  return woken + moved;
}

Result<uint32_t> FutexTable::wake_op(mm::MemoryManager& mm, uint64_t first, uint64_t second,
                                     bool shared, uint32_t wake_first, uint32_t wake_second,
                                     uint32_t op) NO_THREAD_SAFETY_ANALYSIS {
  const WakeOp operation = TRY(WakeOp::decode(op));
  const mm::FutexKey first_key = TRY(mm.futex_key(first, shared));
  const mm::FutexKey second_key = TRY(mm.futex_key(second, shared));
  Bucket& a = bucket_of(first_key);
  Bucket& b = bucket_of(second_key);
  TRY(mm.load_u32(second));
  Lock2 locks(a.mutex, b.mutex);
  uint32_t old = TRY(mm.load_u32(second));
  while (!TRY(mm.compare_exchange_u32(second, old, operation.apply(old)))) {
  }
  uint32_t woken = wake_locked(a, first_key, at_least_one(wake_first), kAnyBit);
  if (operation.matches(old))
    woken += wake_locked(b, second_key, at_least_one(wake_second), kAnyBit);
  return woken;
}

}  // namespace boxrun::kernel
