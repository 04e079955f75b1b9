// Addresses of AF_INET and AF_INET6 (ip(7), ipv6(7)) as this kernel handles them: one form for
// both.
#pragma once
#include <netinet/in.h>

#include <array>
#include <cstdint>
#include <string>

#include "sentry/net/socket.h"
#include "src/base/result.h"

namespace boxrun::net {

// An address of IPv6, or of IPv4 mapped into it (::ffff:a.b.c.d), and a port.
struct InetAddress {
  in6_addr address{};  // all zero: any address of IPv6
  uint16_t port = 0;   // host byte order
  uint32_t scope = 0;

  static InetAddress any(int domain);
  static InetAddress from(const sockaddr_in& from);
  static InetAddress from(const sockaddr_in6& from);

  bool is_v4() const { return IN6_IS_ADDR_V4MAPPED(&address); }
  bool is_any() const;
  // 127.0.0.0/8, ::1, and the wildcards, which mean this host when they are a destination.
  bool is_this_host() const;
  // fe80::/10 says nothing without the interface that it belongs to.
  bool lacks_scope() const { return IN6_IS_ADDR_LINKLOCAL(&address) && scope == 0; }

  // As a socket of `domain` shows it.
  Address to_sockaddr(int domain) const;
  // "203.0.113.9:443", "[2001:db8::1]:53".
  std::string text() const;
};

// What a socket of `domain` may be bound to, and connect to: EINVAL when it is too short,
// EAFNOSUPPORT. For AF_UNSPEC see the callers.
Result<InetAddress> parse_address(int domain, const Address& address);

}  // namespace boxrun::net
