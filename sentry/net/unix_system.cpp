#include "sentry/net/unix_system.h"

#include <sys/un.h>

#include <cstdio>
#include <cstring>
#include <iterator>
#include <utility>

#include "sentry/net/unix_endpoint.h"

namespace boxrun::net {
namespace {

// Adds `amount` unless the sum would exceed `limit`.
bool add_within(std::atomic<uint64_t>& count, uint64_t amount, uint64_t limit) {
  if (count.fetch_add(amount, std::memory_order_relaxed) + amount <= limit) return true;
  count.fetch_sub(amount, std::memory_order_relaxed);
  return false;
}

// A NUL and five hexadecimal digits (unix(7), "Autobind feature").
constexpr uint32_t kAutoNames = 1 << 20;

Address auto_name(uint32_t number) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "%05x", number);
  const auto* bytes = reinterpret_cast<const std::byte*>(&name);
  return {bytes, bytes + offsetof(sockaddr_un, sun_path) + 6};
}

}  // namespace

Result<void> UnixSystem::claim(const Address& name, UnixEndpoint& owner) {
  Lock lock(mutex_);
  return names_.emplace(name, &owner).second ? Result<void>() : Result<void>(Errno::kAddrInUse);
}

Result<Address> UnixSystem::claim_any(UnixEndpoint& owner) {
  Lock lock(mutex_);
  for (uint32_t tries = 0; tries < kAutoNames; tries++) {
    Address name = auto_name(next_name_++ % kAutoNames);
    if (names_.emplace(name, &owner).second) return name;
  }
  return Errno::kNoSpc;
}

void UnixSystem::give_up(const Address& name, const UnixEndpoint& owner) {
  Lock lock(mutex_);
  const auto at = names_.find(name);
  if (at != names_.end() && at->second == &owner) names_.erase(at);
}

Ref<UnixEndpoint> UnixSystem::find(const Address& name) {
  Lock lock(mutex_);
  const auto at = names_.find(name);
  // An endpoint that is about to go has not given up its name yet.
  if (at == names_.end() || !at->second->try_ref()) return nullptr;
  return adopt_ref(at->second);
}

Result<void> UnixSystem::endpoint_made() {
  return add_within(endpoints_, 1, kMaxEndpoints) ? Result<void>() : Result<void>(Errno::kNFile);
}

Result<void> UnixSystem::charge(uint64_t bytes) {
  return add_within(queued_bytes_, bytes, kMaxQueuedBytes) ? Result<void>()
                                                           : Result<void>(Errno::kNoBufs);
}

Result<void> UnixSystem::take_off(uint64_t files, uint64_t limit) {
  return add_within(flying_, files, std::min(limit, kMaxFlying))
             ? Result<void>()
             : Result<void>(Errno::kTooManyRefs);
}

void UnixSystem::bury(std::vector<Ref<vfs::FileDescription>> files) {
  {
    Lock lock(grave_mutex_);
    std::move(files.begin(), files.end(), std::back_inserter(grave_));
    if (std::exchange(burying_, true)) return;
  }
  for (;;) {
    std::vector<Ref<vfs::FileDescription>> some;
    Lock lock(grave_mutex_);
    burying_ = !grave_.empty();
    if (!burying_) return;
    some.swap(grave_);
  }
}

}  // namespace boxrun::net
