// The futex table against a queue for each word: random waits, wakes, requeues and wake_ops by a
// driver and several sleeping threads. Every return value, who wakes, in which order, and how many
// are left must agree. A failure shows the seed and all operations up to it.
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <string>

#include "tests/unit/kernel_harness.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::kernel;
using namespace boxrun::test;

namespace {

constexpr unsigned kSeeds = 12;
constexpr int kOperations = 250;
constexpr size_t kSleepers = 8;
constexpr size_t kWords = 6;
constexpr size_t kPrivateWords = 4;  // the first of them; the rest is in shared memory

// A guest thread that does one wait at a time.
class Sleeper {
 public:
  struct Wait {
    uint64_t addr;
    bool shared;
    uint32_t expected, bitset;
    Deadline deadline;
  };

  // --- the driver
  void begin(const Wait& wait) {
    std::lock_guard lock(mutex_);
    wait_ = wait;
    result_.reset();
    changed_.notify_all();
  }
  void quit() {
    std::lock_guard lock(mutex_);
    quit_ = true;
    changed_.notify_all();
  }
  bool returned() {
    std::lock_guard lock(mutex_);
    return result_.has_value();
  }
  // What the wait came to; it must come to something within ten seconds.
  std::optional<Errno> result() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(10), [this] { return result_.has_value(); });
    return result_;
  }

  // --- the thread
  void run(FakeGuest& guest) {
    while (const std::optional<Wait> wait = next()) {
      const Errno error = [&] {
        Errno out = Errno::kOk;
        call(guest, [&](Task& task) -> Result<uint64_t> {
          out = task.kernel()
                    .futexes()
                    .wait(task, wait->addr, wait->shared, wait->expected, wait->bitset,
                          wait->deadline)
                    .error();
          return 0;
        });
        return out;
      }();
      std::lock_guard lock(mutex_);
      result_ = error;
      changed_.notify_all();
    }
    guest.syscall(SYS_exit, 0);
  }

 private:
  std::optional<Wait> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return wait_.has_value() || quit_; });
    return std::exchange(wait_, std::nullopt);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Wait> wait_;
  std::optional<Errno> result_;
  bool quit_ = false;
};

// What a word is: its value, who waits on it, and where it is mapped.
struct Word {
  struct Waiting {
    size_t sleeper;
    uint32_t bitset;
  };
  uint32_t value = 0;
  std::deque<Waiting> queue;
  std::array<uint64_t, 2> addresses{};
  bool shared = false;
};

class Driver {
 public:
  Driver(Task& task, std::array<Sleeper, kSleepers>& sleepers, unsigned seed)
      : task_(task), sleepers_(sleepers), random_(seed), log_(fmt::format("seed {}\n", seed)) {}
  // Empty when all went well, otherwise what did not.
  std::string run();

 private:
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  Word& any_word() { return words_[below(kWords)]; }
  Word& any_word(bool shared) {
    return shared ? words_[kPrivateWords + below(kWords - kPrivateWords)]
                  : words_[below(kPrivateWords)];
  }
  uint64_t address(const Word& word) { return word.addresses[below(2)]; }
  uint32_t any_count() {
    static constexpr uint32_t kCounts[] = {0, 1, 1, 2, 3, INT32_MAX, ~0u};
    return kCounts[below(std::size(kCounts))];
  }
  uint32_t any_bitset() {
    static constexpr uint32_t kBitsets[] = {FutexTable::kAnyBit, FutexTable::kAnyBit, 1, 2, 6, 0};
    return kBitsets[below(std::size(kBitsets))];
  }
  FutexTable& futexes() { return task_.kernel().futexes(); }
  void log(std::string line) { log_ += line + "\n"; }

  Result<void> map_words();
  void step();
  void set();
  void wait();
  void wake();
  void requeue();
  void wake_op();
  uint32_t expect_wakes(Word& word, uint32_t count, uint32_t bitset);
  void expect(Result<uint32_t> got, Result<uint32_t> expected);
  void check_queues();
  void fail(std::string what) {
    if (failure_.empty()) failure_ = log_ + what;
  }

  Task& task_;
  std::array<Sleeper, kSleepers>& sleepers_;
  std::mt19937 random_;
  std::array<Word, kWords> words_;
  std::array<bool, kSleepers> asleep_{};
  std::string log_;
  std::string failure_;
};

// Shared words are in memory that is mapped twice: the same word has two addresses.
Result<void> Driver::map_words() {
  mm::MapRequest request;
  request.length = kPageSize;
  request.prot = mm::Prot::kRead | mm::Prot::kWrite;
  request.shared = true;
  const uint64_t first = TRY(task_.mm().map(request, {}));
  const uint64_t second = TRY(task_.mm().remap(first, 0, kPageSize, MREMAP_MAYMOVE, 0, {}));
  for (size_t i = 0; i < kWords; i++) {
    Word& word = words_[i];
    word.shared = i >= kPrivateWords;
    word.addresses = {kData + 64 * i, kData + 64 * i};
    if (word.shared) word.addresses = {first + 8 * i, second + 8 * i};
  }
  return {};
}

void Driver::set() {
  Word& word = any_word();
  word.value = below(4);
  if (!task_.mm().exchange_u32(address(word), word.value).ok()) fail("a word cannot be set");
}

void Driver::wait() {
  const auto idle = static_cast<size_t>(std::ranges::find(asleep_, false) - asleep_.begin());
  if (idle == kSleepers) return;
  Word& word = any_word();
  Sleeper::Wait wait{
      address(word), word.shared, word.value + (below(5) == 0 ? 1 : 0), any_bitset(), {}};
  if (below(8) == 0) wait.deadline = std::chrono::steady_clock::now();
  log(fmt::format("{} waits on {:x}: expects {} of {}, bitset {:x}, {}", idle, wait.addr,
                  wait.expected, word.value, wait.bitset, wait.deadline ? "for no time" : ""));
  sleepers_[idle].begin(wait);
  Errno expected = Errno::kOk;
  if (wait.bitset == 0) {
    expected = Errno::kInval;
  } else if (wait.expected != word.value) {
    expected = Errno::kAgain;
  } else if (wait.deadline) {
    expected = Errno::kTimedOut;
  }
  if (expected != Errno::kOk) {
    if (sleepers_[idle].result() != expected) fail("came to something else");
    return;
  }
  word.queue.push_back({idle, wait.bitset});
  asleep_[idle] = true;
  // Until it is counted on its word, which a requeue onto itself does without a change.
  const bool counted = eventually([&] {
    return futexes()
               .requeue(task_.mm(), wait.addr, wait.addr, wait.shared, 0, INT32_MAX, nullptr)
               .value_or(0) == word.queue.size();
  });
  if (!counted) fail("does not sleep");
}

// The first `count` of those that wait with a bit of `bitset` are woken, and nobody else.
uint32_t Driver::expect_wakes(Word& word, uint32_t count, uint32_t bitset) {
  uint32_t woken = 0;
  for (auto at = word.queue.begin(); at != word.queue.end() && woken < count;) {
    if ((at->bitset & bitset) == 0) {
      ++at;
      continue;
    }
    if (sleepers_[at->sleeper].result() != Errno::kOk)
      fail(fmt::format("{} sleeps on", at->sleeper));
    asleep_[at->sleeper] = false;
    at = word.queue.erase(at);
    woken++;
  }
  return woken;
}

void Driver::expect(Result<uint32_t> got, Result<uint32_t> expected) {
  if (got.error() != expected.error()) {
    fail(fmt::format("is {} instead of {}", errno_name(got.error()), errno_name(expected.error())));
  } else if (got.ok() && *got != *expected) {
    fail(fmt::format("returned {} instead of {}", *got, *expected));
  }
}

// FUTEX_WAKE wakes one also when it is asked for none, or for less.
uint32_t at_least_one(uint32_t count) { return static_cast<int32_t>(count) < 1 ? 1 : count; }

void Driver::wake() {
  Word& word = any_word();
  const uint64_t addr = address(word);
  const uint32_t count = any_count();
  const uint32_t bitset = any_bitset();
  log(fmt::format("wake {} of {:x}, bitset {:x}", static_cast<int>(count), addr, bitset));
  auto got = futexes().wake(task_.mm(), addr, word.shared, count, bitset);
  if (bitset == 0) return expect(std::move(got), Errno::kInval);
  expect(std::move(got), expect_wakes(word, at_least_one(count), bitset));
}

void Driver::requeue() {
  const bool shared = below(2) == 0;
  Word& from = any_word(shared);
  Word& to = any_word(shared);
  const uint32_t wakes = any_count();
  const uint32_t moves = any_count();
  const bool compare = below(2) == 0;
  const uint32_t expected = from.value + (below(4) == 0 ? 1 : 0);
  const uint64_t addr = address(from);
  const uint64_t target = address(to);
  log(fmt::format("requeue from {:x} to {:x}: wake {}, move {}, {}", addr, target,
                  static_cast<int>(wakes), static_cast<int>(moves),
                  compare ? fmt::format("if {} is {}", from.value, expected) : ""));
  auto got = futexes().requeue(task_.mm(), addr, target, shared, wakes, moves,
                               compare ? &expected : nullptr);
  if (static_cast<int>(wakes) < 0 || static_cast<int>(moves) < 0) {
    return expect(std::move(got), Errno::kInval);
  }
  if (compare && expected != from.value) return expect(std::move(got), Errno::kAgain);
  const uint32_t woken = expect_wakes(from, wakes, FutexTable::kAnyBit);
  const uint32_t moved = std::min<uint32_t>(moves, static_cast<uint32_t>(from.queue.size()));
  for (uint32_t i = 0; i < moved && &from != &to; i++) {
    to.queue.push_back(from.queue.front());
    from.queue.pop_front();
  }
  expect(std::move(got), woken + moved);
}

void Driver::wake_op() {
  const bool shared = below(2) == 0;
  Word& first = any_word(shared);
  Word& second = any_word(shared);
  const uint32_t op = below(5);
  const uint32_t compare = below(6);
  const uint32_t op_arg = below(4);
  const uint32_t compare_arg = below(4);
  const uint32_t counts[] = {any_count(), any_count()};
  log(fmt::format("wake_op: wake {} of {:x}; {:x} {} {}; if it was {} {}, wake {}",
                  static_cast<int>(counts[0]), first.addresses[0], second.addresses[0], op, op_arg,
                  compare, compare_arg, static_cast<int>(counts[1])));
  auto got = futexes().wake_op(task_.mm(), address(first), address(second), shared, counts[0],
                               counts[1], op << 28 | compare << 24 | op_arg << 12 | compare_arg);
  const uint32_t old = second.value;
  const uint32_t results[] = {op_arg, old + op_arg, old | op_arg, old & ~op_arg, old ^ op_arg};
  const auto was = static_cast<int32_t>(old);
  const auto with = static_cast<int32_t>(compare_arg);
  const bool holds[] = {was == with, was != with, was<with, was <= with, was> with, was >= with};
  second.value = results[op];
  if (task_.mm().load_u32(second.addresses[0]).value_or(~0u) != second.value) fail("other value");
  uint32_t woken = expect_wakes(first, at_least_one(counts[0]), FutexTable::kAnyBit);
  if (holds[compare]) {
    woken += expect_wakes(second, at_least_one(counts[1]), FutexTable::kAnyBit);
  }
  expect(std::move(got), woken);
}

void Driver::check_queues() {
  for (const Word& word : words_) {
    for (const uint64_t addr : word.addresses) {
      const uint32_t count =
          futexes()
              .requeue(task_.mm(), addr, addr, word.shared, 0, INT32_MAX, nullptr)
              .value_or(~0u);
      if (count != word.queue.size()) {
        fail(fmt::format("{} wait on {:x} instead of {}", count, addr, word.queue.size()));
      }
    }
  }
  for (size_t i = 0; i < kSleepers; i++) {
    if (asleep_[i] && sleepers_[i].returned()) fail(fmt::format("{} woke up", i));
  }
}

void Driver::step() {
  switch (below(10)) {
    case 0:
      return set();
    case 1:
    case 2:
      return wake();
    case 3:
    case 4:
      return requeue();
    case 5:
      return wake_op();
    default:
      return wait();
  }
}

std::string Driver::run() {
  if (!map_words().ok()) return "no shared memory";
  for (int i = 0; i < kOperations && failure_.empty(); i++) {
    step();
    check_queues();
  }
  for (Word& word : words_) {
    (void)futexes().wake(task_.mm(), word.addresses[0], word.shared, INT32_MAX,
                         FutexTable::kAnyBit);
  }
  return failure_;
}

std::string run(unsigned seed) {
  TestKernel kernel;
  std::array<Sleeper, kSleepers> sleepers;
  std::string failure = "the driver did not end";
  const int status = kernel.run([&](FakeGuest& guest) {
    for (size_t i = 0; i < kSleepers; i++) {
      spawn_thread(
          guest, [&, i](FakeGuest& thread) { sleepers[i].run(thread); }, kData + 0x8000 + 256 * i);
    }
    call(guest, [&](Task& task) -> Result<uint64_t> {
      failure = Driver(task, sleepers, seed).run();
      return 0;
    });
    for (Sleeper& sleeper : sleepers) sleeper.quit();
    return 0;
  });
  return status == 0 ? failure : failure + fmt::format("; wait status {:x}", status);
}

}  // namespace

TEST_CASE("futex model: who is woken, and how many") {
  for (unsigned seed = 1; seed <= kSeeds; seed++) {
    const std::string failure = run(seed);
    CHECK_MESSAGE(failure.empty(), failure);
  }
}
