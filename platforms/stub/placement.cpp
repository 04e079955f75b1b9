#include "platforms/stub/placement.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace boxrun::platform {
namespace {

using namespace std::chrono_literals;

// A turn this short is a system call or a fault with little work around it, even when it took two
// wake-ups across CPUs.
constexpr auto kShortTurn = 150us;
constexpr int kShortTurnsToPin = 2;
// A pair that had no turn for one tick computes or waits.
constexpr auto kTick = 4ms;
// Of pairs that crowd one CPU, all but one are let loose every so many ticks.
constexpr int kTicksToSpread = 16;

void set_affinity(pid_t thread, const cpu_set_t& set) {
  // Fails when the thread is gone, or the host narrowed what we may use: both harmless.
  (void)::sched_setaffinity(thread, sizeof set, &set);
}

}  // namespace

Placement::Placement() {
  CPU_ZERO(&allowed_);
  if (::sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) CPU_SET(cpu, &allowed_);
  }
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
  if (pinned_.load()) placement_.unpin_locked(*this);
  stub_thread_ = 0;
}

void Placement::Pair::judge() {
  if (std::chrono::steady_clock::now() - began_ > kShortTurn) {
    short_turns_ = 0;
  } else if (++short_turns_ >= kShortTurnsToPin) {
    short_turns_ = 0;
    placement_.pin(*this, IfCrowded::kPin);
  }
}

bool Placement::crowded(int cpu) const {
  return std::ranges::any_of(pinned_, [cpu](const Pair* p) { return p->cpu_ == cpu; });
}

void Placement::pin(Pair& pair, IfCrowded if_crowded) {
  Lock lock(mutex_);
  const int cpu = ::sched_getcpu();
  if (cpu < 0 || ending_ || (if_crowded == IfCrowded::kLeaveLoose && crowded(cpu))) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  set_affinity(pair.host_thread_, one);
  set_affinity(pair.stub_thread_, one);
  pair.cpu_ = cpu;
  pair.seen_turns_ = pair.turns_.load(std::memory_order_relaxed);
  pair.pinned_.store(true);
  pinned_.push_back(&pair);
  if (!watcher_.joinable()) watcher_ = std::thread([this] { watch(); });
  if (pinned_.size() == 1) changed_.notify_all();
}

void Placement::unpin_locked(Pair& pair) {
  set_affinity(pair.host_thread_, allowed_);
  if (pair.stub_thread_ != 0) set_affinity(pair.stub_thread_, allowed_);
  pair.cpu_ = -1;
  pair.pinned_.store(false);
  std::erase(pinned_, &pair);
}

void Placement::tick(bool spread) {
  const std::vector<Pair*> pairs = pinned_;
  for (Pair* pair : pairs) {
    const uint32_t turns = pair->turns_.load(std::memory_order_relaxed);
    const bool idle = turns == pair->seen_turns_;
    pair->seen_turns_ = turns;
    const auto shares = [pair](const Pair* p) { return p->cpu_ == pair->cpu_; };
    if (idle || (spread && std::ranges::count_if(pinned_, shares) > 1)) unpin_locked(*pair);
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
    const auto next = std::chrono::steady_clock::now() + kTick;
    while (!ending_ && changed_.wait_until(mutex_, next)) {
    }
    tick(ticks % kTicksToSpread == 0);
  }
}

}  // namespace boxrun::platform
