// futex(2) on a 32-bit word of this process or of memory that it shares with others.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

namespace boxrun {

using FutexWord = std::atomic<uint32_t>;

// Who may wait for a word: threads of this process only, or of every process that maps it.
enum class FutexScope : uint8_t { kPrivate, kShared };

// Sleeps while `word` is `expected`, until a wake-up, `deadline` or a signal: the caller looks at
// the word again, whatever ended it. False when the deadline passed first.
bool futex_wait(FutexWord& word, uint32_t expected,
                std::optional<std::chrono::steady_clock::time_point> deadline = {},
                FutexScope scope = FutexScope::kPrivate);

// Wakes at most `count` of those that wait. The word may be gone by now, with its owner that saw
// the new value and went on: the host looks at the address, never at what is there, and everybody
// who waits bears a wake-up too many.
void futex_wake(const FutexWord* word, int count = 1, FutexScope scope = FutexScope::kPrivate);

}  // namespace boxrun
