#include "platforms/stub/placement.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace boxrun::platform {
namespace {

using namespace std::chrono_literals;

using Clock = std::chrono::steady_clock;

// A turn this short is a system call or a fault with little work around it, even when it took two
// wake-ups across CPUs.
constexpr auto kShortTurn = 150us;
constexpr int kShortTurnsToPin = 2;
// A pair that had no turn for one tick computes or waits.
constexpr auto kTick = 4ms;
// Of pairs that crowd one CPU, all but one are let loose every so many ticks.
constexpr int kTicksToSpread = 16;

// A turn on one CPU costs 5 us or so. Where guest code and the Sentry do little between turns,
// waiting awake pays; a spin that lasts longer than its end costs more than it saves.
constexpr auto kHotTurn = 20us;
constexpr auto kLongestSpin = 20us;
// On one CPU, how often a side lets the other run before it sleeps.
constexpr uint32_t kYields = 3;
// Of the turns of a window, how many may end in sleep.
constexpr uint32_t kMissesBorne = 8;
// When it did not pay, the next try is later and later. A pair that stays apart for so many windows
// has proved itself.
constexpr Clock::duration kFirstBackoff = 10ms;
constexpr Clock::duration kLongestBackoff = 1s;
constexpr uint32_t kGoodWindows = 64;

void set_affinity(pid_t thread, const cpu_set_t& set) {
  // Fails when the thread is gone, or the host narrowed what we may use: both harmless.
  (void)::sched_setaffinity(thread, sizeof set, &set);
}

void set_affinity(pid_t thread, int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  set_affinity(thread, one);
}

// Rounds of a loop around `pause`, which takes 10 to 200 ns, that last as long as a spin may.
uint32_t measure_spins() {
  constexpr uint32_t kRounds = 256;
  Clock::duration took = Clock::duration::max();
  // The shortest of a few: this thread can lose its CPU meanwhile.
  for (int i = 0; i < 4; i++) {
    const Clock::time_point start = Clock::now();
    for (uint32_t j = 0; j < kRounds; j++) __builtin_ia32_pause();
    took = std::min(took, Clock::now() - start);
  }
  took = std::max<Clock::duration>(took, 1us);
  return static_cast<uint32_t>(std::max<int64_t>(kLongestSpin * kRounds / took, 16));
}

}  // namespace

Placement::Placement(Waiting waiting) : waiting_(waiting) {
  CPU_ZERO(&allowed_);
  if (::sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) CPU_SET(cpu, &allowed_);
  }
  cpus_ = CPU_COUNT(&allowed_);
}

Placement::~Placement() {
  std::thread watcher;
  {
    Lock lock(mutex_);
    ending_ = true;
    changed_.notify_all();
    std::swap(watcher, watcher_);
  }
  if (watcher.joinable()) watcher.join();
}

Placement::Pair::Pair(Placement& placement)
    : placement_(placement), host_thread_(static_cast<pid_t>(::syscall(SYS_gettid))) {
  set_affinity(host_thread_, placement_.allowed_);
  Lock lock(placement_.mutex_);
  index_ = placement_.pairs_.size();
  placement_.pairs_.push_back(this);
}

Placement::Pair::~Pair() {
  leave();
  Lock lock(placement_.mutex_);
  Pair* last = placement_.pairs_.back();
  placement_.pairs_[index_] = last;
  last->index_ = index_;
  placement_.pairs_.pop_back();
}

void Placement::Pair::enter(pid_t stub_thread) {
  {
    Lock lock(placement_.mutex_);
    stub_thread_ = stub_thread;
  }
  set_affinity(stub_thread, placement_.allowed_);
  short_turns_ = 0;
  // A new program begins with many system calls.
  placement_.pin(*this, IfCrowded::kLeaveLoose);
}

void Placement::Pair::leave() {
  Lock lock(placement_.mutex_);
  if (mode_.load() != Mode::kLoose) placement_.unpin_locked(*this);
  stub_thread_ = 0;
}

void Placement::Pair::judge_turn() {
  if (Clock::now() - began_ > kShortTurn) {
    short_turns_ = 0;
  } else if (++short_turns_ >= kShortTurnsToPin) {
    short_turns_ = 0;
    placement_.pin(*this, IfCrowded::kPin);
  }
}

void Placement::Pair::judge_window(uint32_t turns) {
  window_turns_ = turns;
  const Clock::time_point now = Clock::now();
  const Clock::duration window = now - std::exchange(window_began_, now);
  if (mode_.load(std::memory_order_relaxed) == Mode::kApart) {
    judge_apart(now, window);
  } else if (window < kHotTurn * kWindow && now >= next_try_) {
    together_ = window;
    good_windows_ = 0;
    if (!placement_.separate(*this)) next_try_ = now + kTick;
  }
  misses_ = 0;
}

// The first window apart has the move in it.
void Placement::Pair::judge_apart(Clock::time_point now, Clock::duration window) {
  const bool pays = misses_ <= kMissesBorne && window < together_ - together_ / 8;
  if (pays || good_windows_ == 0) {
    if (++good_windows_ >= kGoodWindows) backoff_ = Clock::duration::zero();
    return;
  }
  placement_.join(*this);
  backoff_ = std::clamp(backoff_ * 2, kFirstBackoff, kLongestBackoff);
  next_try_ = now + backoff_;
}

bool Placement::crowded(int cpu) const {
  return std::ranges::any_of(
      pinned_, [cpu](const Pair* p) { return p->cpu_ == cpu || p->host_cpu_ == cpu; });
}

int Placement::idle_cpu() const {
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &allowed_) && !crowded(cpu)) return cpu;
  }
  return -1;
}

int Placement::busy_cpus(int enough) const {
  int busy = 0;
  for (const Pair* pair : pairs_) {
    if (busy >= enough) break;
    const uint32_t turns = pair->turns_.load(std::memory_order_relaxed);
    if (pair->mode_.load() == Pair::Mode::kApart) {
      busy += 2;
    } else if (turns % 2 == 1 || turns != pair->seen_turns_ || pair->active_) {
      busy++;
    }
  }
  return busy;
}

void Placement::pin(Pair& pair, IfCrowded if_crowded) {
  Lock lock(mutex_);
  const int cpu = ::sched_getcpu();
  if (cpu < 0 || ending_ || (if_crowded == IfCrowded::kLeaveLoose && crowded(cpu))) return;
  set_affinity(pair.host_thread_, cpu);
  set_affinity(pair.stub_thread_, cpu);
  pair.cpu_ = pair.host_cpu_ = cpu;
  pair.seen_turns_ = pair.turns_.load(std::memory_order_relaxed);
  pair.window_began_ = Clock::now();
  pair.window_turns_ = pair.seen_turns_;
  pair.looks_.store(looks_together());
  pair.mode_.store(Pair::Mode::kTogether);
  pinned_.push_back(&pair);
  if (!watcher_.joinable()) watcher_ = std::thread([this] { watch(); });
  if (pinned_.size() == 1) changed_.notify_all();
}

bool Placement::separate(Pair& pair) {
  Lock lock(mutex_);
  if (pair.mode_.load() != Pair::Mode::kTogether) return false;
  // This pair is among the busy.
  if (busy_cpus(cpus_) >= cpus_) return false;
  const int cpu = idle_cpu();
  if (cpu < 0) return false;
  static const uint32_t spins = measure_spins();
  set_affinity(pair.host_thread_, cpu);
  pair.host_cpu_ = cpu;
  pair.looks_.store(spins);
  separations_++;
  pair.mode_.store(Pair::Mode::kApart);
  return true;
}

void Placement::join(Pair& pair) {
  Lock lock(mutex_);
  if (pair.mode_.load() == Pair::Mode::kApart) join_locked(pair);
}

// The other side is the first that gets the CPU, if it can run at all.
uint32_t Placement::looks_together() const {
  return waiting_ == Waiting::kAwake ? Pair::kYield | kYields : 0;
}

void Placement::join_locked(Pair& pair) {
  pair.looks_.store(looks_together());
  set_affinity(pair.host_thread_, pair.cpu_);
  pair.host_cpu_ = pair.cpu_;
  pair.mode_.store(Pair::Mode::kTogether);
}

void Placement::unpin_locked(Pair& pair) {
  pair.looks_.store(0);
  set_affinity(pair.host_thread_, allowed_);
  if (pair.stub_thread_ != 0) set_affinity(pair.stub_thread_, allowed_);
  pair.cpu_ = pair.host_cpu_ = -1;
  pair.mode_.store(Pair::Mode::kLoose);
  std::erase(pinned_, &pair);
}

void Placement::tick(bool spread) {
  for (Pair* pair : pairs_) {
    const uint32_t turns = pair->turns_.load(std::memory_order_relaxed);
    pair->active_ = turns != std::exchange(pair->seen_turns_, turns);
  }
  const std::vector<Pair*> pairs = pinned_;
  for (Pair* pair : pairs) {
    const auto shares = [pair](const Pair* p) {
      return p->cpu_ == pair->cpu_ || p->host_cpu_ == pair->cpu_;
    };
    if (!pair->active_ || (spread && std::ranges::count_if(pinned_, shares) > 1)) {
      unpin_locked(*pair);
    } else if (pair->mode_.load() == Pair::Mode::kApart && busy_cpus(cpus_ + 1) > cpus_) {
      join_locked(*pair);
    }
  }
}

void Placement::watch() {
  Lock lock(mutex_);
  // Started by a pinned thread.
  set_affinity(0, allowed_);
  for (int ticks = 0; !ending_; ticks++) {
    if (pinned_.empty()) {
      changed_.wait(mutex_);
      continue;
    }
    const auto next = Clock::now() + kTick;
    while (!ending_ && changed_.wait_until(mutex_, next)) {
    }
    tick(ticks % kTicksToSpread == 0);
  }
}

}  // namespace boxrun::platform
