// Files without a name in any directory: pipes, sockets, eventfds, epolls (fs/anon_inodes.c).
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "sentry/time/clock.h"
#include "sentry/vfs/mount.h"
#include "src/base/ref.h"

namespace boxrun::vfs {

// The file system of such files; one for each kind that has its own st_dev. Owned by the kernel
// through its mount, which is in no namespace.
class AnonymousFileSystem final : public FileSystem {
 public:
  static Ref<Mount> create(std::string type, uint64_t device, uint64_t magic, const Clock& clock);
  // A new inode and its dentry. `name` as readlink of /proc/PID/fd/N shows it; "%" becomes the
  // inode number: "pipe:[%]".
  static Path make(const Ref<Mount>& mount, FileType type, mode_t mode, std::string_view name,
                   const Credentials& owner);

  Ref<Inode> root() override { return root_; }
  Result<Statistics> statistics() override;
  const Clock& clock() const { return clock_; }
  // Objects that grow with use, over all users: what epolls watch. ENOSPC.
  Result<void> charge_watch();
  void release_watch() { watches_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  AnonymousFileSystem(Properties properties, uint64_t magic, const Clock& clock);

  const uint64_t magic_;
  const Clock& clock_;
  std::atomic<uint64_t> next_ino_{2};
  std::atomic<uint64_t> watches_{0};
  Ref<Inode> root_;
};

}  // namespace boxrun::vfs
