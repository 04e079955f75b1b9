#include "sentry/net/inet_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "src/base/bytes.h"

namespace boxrun::net {
namespace {

// include/linux/ipv6.h: SIN6_LEN_RFC2133. Programs of old leave out the scope.
constexpr size_t kShortSockaddr6 = offsetof(sockaddr_in6, sin6_scope_id);
constexpr size_t kV4Offset = 12;  // of an IPv4 address in the IPv6 address that stands for it

in_addr v4_part(const in6_addr& address) {
  in_addr part;
  memcpy(&part, &address.s6_addr[kV4Offset], sizeof part);
  return part;
}

template <class T>
Address address_bytes(const T& name) {
  const auto bytes = bytes_of(name);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

InetAddress InetAddress::any(int domain) {
  return domain == AF_INET ? from(sockaddr_in{}) : InetAddress{};
}

InetAddress InetAddress::from(const sockaddr_in& from) {
  InetAddress to;
  to.address.s6_addr[10] = to.address.s6_addr[11] = 0xff;
  memcpy(&to.address.s6_addr[kV4Offset], &from.sin_addr, sizeof from.sin_addr);
  to.port = ntohs(from.sin_port);
  return to;
}

InetAddress InetAddress::from(const sockaddr_in6& from) {
  return {from.sin6_addr, ntohs(from.sin6_port), from.sin6_scope_id};
}

bool InetAddress::is_any() const {
  return is_v4() ? v4_part(address).s_addr == INADDR_ANY : IN6_IS_ADDR_UNSPECIFIED(&address);
}

bool InetAddress::is_this_host() const {
  if (is_any()) return true;
  return is_v4() ? address.s6_addr[kV4Offset] == IN_LOOPBACKNET : IN6_IS_ADDR_LOOPBACK(&address);
}

Address InetAddress::to_sockaddr(int domain) const {
  if (domain == AF_INET) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr = v4_part(address);
    return address_bytes(name);
  }
  sockaddr_in6 name{};
  name.sin6_family = AF_INET6;
  name.sin6_port = htons(port);
  name.sin6_addr = address;
  name.sin6_scope_id = scope;
  return address_bytes(name);
}

std::string InetAddress::text() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (is_v4()) {
    const in_addr part = v4_part(address);
    inet_ntop(AF_INET, &part, text, sizeof text);
    return fmt::format("{}:{}", text, port);
  }
  inet_ntop(AF_INET6, &address, text, sizeof text);
  return fmt::format("[{}]:{}", text, port);
}

Result<InetAddress> parse_address(int domain, const Address& address) {
  if (address.size() < (domain == AF_INET ? sizeof(sockaddr_in) : kShortSockaddr6)) {
    return Errno::kInval;
  }
  if (family_of(address) != domain) return Errno::kAfNoSupport;
  if (domain == AF_INET) {
    sockaddr_in name;
    memcpy(&name, address.data(), sizeof name);
    return InetAddress::from(name);
  }
  sockaddr_in6 name{};
  memcpy(&name, address.data(), std::min(sizeof name, address.size()));
  return InetAddress::from(name);
}

}  // namespace boxrun::net
