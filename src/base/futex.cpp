#include "src/base/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

namespace boxrun {
namespace {

static_assert(sizeof(FutexWord) == 4 && FutexWord::is_always_lock_free);

int with_scope(int operation, FutexScope scope) {
  return scope == FutexScope::kPrivate ? operation | FUTEX_PRIVATE_FLAG : operation;
}

}  // namespace

bool futex_wait(FutexWord& word, uint32_t expected,
                std::optional<std::chrono::steady_clock::time_point> deadline, FutexScope scope) {
  using namespace std::chrono;
  timespec until{};
  if (deadline) {
    // std::chrono::steady_clock is CLOCK_MONOTONIC; FUTEX_WAIT_BITSET takes an absolute time of it.
    const nanoseconds since =
        std::max(deadline->time_since_epoch(), steady_clock::duration::zero());
    until.tv_sec = duration_cast<seconds>(since).count();
    until.tv_nsec = (since % seconds(1)).count();
  }
  const long r = ::syscall(SYS_futex, &word, with_scope(FUTEX_WAIT_BITSET, scope), expected,
                           deadline ? &until : nullptr, nullptr, FUTEX_BITSET_MATCH_ANY);
  return r == 0 || errno != ETIMEDOUT;
}

void futex_wake(const FutexWord* word, int count, FutexScope scope) {
  (void)::syscall(SYS_futex, word, with_scope(FUTEX_WAKE, scope), count, nullptr, nullptr, 0);
}

}  // namespace boxrun
