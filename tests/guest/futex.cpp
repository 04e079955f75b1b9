// futex(2) operations and robust lists.
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>

#include "tests/guest/guest_test.h"

namespace {

long futex(void* word, int op, uint32_t value, const void* timeout = nullptr,
           void* second = nullptr, uint32_t value3 = 0) {
  return syscall(SYS_futex, word, op, value, timeout, second, value3);
}

uint32_t* shared_words() {
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(page != MAP_FAILED);
  return static_cast<uint32_t*>(page);
}

// Threads that wait on a word and count how many of them have returned.
struct Waiters {
  uint32_t* word;
  int op = FUTEX_WAIT;
  uint32_t bitset = FUTEX_BITSET_MATCH_ANY;
  std::atomic<int> woken{0};
  pthread_t threads[8];
  pid_t tids[8] = {};
  int count = 0;

  static void* wait(void* self) {
    auto* waiters = static_cast<Waiters*>(self);
    int mine = __atomic_fetch_add(&waiters->started, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&waiters->tids[mine], static_cast<pid_t>(syscall(SYS_gettid)),
                     __ATOMIC_SEQ_CST);
    long result = futex(waiters->word, waiters->op, 0, nullptr, nullptr, waiters->bitset);
    if (result == 0) waiters->woken.fetch_add(1);
    return nullptr;
  }

  void start(int wanted) {
    for (int i = 0; i < wanted; ++i)
      REQUIRE(pthread_create(&threads[count++], nullptr, wait, this) == 0);
    for (int i = 0; i < count; ++i) {
      while (__atomic_load_n(&tids[i], __ATOMIC_SEQ_CST) == 0) guest::sleep_ms(1);
      guest::wait_until_blocked(getpid(), tids[i]);
    }
  }

  void join_all() {
    for (int i = 0; i < count; ++i) pthread_join(threads[i], nullptr);
  }

  bool reaches(int wanted) {
    for (int i = 0; i < 2000 && woken.load() < wanted; ++i) guest::sleep_ms(1);
    guest::sleep_ms(5);
    return woken.load() == wanted;
  }

 private:
  int started = 0;
};

}  // namespace

CASE(words_that_nobody_can_write) {
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(page != MAP_FAILED);
  auto* word = static_cast<uint32_t*>(page);
  *word = 1;
  CHECK_EQ(futex(word, FUTEX_WAKE, 1), 0);
  REQUIRE(mprotect(page, 4096, PROT_READ) == 0);
  CHECK_ERRNO(futex(word, FUTEX_WAIT, 0), EFAULT);
  CHECK_ERRNO(futex(word, FUTEX_WAKE, 1), EFAULT);
  CHECK_ERRNO(futex(word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0), EAGAIN);
  CHECK_EQ(futex(word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1), 0);
  uint32_t* shared = shared_words();
  REQUIRE(mprotect(shared, 4096, PROT_READ) == 0);
  CHECK_ERRNO(futex(shared, FUTEX_WAIT, 1), EAGAIN);  // others may write there
  CHECK_EQ(futex(shared, FUTEX_WAKE, 1), 0);
}

CASE(wait_compares_the_value) {
  uint32_t word = 3;
  CHECK_ERRNO(futex(&word, FUTEX_WAIT, 4), EAGAIN);
  CHECK_ERRNO(futex(&word, FUTEX_WAIT_PRIVATE, 2), EAGAIN);
  CHECK_EQ(futex(&word, FUTEX_WAKE, 1), 0);
}

CASE(errors) {
  alignas(8) char bytes[8] = {};
  CHECK_ERRNO(futex(bytes + 1, FUTEX_WAIT, 0), EINVAL);
  CHECK_ERRNO(futex(bytes + 2, FUTEX_WAKE, 1), EINVAL);
  CHECK_ERRNO(futex(reinterpret_cast<void*>(8), FUTEX_WAIT, 0), EFAULT);
  CHECK_ERRNO(futex(bytes, 77, 0), ENOSYS);
  CHECK_ERRNO(futex(bytes, FUTEX_WAIT_BITSET, 0, nullptr, nullptr, 0), EINVAL);
  CHECK_ERRNO(futex(bytes, FUTEX_WAKE_BITSET, 1, nullptr, nullptr, 0), EINVAL);
  timespec invalid = {0, 1000000000};
  CHECK_ERRNO(futex(bytes, FUTEX_WAIT, 0, &invalid), EINVAL);
  invalid = {-1, 0};
  CHECK_ERRNO(futex(bytes, FUTEX_WAIT, 0, &invalid), EINVAL);
}

CASE(timeouts) {
  uint32_t word = 0;
  timespec relative = {0, 20000000};
  int64_t start = guest::now_ns(CLOCK_MONOTONIC);
  CHECK_ERRNO(futex(&word, FUTEX_WAIT, 0, &relative), ETIMEDOUT);
  CHECK(guest::now_ns(CLOCK_MONOTONIC) - start >= 20000000);
  timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec -= 1;
  CHECK_ERRNO(futex(&word, FUTEX_WAIT_BITSET, 0, &until, nullptr, FUTEX_BITSET_MATCH_ANY),
              ETIMEDOUT);
  clock_gettime(CLOCK_REALTIME, &until);
  CHECK_ERRNO(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &until, nullptr,
                    FUTEX_BITSET_MATCH_ANY),
              ETIMEDOUT);
}

CASE(wake_counts) {
  static uint32_t word;
  Waiters waiters;
  waiters.word = &word;
  waiters.start(4);
  CHECK_EQ(futex(&word, FUTEX_WAKE, 0), 1);  // Linux wakes one even when asked for none
  CHECK(waiters.reaches(1));
  CHECK_EQ(futex(&word, FUTEX_WAKE, 2), 2);
  CHECK(waiters.reaches(3));
  CHECK_EQ(futex(&word, FUTEX_WAKE, 100), 1);
  waiters.join_all();
  CHECK_EQ(futex(&word, FUTEX_WAKE, 100), 0);
}

CASE(bitsets_select_waiters) {
  static uint32_t word;
  Waiters odd, even;
  odd.word = even.word = &word;
  odd.op = even.op = FUTEX_WAIT_BITSET;
  odd.bitset = 1;
  even.bitset = 2;
  odd.start(2);
  even.start(2);
  CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET, 10, nullptr, nullptr, 4), 0);
  CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET, 10, nullptr, nullptr, 2), 2);
  even.join_all();
  CHECK_EQ(odd.woken.load(), 0);
  CHECK_EQ(futex(&word, FUTEX_WAKE, 10), 2);
  odd.join_all();
}

CASE(requeue_moves_waiters) {
  static uint32_t first, second;
  Waiters waiters;
  waiters.word = &first;
  waiters.start(3);
  CHECK_ERRNO(futex(&first, FUTEX_CMP_REQUEUE, 1, reinterpret_cast<void*>(10), &second, 99),
              EAGAIN);
  CHECK_EQ(futex(&first, FUTEX_CMP_REQUEUE, 1, reinterpret_cast<void*>(10), &second, 0),
           3);  // woken + moved
  CHECK(waiters.reaches(1));
  CHECK_EQ(futex(&first, FUTEX_WAKE, 10), 0);
  CHECK_EQ(futex(&second, FUTEX_WAKE, 10), 2);
  waiters.join_all();
}

CASE(plain_requeue_counts_the_woken_and_the_moved) {
  static uint32_t first, second;
  Waiters waiters;
  waiters.word = &first;
  waiters.start(3);
  CHECK_EQ(futex(&first, FUTEX_REQUEUE, 1, reinterpret_cast<void*>(1), &second), 2);
  CHECK_EQ(futex(&first, FUTEX_WAKE, 10), 1);
  CHECK_EQ(futex(&second, FUTEX_WAKE, 10), 1);
  waiters.join_all();
}

CASE(wake_op) {
  static uint32_t first, second;
  first = 0;
  second = 5;
  Waiters on_first, on_second;
  on_first.word = &first;
  on_first.start(1);
  // Waiters compare with 0, so the second word is given its value after they sleep.
  second = 0;
  on_second.word = &second;
  on_second.start(1);
  second = 5;
  // second += 3; the old value 5 is equal to 5: both are woken
  CHECK_EQ(futex(&first, FUTEX_WAKE_OP, 1, reinterpret_cast<void*>(1), &second,
                 static_cast<uint32_t>(FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5))),
           2);
  on_first.join_all();
  on_second.join_all();
  CHECK_EQ(second, 8);
  CHECK_EQ(futex(&first, FUTEX_WAKE_OP, 1, reinterpret_cast<void*>(1), &second,
                 static_cast<uint32_t>(FUTEX_OP(FUTEX_OP_ANDN, 8, FUTEX_OP_CMP_LT, 3))),
           0);
  CHECK_EQ(second, 0);
  futex(
      &first, FUTEX_WAKE_OP, 1, reinterpret_cast<void*>(1), &second,
      static_cast<uint32_t>(FUTEX_OP(FUTEX_OP_SET | FUTEX_OP_OPARG_SHIFT, 4, FUTEX_OP_CMP_GE, 0)));
  CHECK_EQ(second, 16);
}

CASE(shared_words_work_across_processes) {
  uint32_t* word = shared_words();
  pid_t pid = guest::spawn([word] {
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == 0) futex(word, FUTEX_WAIT, 0);
    CHECK_EQ(*word, 1);
  });
  guest::wait_until_blocked(pid);
  __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
  CHECK_EQ(futex(word, FUTEX_WAKE, 1), 1);
  CHECK_EXIT(pid, 0);
}

CASE(shared_words_are_known_by_their_page_not_their_address) {
  int fd = static_cast<int>(syscall(SYS_memfd_create, "futex", 0));
  REQUIRE(fd >= 0 && ftruncate(fd, 4096) == 0);
  auto* here =
      static_cast<uint32_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  auto* there =
      static_cast<uint32_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  REQUIRE(here != MAP_FAILED && there != MAP_FAILED && here != there);
  Waiters waiters;
  waiters.word = here;
  waiters.start(1);
  CHECK_EQ(futex(there, FUTEX_WAKE_PRIVATE, 1), 0);  // a private wake looks at the address
  CHECK_EQ(futex(there, FUTEX_WAKE, 1), 1);
  waiters.join_all();
}

CASE(private_words_do_not_cross_fork) {
  static uint32_t word;
  pid_t pid = guest::spawn([] {
    timespec wait = {0, 50000000};
    CHECK_ERRNO(futex(&word, FUTEX_WAIT, 0, &wait), ETIMEDOUT);
  });
  guest::wait_until_blocked(pid);
  CHECK_EQ(futex(&word, FUTEX_WAKE, 1), 0);
  CHECK_EXIT(pid, 0);
}

CASE(robust_mutex_reports_a_dead_owner) {
  void* page = shared_words();
  auto* mutex = static_cast<pthread_mutex_t*>(page);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  REQUIRE(pthread_mutex_init(mutex, &attributes) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    pthread_mutex_lock(mutex);
    _exit(0);  // with the lock held
  }
  CHECK_EXIT(pid, 0);
  CHECK_EQ(pthread_mutex_lock(mutex), EOWNERDEAD);
  CHECK_EQ(pthread_mutex_consistent(mutex), 0);
  CHECK_EQ(pthread_mutex_unlock(mutex), 0);
  CHECK_EQ(pthread_mutex_lock(mutex), 0);
}

CASE(robust_mutex_wakes_a_waiter_when_the_owner_is_killed) {
  auto* mutex = reinterpret_cast<pthread_mutex_t*>(shared_words());
  auto* locked = shared_words();
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  REQUIRE(pthread_mutex_init(mutex, &attributes) == 0);
  pid_t owner = fork();
  if (owner == 0) {
    pthread_mutex_lock(mutex);
    __atomic_store_n(locked, 1, __ATOMIC_SEQ_CST);
    for (;;) pause();
  }
  while (__atomic_load_n(locked, __ATOMIC_SEQ_CST) == 0) guest::sleep_ms(1);
  pid_t waiter = guest::spawn([mutex] { CHECK_EQ(pthread_mutex_lock(mutex), EOWNERDEAD); });
  guest::wait_until_blocked(waiter);
  kill(owner, SIGKILL);
  CHECK_KILLED(owner, SIGKILL);
  CHECK_EXIT(waiter, 0);
}

CASE(robust_list_calls) {
  void* head = nullptr;
  size_t length = 0;
  CHECK_OK(syscall(SYS_get_robust_list, 0, &head, &length));
  CHECK_EQ(length, sizeof(robust_list_head));
  CHECK(head != nullptr);
  CHECK_ERRNO(syscall(SYS_set_robust_list, head, 5), EINVAL);
  CHECK_OK(syscall(SYS_set_robust_list, head, sizeof(robust_list_head)));
  CHECK_ERRNO(syscall(SYS_get_robust_list, 0x3ffffffe, &head, &length), ESRCH);
}

CASE(process_shared_semaphore_of_glibc) {
  auto* barrier = reinterpret_cast<pthread_barrier_t*>(shared_words());
  pthread_barrierattr_t attributes;
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  REQUIRE(pthread_barrier_init(barrier, &attributes, 3) == 0);
  pid_t children[2];
  for (pid_t& pid : children) pid = guest::spawn([barrier] { pthread_barrier_wait(barrier); });
  pthread_barrier_wait(barrier);
  for (pid_t pid : children) CHECK_EXIT(pid, 0);
}
