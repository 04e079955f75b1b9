#include "sentry/time/call.h"

#include <atomic>

namespace boxrun {
namespace {

// Threads take their numbers by the million, so that the counter stays out of the way.
constexpr uint64_t kBlock = 1 << 20;
std::atomic<uint64_t> next_block{1};
thread_local uint64_t current = 0;
thread_local uint64_t block_end = 0;

struct Refusal {
  const RefusalMark* by;
  uint64_t call;
};
thread_local Refusal last_refusal{nullptr, 0};

}  // namespace

void begin_call() {
  if (++current >= block_end) {
    current = next_block.fetch_add(kBlock, std::memory_order_relaxed);
    block_end = current + kBlock;
  }
}

uint64_t this_call() { return current; }

void RefusalMark::set() const { last_refusal = {this, current}; }

bool RefusalMark::take() const {
  if (last_refusal.by != this || last_refusal.call != current) return false;
  last_refusal.by = nullptr;
  return true;
}

}  // namespace boxrun
