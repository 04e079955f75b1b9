#include <atomic>
#include <chrono>
#include <thread>

#include "sentry/time/timer_queue.h"
#include "tests/unit/kernel_harness.h"
#include "tests/unit/test.h"

namespace boxrun {
namespace {

Nanos now() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Due again whenever it has expired.
class Restless final : public Timer {
 public:
  explicit Restless(TimerQueue& queue) : queue_(queue) {}
  ~Restless() override { queue_.disarm(*this); }
  void expired() override {
    count.fetch_add(1);
    queue_.arm(*this, now());
  }
  std::atomic<int> count{0};

 private:
  TimerQueue& queue_;
};

}  // namespace

TEST_CASE("timer queue: a timer that is always due is disarmed, and leaves the others their turn") {
  TimerQueue queue;
  for (int i = 0; i < 20; ++i) {
    Restless first(queue), second(queue);
    queue.arm(first, 0);
    queue.arm(second, 0);
    CHECK(test::eventually([&] { return first.count > 2 && second.count > 2; }));
    queue.disarm(first);
    const int last = first.count;
    CHECK(test::eventually([&, start = second.count.load()] { return second.count > start + 2; }));
    CHECK(first.count == last);
  }
}

TEST_CASE("timer queue: expirations of one timer are a pause apart") {
  TimerQueue queue;
  Restless timer(queue);
  const Nanos start = now();
  queue.arm(timer, start);
  CHECK(test::eventually([&] { return timer.count >= 20; }));
  CHECK(now() - start >= 19 * TimerQueue::kShortestPause);
}

}  // namespace boxrun
