// epoll(7). A watch registers itself in the queue of its file; a notification puts the watch on a
// list of candidates, and epoll_wait asks each candidate's file what is really ready. So nothing
// is computed by the notifier, which may hold any lock, and nothing is lost: a watch is either on
// the list or has been asked after it left the list.
#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "sentry/vfs/anonymous.h"
#include "sentry/vfs/file_description.h"
#include "sentry/wait/wait.h"

namespace boxrun::vfs {

class Epoll final : public FileDescription {
 public:
  // `mount` is the kernel's AnonymousFileSystem, one for all epolls of the kernel.
  static Ref<Epoll> create(const Ref<Mount>& mount, Ref<Credentials> credentials);

  struct Interest {
    uint32_t events = 0;  // EPOLL*, as epoll_ctl takes them
    uint64_t data = 0;
  };
  // epoll_ctl(2). EPERM for files that never block, EEXIST, EINVAL, ELOOP, ENOSPC.
  Result<void> add(int fd, const Ref<FileDescription>& file, Interest interest);
  Result<void> modify(int fd, const Ref<FileDescription>& file, Interest interest);  // ENOENT
  Result<void> remove(int fd, const Ref<FileDescription>& file);                     // ENOENT

  // What epoll_wait reports: at least one event, or kAgain.
  Result<std::vector<Interest>> collect(size_t max) EXCLUDES(mutex_);

  Events ready() override EXCLUDES(mutex_);
  WaitQueue* queue() override { return &queue_; }
  std::string describe() override EXCLUDES(mutex_);

  // The epoll behind a file; null for another kind. EINVAL is the caller's.
  static Epoll* of(FileDescription& file) { return dynamic_cast<Epoll*>(&file); }

 private:
  class Watch;
  Epoll(const OpenRequest& request, Ref<Inode> inode);
  ~Epoll() override;
  void last_reference_gone() override;
  Result<uint64_t> seek_stream() override { return uint64_t{0}; }

  Result<void> check_nesting(Epoll& inner);
  std::vector<Ref<FileDescription>> epolls_below() EXCLUDES(mutex_);
  std::vector<Ref<FileDescription>> epolls_above();
  Ref<Watch> find_locked(int fd, const FileDescription& file) REQUIRES(mutex_);
  void push(Watch& watch);
  void take_pending_locked() REQUIRES(mutex_);
  void forget(const Watch& watch) EXCLUDES(mutex_);

  using Key = std::pair<int, const FileDescription*>;
  WaitQueue queue_{Rank::kEpollQueue};
  // A stack that notifications push to without a lock, newest first.
  std::atomic<Watch*> pending_{nullptr};
  Mutex mutex_{Rank::kEpoll};
  std::map<Key, Ref<Watch>> watches_ GUARDED_BY(mutex_);
  std::deque<Ref<Watch>> candidates_ GUARDED_BY(mutex_);  // oldest first
};

}  // namespace boxrun::vfs
