#pragma once
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <utility>

#include "sentry/vfs/mount.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::net {

// A port that a socket has, or wants. Owned by the socket; while an InetSystem knows it, only that
// one changes it, under its lock.
struct PortUse {
  int type = 0;                 // SOCK_STREAM, SOCK_DGRAM: each has its own ports
  uint16_t port = 0;            // 0: none
  bool v4 = false, v6 = false;  // whose wildcard address
  bool reuse_address = false, reuse_port = false;  // SO_REUSEADDR, SO_REUSEPORT
  uid_t owner = 0;                                 // for SO_REUSEPORT
  bool listening = false;
};

// What all AF_INET and AF_INET6 sockets of a sandbox share: its ports. Thread-safe.
class InetSystem final : public RefCounted {
 public:
  static constexpr uint64_t kMaxSockets = 1 << 16;
  // net.ipv4.ip_local_port_range
  static constexpr uint16_t kFirstEphemeral = 32768, kLastEphemeral = 60999;

  // `mount`: an AnonymousFileSystem "sockfs" (SOCKFS_MAGIC).
  explicit InetSystem(Ref<vfs::Mount> mount) : mount_(std::move(mount)) {}
  const Ref<vfs::Mount>& mount() const { return mount_; }

  Result<void> socket_made();  // ENFILE
  void socket_gone() { sockets_.fetch_sub(1, std::memory_order_relaxed); }

  // `use.port` 0 asks for an ephemeral one. EADDRINUSE; then `use` is as it was.
  Result<void> claim(PortUse& use) EXCLUDES(mutex_);
  // Checks again, as inet_csk_listen_start does: two that share a port by SO_REUSEADDR may not both
  // listen. EADDRINUSE.
  Result<void> start_listening(PortUse& use) EXCLUDES(mutex_);
  void stop_listening(PortUse& use) EXCLUDES(mutex_);
  void give_up(PortUse& use) EXCLUDES(mutex_);  // use.port becomes 0

 private:
  using Key = std::pair<int, uint16_t>;  // type, port
  bool taken_locked(const PortUse& wanted, uint16_t port) REQUIRES(mutex_);

  const Ref<vfs::Mount> mount_;
  std::atomic<uint64_t> sockets_{0};

  Mutex mutex_{Rank::kPipe};                              // taken with the lock of one socket held
  std::multimap<Key, PortUse*> uses_ GUARDED_BY(mutex_);  // give_up() comes before their end
  uint16_t next_ephemeral_ GUARDED_BY(mutex_) = kFirstEphemeral;
};

}  // namespace boxrun::net
