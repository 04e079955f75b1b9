#include "sentry/fs/host_changes.h"

#include <poll.h>

namespace boxrun::fs {

// True also when it cannot be asked. poll(2), because epoll_wait(2) without a timeout looks at the
// ready list without its lock, and may find it empty while another thread looks (fs/eventpoll.c).
bool HostChanges::rings() const {
  pollfd bell{.fd = bell_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&bell, 1, 0) != 0;
}

HostChanges::Stamp HostChanges::as_of() const {
  const Stamp now = clock_.load();
  return collecting_.load() ? kNever : now;
}

// The bell first: if it is silent because of a collection, that has not ended yet, or has left its
// mark.
bool HostChanges::nothing_since(Stamp stamp) const {
  return stamp != kNever && !rings() && !collecting_.load() && stamp >= collected_.load();
}

HostChanges::Collection::Collection(HostChanges* changes) {
  if (changes == nullptr) return;
  stamp_ = changes->as_of();
  if (!changes->rings() || changes->collecting_.exchange(true)) return;
  changes_ = changes;
  stamp_ = changes->clock_.fetch_add(1) + 1;
}

HostChanges::Collection::~Collection() {
  if (changes_ == nullptr) return;
  changes_->collected_.store(stamp_);
  changes_->collecting_.store(false);
}

}  // namespace boxrun::fs
