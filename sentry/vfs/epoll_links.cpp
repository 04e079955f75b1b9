#include "sentry/vfs/epoll_links.h"

#include <algorithm>
#include <utility>

#include "sentry/vfs/file_description.h"

namespace boxrun::vfs {

void EpollLinks::add(Ref<FileWatch> watch) {
  Lock lock(mutex_);
  watches_.push_back(std::move(watch));
}

void EpollLinks::remove(const FileWatch& watch) {
  Ref<FileWatch> found;  // dropped after the lock
  Lock lock(mutex_);
  const auto at = std::find_if(watches_.begin(), watches_.end(),
                               [&](const Ref<FileWatch>& w) { return w.get() == &watch; });
  if (at == watches_.end()) return;
  found = std::move(*at);
  watches_.erase(at);
}

std::vector<Ref<FileWatch>> EpollLinks::list() {
  Lock lock(mutex_);
  return watches_;
}

void EpollLinks::release_all() {
  std::vector<Ref<FileWatch>> watches;
  {
    Lock lock(mutex_);
    watches.swap(watches_);
  }
  for (const Ref<FileWatch>& watch : watches) watch->file_gone();
}

}  // namespace boxrun::vfs
