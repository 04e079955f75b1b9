#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "sentry/vfs/file_description.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::vfs {

// A task's descriptors (struct files_struct): shared by CLONE_FILES, copied by fork. Its address
// identifies the owner of POSIX locks. Thread-safe. Files that leave the table are closed after
// the lock has been released.
class FdTable final : public RefCounted {
 public:
  enum class OnExec : uint8_t { kKeep, kClose };
  struct Entry {
    Ref<FileDescription> file;
    OnExec on_exec = OnExec::kKeep;
  };
  static constexpr int kMaxFds = 1 << 20;  // fs.nr_open

  // EBADF also for O_PATH descriptors, as most system calls want it.
  Result<Ref<FileDescription>> get(int fd) const EXCLUDES(mutex_);
  // O_PATH included: fstat, dup, *at.
  Result<Ref<FileDescription>> get_raw(int fd) const EXCLUDES(mutex_);
  Result<OnExec> on_exec(int fd) const EXCLUDES(mutex_);
  Result<void> set_on_exec(int fd, OnExec on_exec) EXCLUDES(mutex_);

  // The lowest free descriptor from `lowest` on; EMFILE when that is not below `limit`
  // (RLIMIT_NOFILE), EINVAL when `lowest` is not.
  Result<int> install(Ref<FileDescription> file, OnExec on_exec, uint64_t limit, int lowest = 0)
      EXCLUDES(mutex_);
  // Two at once or none: pipe, socketpair.
  struct Pair {
    int first, second;
  };
  Result<Pair> install_pair(Ref<FileDescription> first, Ref<FileDescription> second, OnExec on_exec,
                            uint64_t limit) EXCLUDES(mutex_);
  // dup2, dup3: `to` is closed first, silently. EBADF when `to` is not below `limit`.
  Result<int> replace(int from, int to, OnExec on_exec, uint64_t limit) EXCLUDES(mutex_);
  // Removes the descriptor and reports FileDescription::flush's error, like close(2).
  Result<void> close(int fd) EXCLUDES(mutex_);
  // close_range(2) without CLOSE_RANGE_UNSHARE, which is the caller's.
  void close_range(uint32_t first, uint32_t last) EXCLUDES(mutex_);
  void mark_range(uint32_t first, uint32_t last, OnExec on_exec) EXCLUDES(mutex_);
  void close_on_exec() EXCLUDES(mutex_);
  void close_all() EXCLUDES(mutex_);

  Ref<FdTable> clone() const EXCLUDES(mutex_);
  // Open descriptors from `from` on, ascending: at most `max`.
  std::vector<int> list(int from, size_t max) const EXCLUDES(mutex_);
  size_t capacity() const EXCLUDES(mutex_);  // FDSize in /proc/PID/status

 protected:
  // The last task that used the table is gone: its files are closed, its POSIX locks released.
  void last_reference_gone() override;

 private:
  void put_locked(int fd, Entry entry) REQUIRES(mutex_);
  int lowest_free_locked(int from) const REQUIRES(mutex_);
  Entry take_locked(int fd) REQUIRES(mutex_);
  void close_where(uint32_t first, uint32_t last, bool only_on_exec) EXCLUDES(mutex_);
  void release(Entry entry);

  mutable Mutex mutex_{Rank::kFdTable};
  std::vector<Entry> entries_ GUARDED_BY(mutex_);
  int first_free_ GUARDED_BY(mutex_) = 0;  // everything below is in use
};

}  // namespace boxrun::vfs
