#include "sentry/fs/p9_connection.h"

#include <utility>

#include "sentry/fs/p9_fs.h"

namespace boxrun::fs {

void P9Connection::keeps(P9Inode& inode) {
  Ref<P9Inode> oldest;  // told, and dropped, after the lock
  {
    const Lock lock(mutex_);
    if (std::exchange(inode.keeping_, true)) keeping_.erase(inode.position_);
    inode.position_ = keeping_.insert(keeping_.end(), &inode);
    if (keeping_.size() > max_kept_ && keeping_.front()->try_ref()) {
      oldest = adopt_ref(keeping_.front());
      keeping_.pop_front();
      oldest->keeping_ = false;
    }
  }
  if (oldest) oldest->give_up_file();
}

Ref<P9Inode> P9Connection::take_oldest() {
  const Lock lock(mutex_);
  while (!keeping_.empty()) {
    P9Inode* oldest = keeping_.front();
    keeping_.pop_front();
    oldest->keeping_ = false;
    if (oldest->try_ref()) return adopt_ref(oldest);
  }
  return nullptr;
}

HostChanges* P9Connection::listen() {
  if (changes_) return changes_.get();
  Result<UniqueFd> bell = client_->bell();
  if (bell.ok()) changes_ = std::make_unique<HostChanges>(std::move(bell).take());
  return changes_.get();
}

bool P9Connection::keep_none() {
  bool any = false;
  while (const Ref<P9Inode> oldest = take_oldest()) {
    oldest->give_up_file();
    any = true;
  }
  return any;
}

void P9Connection::keeps_no_more(P9Inode& inode) {
  const Lock lock(mutex_);
  if (std::exchange(inode.keeping_, false)) keeping_.erase(inode.position_);
}

}  // namespace boxrun::fs
