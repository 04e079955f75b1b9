#pragma once
#include <vector>

#include "src/base/ref.h"
#include "src/base/sync.h"

namespace boxrun::vfs {

class FileDescription;

// One epoll's interest in one file (epoll.cpp). It does not keep the file open.
class FileWatch : public RefCounted {
 public:
  // The last reference to the file is gone; its queue() must not be used afterwards.
  virtual void file_gone() = 0;
  // The epoll; null when it is going away.
  virtual Ref<FileDescription> watcher() = 0;
};

// Who watches a file. Thread-safe.
class EpollLinks {
 public:
  void add(Ref<FileWatch> watch) EXCLUDES(mutex_);
  void remove(const FileWatch& watch) EXCLUDES(mutex_);
  std::vector<Ref<FileWatch>> list() EXCLUDES(mutex_);
  // Tells all of them that the file is gone. Called with no lock held.
  void release_all() EXCLUDES(mutex_);

 private:
  Mutex mutex_{Rank::kEpollReady};
  std::vector<Ref<FileWatch>> watches_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::vfs
