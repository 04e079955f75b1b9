#include "sentry/vfs/poll.h"

namespace boxrun::vfs {

size_t poll_ready(std::span<PollItem> items) {
  size_t count = 0;
  for (PollItem& item : items) {
    if (!item.file) continue;
    item.ready = item.file->ready() & (item.wanted | kError | kHangup);
    if (item.ready != 0) count++;
  }
  return count;
}

PollWait::PollWait(std::span<const PollItem> items, Waiter& waiter) {
  for (const PollItem& item : items) {
    WaitQueue* queue = item.file ? item.file->queue() : nullptr;
    if (queue != nullptr) entries_.emplace_back(*queue, item.wanted, waiter);
  }
}

}  // namespace boxrun::vfs
