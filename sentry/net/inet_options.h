#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/result.h"

namespace boxrun::net {

// Options of the levels IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP and IPPROTO_UDP that are numbers and
// no more (ip(7), ipv6(7), tcp(7), udp(7)): checked as Linux checks them, kept, and read back.
// Any thread.
class InetOptions {
 public:
  static constexpr size_t kCount = 36;

  InetOptions(int domain, int type);

  // ENOPROTOOPT, EINVAL.
  Result<void> set(int level, int option, std::span<const std::byte> value);
  // ENOPROTOOPT; EOPNOTSUPP for a level that the socket does not have.
  Result<std::vector<std::byte>> get(int level, int option) const;

  bool v6_only() const;

 private:
  bool has_level(int level) const;

  const int domain_, type_;
  std::array<std::atomic<int>, kCount> values_;
};

}  // namespace boxrun::net
