#pragma once
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "src/base/check.h"

// clang's -Wthread-safety vocabulary; nothing under g++.
#if defined(__clang__)
#define BOXRUN_TSA(x) __attribute__((x))
#else
#define BOXRUN_TSA(x)
#endif
#define CAPABILITY(name) BOXRUN_TSA(capability(name))
#define SCOPED_CAPABILITY BOXRUN_TSA(scoped_lockable)
#define GUARDED_BY(m) BOXRUN_TSA(guarded_by(m))
#define PT_GUARDED_BY(m) BOXRUN_TSA(pt_guarded_by(m))
#define REQUIRES(...) BOXRUN_TSA(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) BOXRUN_TSA(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) BOXRUN_TSA(acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) BOXRUN_TSA(try_acquire_capability(__VA_ARGS__))
#define RELEASE(...) BOXRUN_TSA(release_capability(__VA_ARGS__))
#define RETURN_CAPABILITY(m) BOXRUN_TSA(lock_returned(m))
#define NO_THREAD_SAFETY_ANALYSIS BOXRUN_TSA(no_thread_safety_analysis)

namespace boxrun {

// Lock order, outermost first: a thread may only take a lock whose rank is greater than that of
// every lock it holds. The list is the one of sentry/README.md, "Lock order". Two locks of one
// rank are taken together only through Lock2, which orders them by address.
enum class Rank : int {
  kFileOffset = 5,  // position of one open file; held while it is read: proc reads anything
  kProcRename = 7,  // of proc, instead of kRename and kDirectory: its lookups ask the kernel
  kProcDirectory = 8,
  kKernel = 10,
  kTaskTree = 20,
  kSignals = 30,
  kSignalHandlers = 35,  // one table of signal actions
  kTask = 40,
  kFutex = 45,  // one bucket of futex waiters: held while the futex word is compared
  kFdTable = 50,
  kFsContext = 52,
  kMountNamespace = 60,
  kRename = 64,       // one per file system: serialises renames of directories
  kDirectory = 66,    // the entries of one directory (vfs); ancestor first, by lock_nested
  kOverlayCopy = 67,  // copy-up of one overlay inode: held while the lower one is read
  kOverlay = 68,      // names and attributes of one overlay
  kInode = 70,        // inside one file system; see vfs/README.md
  kP9 = 71,           // the inodes of a 9P mount by number, and the files they keep open
  kDentry = 72,
  kFileLock = 74,
  kFileData = 80,  // contents of one file in the memory file
  kMappings = 86,  // who maps a file (mm::MappingList)
  kMmMaps = 90,    // both maps of one mm
  kAddressSpace = 100,
  kStubFiles = 104,  // the descriptor table that stub processes share
  kStubSeed = 106,   // requests to the first stub process
  kMemoryFile = 110,
  kSocketNames = 118,   // abstract names of sockets; files that were on their way in a queue
  kPipe = 120,          // pipes, sockets and other two-ended objects: one lock for both ends
  kEpoll = 122,         // the watch list of one epoll
  kGofer = 130,         // the client's channels and fids
  kGoferSession = 132,  // in the Gofer: fids by number
  kGoferFid = 134,      // in the Gofer: what is open on one fid
  kGoferTree = 136,     // in the Gofer: names and held descriptors
  kTimers = 140,
  kWaitQueue = 150,
  kEpollReady = 154,  // the ready list of one epoll, taken by notifications
  kEpollQueue = 156,  // wait queues of epolls themselves; nested ones by lock_nested
  kSleeper = 160,     // what a Context remembers of interruptions
  kViolationLog = 170,
  kLog = 180,
};

namespace internal {
void rank_acquire(const void* mutex, Rank rank);        // CHECKs the order, then pushes
void rank_acquire_equal(const void* mutex, Rank rank);  // the second lock of a Lock2
void rank_release(const void* mutex);
}  // namespace internal

// A std::mutex with a rank. Ranks are checked in debug builds only.
class CAPABILITY("mutex") Mutex {
 public:
  explicit Mutex(Rank rank) : rank_(rank) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() ACQUIRE() {
#ifdef BOXRUN_DEBUG
    internal::rank_acquire(this, rank_);
#endif
    mutex_.lock();
  }
  // For locks of one rank that an acyclic structure orders (an epoll that watches an epoll).
  void lock_nested() ACQUIRE() {
#ifdef BOXRUN_DEBUG
    internal::rank_acquire_equal(this, rank_);
#endif
    mutex_.lock();
  }
  bool try_lock() TRY_ACQUIRE(true) {
    if (!mutex_.try_lock()) return false;
#ifdef BOXRUN_DEBUG
    internal::rank_acquire(this, rank_);
#endif
    return true;
  }
  void unlock() RELEASE() {
    mutex_.unlock();
#ifdef BOXRUN_DEBUG
    internal::rank_release(this);
#endif
  }

 private:
  friend class CondVar;
  friend class Lock2;
  std::mutex mutex_;
  const Rank rank_;
};

class SCOPED_CAPABILITY Lock {
 public:
  explicit Lock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Lock() RELEASE() { mutex_.unlock(); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  Mutex& mutex_;
};

// Two locks of the same rank, in address order; the same lock twice is taken once.
class SCOPED_CAPABILITY Lock2 {
 public:
  Lock2(Mutex& a, Mutex& b) ACQUIRE(a, b);
  ~Lock2() RELEASE();
  Lock2(const Lock2&) = delete;
  Lock2& operator=(const Lock2&) = delete;

 private:
  Mutex* first_;
  Mutex* second_;
};

// Waits in a loop, by the caller: while (!condition) cv.wait(mutex).
class CondVar {
 public:
  void wait(Mutex& mutex) REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
  }
  // False when `deadline` passed first.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point deadline) REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool notified = cv_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return notified;
  }
  void notify_one() { cv_.notify_one(); }
  void notify_all() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace boxrun
