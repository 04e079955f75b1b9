// Learning of changes that somebody else makes to the host's files: inotify(7) watches on
// directories, for mounts whose cache mode is `shared`.
#pragma once
#include <memory>
#include <span>
#include <unordered_set>

#include "gofer/host_file.h"
#include "src/base/fd.h"
#include "src/base/sync.h"

namespace boxrun::gofer {

// All watches of a session. The client never sees an event, which could name hidden files: it has
// the bell, a descriptor that polls as readable from the moment of a change, before the call that
// made the change returns, until the events are collected. Thread-safe.
class Watches {
 public:
  // Null where the host has none to give (max_user_instances of inotify(7)).
  static std::unique_ptr<Watches> create();

  // inotify_add_watch(2) takes nothing but paths, so /proc/self/fd becomes the working directory of
  // the process, for good. Without this nothing can be watched.
  void enter(const ProcFds& proc);

  // An epoll descriptor for the client to keep.
  Result<UniqueFd> bell() const;
  // From now on whatever happens to the names in `directory`, an O_PATH descriptor, and to the
  // files that have no other names rings the bell; again for one that is watched does nothing.
  // False where changes can go unseen (network file systems), without the right to read the
  // directory, and beyond kMaxWatches.
  bool add(int directory);
  // Forgets the events so far, at most kMaxCollected bytes of them: what is left keeps ringing.
  void collect(std::span<std::byte> scratch);

  // For the filter rows.
  int number() const { return inotify_.get(); }

 private:
  explicit Watches(UniqueFd inotify) : inotify_(std::move(inotify)) {}

  // Kernel memory that belongs to the user, about 1 KiB each; max_user_watches is often 8,192.
  static constexpr size_t kMaxWatches = 1024;
  static constexpr size_t kMaxCollected = size_t{1} << 20;

  const UniqueFd inotify_;
  bool entered_ = false;  // fixed before the first request
  Mutex mutex_{Rank::kGoferTree};
  std::unordered_set<int> live_ GUARDED_BY(mutex_);  // watch descriptors
};

}  // namespace boxrun::gofer
