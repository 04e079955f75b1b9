#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <vector>

#include "sentry/net/socket.h"
#include "sentry/vfs/mount.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::net {

class UnixEndpoint;

// What all AF_UNIX sockets of a sandbox share: abstract names, and the counts that bound what a
// guest can make the Sentry keep. Thread-safe.
class UnixSystem final : public RefCounted {
 public:
  static constexpr uint64_t kMaxEndpoints = 1 << 16;
  static constexpr uint64_t kMaxQueuedBytes = 64 << 20;  // over all sockets
  static constexpr uint64_t kMaxFlying = 1 << 14;        // descriptors, over all users

  // `mount`: an AnonymousFileSystem "sockfs" (SOCKFS_MAGIC).
  explicit UnixSystem(Ref<vfs::Mount> mount) : mount_(std::move(mount)) {}
  const Ref<vfs::Mount>& mount() const { return mount_; }

  // --- abstract names, and those that autobind makes up (unix(7))
  Result<void> claim(const Address& name, UnixEndpoint& owner) EXCLUDES(mutex_);  // EADDRINUSE
  Result<Address> claim_any(UnixEndpoint& owner) EXCLUDES(mutex_);                // ENOSPC
  void give_up(const Address& name, const UnixEndpoint& owner) EXCLUDES(mutex_);
  Ref<UnixEndpoint> find(const Address& name) EXCLUDES(mutex_);  // null

  // --- counts
  Result<void> endpoint_made();  // ENFILE
  void endpoint_gone() { endpoints_.fetch_sub(1, std::memory_order_relaxed); }
  Result<void> charge(uint64_t bytes);  // ENOBUFS
  void release(uint64_t bytes) { queued_bytes_.fetch_sub(bytes, std::memory_order_relaxed); }
  // Descriptors in queues: ETOOMANYREFS when there are more than `limit` (RLIMIT_NOFILE, as
  // net/unix/scm.c: too_many_unix_fds), for all users of the sandbox together.
  Result<void> take_off(uint64_t files, uint64_t limit);
  void land(uint64_t files) { flying_.fetch_sub(files, std::memory_order_relaxed); }

  // Drops files that were in a queue nobody will read. One may be a socket with such a queue
  // itself, and so on: this is a loop, so that no guest chooses how deep our stack gets. When
  // another thread is at it, that one drops these, too.
  void bury(std::vector<Ref<vfs::FileDescription>> files) EXCLUDES(grave_mutex_);

 private:
  const Ref<vfs::Mount> mount_;
  std::atomic<uint64_t> endpoints_{0};
  std::atomic<uint64_t> queued_bytes_{0};
  std::atomic<uint64_t> flying_{0};

  Mutex mutex_{Rank::kSocketNames};
  std::map<Address, UnixEndpoint*> names_ GUARDED_BY(mutex_);  // give_up() comes before their end
  uint32_t next_name_ GUARDED_BY(mutex_) = 0;

  Mutex grave_mutex_{Rank::kSocketNames};
  std::vector<Ref<vfs::FileDescription>> grave_ GUARDED_BY(grave_mutex_);
  bool burying_ GUARDED_BY(grave_mutex_) = false;
};

}  // namespace boxrun::net
