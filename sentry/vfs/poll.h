// poll(2), ppoll(2), select(2): one task waits for many files.
#pragma once
#include <deque>
#include <span>

#include "sentry/vfs/file_description.h"
#include "sentry/wait/wait.h"

namespace boxrun::vfs {

struct PollItem {
  Ref<FileDescription> file;  // null: ignored (a negative fd)
  Events wanted = 0;
  Events ready = 0;  // out: the events that hold, with POLLERR and POLLHUP
};

// Fills in `ready`; returns how many items have any.
size_t poll_ready(std::span<PollItem> items);

// Registrations with every file's queue, for as long as this lives. The items must outlive it.
// Create it, call poll_ready once more, then sleep.
class PollWait {
 public:
  PollWait(std::span<const PollItem> items, Waiter& waiter);

 private:
  std::deque<WaitQueue::Entry> entries_;
};

}  // namespace boxrun::vfs
