#include "sentry/fs/host_changes.h"

#include <sys/epoll.h>

namespace boxrun::fs {

// True also when it cannot be asked.
bool HostChanges::rings() const {
  epoll_event event;
  return ::epoll_wait(bell_.get(), &event, 1, 0) != 0;
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
