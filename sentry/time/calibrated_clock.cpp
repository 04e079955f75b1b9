#include "sentry/time/calibrated_clock.h"

#include <cpuid.h>
#include <x86intrin.h>

#include <algorithm>

namespace boxrun {
namespace {

__extension__ typedef unsigned __int128 Wide;  // NOLINT(modernize-use-using)

constexpr Nanos kMinSpan = kSecond / 50;   // between two samples that give a rate
constexpr Nanos kValidFor = 2 * kSecond;   // NTP slews up to 500 ppm: 1 ms in that time
constexpr Nanos kMaxStep = kSecond / 100;  // the host's clock was set, or the machine slept

bool tsc_is_invariant() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & 1u << 8) != 0;
}

Nanos read(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return from_timespec(t);
}

uint64_t scaled(uint64_t ticks, uint64_t ns_per_tick_32) {
  return static_cast<uint64_t>(static_cast<Wide>(ticks) * ns_per_tick_32 >> 32);
}

// A seqlock without fences, which the thread sanitizer does not know: whoever acquires a field that
// was released after the sequence became odd sees that sequence, too, and reads again.
template <class T>
T load(const T& field) {
  return __atomic_load_n(&field, __ATOMIC_ACQUIRE);
}
template <class T, class V>
void store(T& field, V value) {
  __atomic_store_n(&field, static_cast<T>(value), __ATOMIC_RELEASE);
}

}  // namespace

CalibratedClock::CalibratedClock(TimePage& page) : page_(page), usable_(tsc_is_invariant()) {
  page_ = {};
}

CalibratedClock::Sample CalibratedClock::take_sample() {
  Sample best{};
  uint64_t best_span = UINT64_MAX;
  // The tightest of a few: an interrupt in between would spoil a single one.
  for (int i = 0; i < 5; i++) {
    const uint64_t before = __rdtsc();
    const Sample s{0, read(CLOCK_MONOTONIC), read(CLOCK_REALTIME), read(CLOCK_BOOTTIME)};
    const uint64_t span = __rdtsc() - before;
    if (span >= best_span) continue;
    best_span = span;
    best = s;
    best.tsc = before + span / 2;
  }
  return best;
}

std::optional<Nanos> CalibratedClock::from_page(int64_t TimePage::*base) const {
  for (;;) {
    const uint32_t sequence = load(page_.sequence);
    if ((sequence & 1) != 0) continue;
    const bool valid = load(page_.valid) != 0;
    const uint64_t delta = __rdtsc() - load(page_.base_tsc);
    const uint64_t max_delta = load(page_.max_delta);
    const uint64_t rate = load(page_.ns_per_tick_32);
    const int64_t start = load(page_.*base);
    if (load(page_.sequence) != sequence) continue;
    if (!valid || delta > max_delta) return std::nullopt;
    return start + static_cast<Nanos>(scaled(delta, rate));
  }
}

void CalibratedClock::publish_locked(const Sample& now) const {
  const uint64_t ticks = now.tsc - first_->tsc;
  const Nanos span = now.monotonic - first_->monotonic;
  uint64_t rate =
      static_cast<uint64_t>((static_cast<Wide>(span) << 32) / std::max<uint64_t>(ticks, 1));
  Sample base = now;
  // Time must not go back for those who read it by the old page: where that was ahead, start from
  // it and run slower, so that the difference is gone when this page goes stale.
  if (load(page_.valid) != 0) {
    const uint64_t delta = now.tsc - load(page_.base_tsc);
    const Nanos told =
        load(page_.monotonic) + static_cast<Nanos>(scaled(delta, load(page_.ns_per_tick_32)));
    const Nanos ahead = told - now.monotonic;
    if (ahead > 0 && ahead < kMaxStep) {
      base.monotonic += ahead;
      base.realtime += ahead;
      base.boottime += ahead;
      rate -= static_cast<uint64_t>(static_cast<Wide>(rate) * static_cast<uint64_t>(ahead) /
                                    static_cast<uint64_t>(kValidFor));
    }
  }
  const uint32_t sequence = load(page_.sequence);
  store(page_.sequence, sequence + 1);
  store(page_.base_tsc, base.tsc);
  store(page_.max_delta, (static_cast<Wide>(kValidFor) << 32) / rate);
  store(page_.ns_per_tick_32, rate);
  store(page_.monotonic, base.monotonic);
  store(page_.realtime, base.realtime);
  store(page_.boottime, base.boottime);
  store(page_.valid, 1);
  store(page_.sequence, sequence + 2);
}

void CalibratedClock::refresh() const {
  Lock lock(mutex_);
  const Sample now = take_sample();
  if (!first_) first_ = now;
  if (now.monotonic - first_->monotonic < kMinSpan) return;
  publish_locked(now);
}

Nanos CalibratedClock::now(int64_t TimePage::*base, clockid_t id) const {
  if (!usable_) return read(id);
  if (const auto told = from_page(base)) return *told;
  refresh();
  if (const auto told = from_page(base)) return *told;
  return read(id);
}

Nanos CalibratedClock::realtime() const { return now(&TimePage::realtime, CLOCK_REALTIME); }
Nanos CalibratedClock::monotonic() const { return now(&TimePage::monotonic, CLOCK_MONOTONIC); }
Nanos CalibratedClock::boottime() const { return now(&TimePage::boottime, CLOCK_BOOTTIME); }

}  // namespace boxrun
