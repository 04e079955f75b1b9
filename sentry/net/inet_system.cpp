#include "sentry/net/inet_system.h"

#include <sys/socket.h>

namespace boxrun::net {
namespace {

// net/ipv4/inet_connection_sock.c: inet_bind_conflict. Datagram sockets never listen.
bool conflict(const PortUse& wanted, const PortUse& other) {
  if (!(wanted.v4 && other.v4) && !(wanted.v6 && other.v6)) return false;
  if (wanted.reuse_address && other.reuse_address && !other.listening) return false;
  return !(wanted.reuse_port && other.reuse_port && wanted.owner == other.owner);
}

}  // namespace

Result<void> InetSystem::socket_made() {
  if (sockets_.fetch_add(1, std::memory_order_relaxed) < kMaxSockets) return {};
  socket_gone();
  return Errno::kNFile;
}

bool InetSystem::taken_locked(const PortUse& wanted, uint16_t port) {
  const auto [first, last] = uses_.equal_range({wanted.type, port});
  for (auto other = first; other != last; ++other) {
    if (other->second != &wanted && conflict(wanted, *other->second)) return true;
  }
  return false;
}

Result<void> InetSystem::claim(PortUse& use) {
  Lock lock(mutex_);
  uint16_t port = use.port;
  if (port == 0) {
    constexpr int kPorts = kLastEphemeral - kFirstEphemeral + 1;
    for (int tries = 0; tries < kPorts && port == 0; tries++) {
      // One that is shared on purpose is nobody's to be given.
      if (!uses_.contains({use.type, next_ephemeral_})) port = next_ephemeral_;
      next_ephemeral_ = next_ephemeral_ == kLastEphemeral ? kFirstEphemeral : next_ephemeral_ + 1;
    }
    if (port == 0) return Errno::kAddrInUse;
  } else if (taken_locked(use, port)) {
    return Errno::kAddrInUse;
  }
  uses_.emplace(Key{use.type, port}, &use);
  use.port = port;
  return {};
}

Result<void> InetSystem::start_listening(PortUse& use) {
  Lock lock(mutex_);
  if (taken_locked(use, use.port)) return Errno::kAddrInUse;
  use.listening = true;
  return {};
}

void InetSystem::stop_listening(PortUse& use) {
  Lock lock(mutex_);
  use.listening = false;
}

void InetSystem::give_up(PortUse& use) {
  if (use.port == 0) return;
  Lock lock(mutex_);
  const auto [first, last] = uses_.equal_range({use.type, use.port});
  for (auto it = first; it != last; ++it) {
    if (it->second != &use) continue;
    uses_.erase(it);
    break;
  }
  use.port = 0;
  use.listening = false;
}

}  // namespace boxrun::net
