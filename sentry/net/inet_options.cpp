#include "sentry/net/inet_options.h"

#include <linux/in6.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <climits>
#include <optional>

#include "sentry/net/socket_options.h"

namespace boxrun::net {
namespace {

constexpr int kDefaultTtl = 64;   // net.ipv4.ip_default_ttl
constexpr int kDefaultMss = 536;  // TCP_MSS_DEFAULT: of a socket without a peer
constexpr int kFinTimeout = 60;   // net.ipv4.tcp_fin_timeout, seconds
constexpr int kMaxFinTimeout = 120;
constexpr int kMaxRetransmitTimeout = 120;  // TCP_RTO_MAX, seconds

// What becomes of the number that a program gives; none: EINVAL.
using Check = std::optional<int> (*)(int);

std::optional<int> flag(int value) { return value != 0; }
std::optional<int> any_number(int value) { return value; }

template <int kLeast, int kMost>
std::optional<int> range(int value) {
  if (value < kLeast || value > kMost) return std::nullopt;
  return value;
}
// -1 stands for the default.
template <int kLeast, int kMost, int kDefault>
std::optional<int> range_or_default(int value) {
  return value == -1 ? kDefault : range<kLeast, kMost>(value);
}

// The two lowest bits of the traffic class of a stream are the kernel's (INET_ECN_MASK).
template <int kBits>
std::optional<int> traffic_class_v4(int value) {
  return value & kBits;
}
template <int kBits>
std::optional<int> traffic_class_v6(int value) {
  const auto checked = range_or_default<0, 255, 0>(value);
  return checked ? std::optional(*checked & kBits) : std::nullopt;
}

std::optional<int> segment_size(int value) {
  return value == 0 ? kDefaultMss : range<88, 32767>(value);
}

std::optional<int> fin_timeout(int value) {
  if (value < 0) return -1;
  return value == 0 ? kFinTimeout : std::min(value, kMaxFinTimeout);
}

// TCP_DEFER_ACCEPT is kept as a number of retransmissions, and read back as their time
// (net/ipv4/tcp.c: secs_to_retrans, retrans_to_secs).
std::optional<int> defer_accept(int seconds) {
  if (seconds <= 0) return 0;
  int period = 1, timeout = 1;
  for (int tries = 1; seconds > period && tries < 255; tries++) {
    timeout = std::min(timeout * 2, kMaxRetransmitTimeout);
    period += timeout;
  }
  return period;
}

// Whether IPv4's old habit holds: a value that is shorter than an int is one byte.
enum class Width : uint8_t { kInt, kByteOrInt };
constexpr int kEither = 0;

struct Rule {
  int level, option;
  int type;  // SOCK_STREAM or SOCK_DGRAM, or kEither
  int initial;
  Check check;
  Width width = Width::kInt;
};

constexpr Rule kRules[] = {
    {IPPROTO_IP, IP_TOS, SOCK_STREAM, 0, traffic_class_v4<0xfc>, Width::kByteOrInt},
    {IPPROTO_IP, IP_TOS, SOCK_DGRAM, 0, traffic_class_v4<0xff>, Width::kByteOrInt},
    {IPPROTO_IP, IP_TTL, kEither, kDefaultTtl, range_or_default<1, 255, kDefaultTtl>,
     Width::kByteOrInt},
    {IPPROTO_IP, IP_PKTINFO, kEither, 0, flag, Width::kByteOrInt},
    {IPPROTO_IP, IP_MTU_DISCOVER, kEither, IP_PMTUDISC_WANT, range<0, 5>, Width::kByteOrInt},
    {IPPROTO_IP, IP_RECVERR, kEither, 0, flag, Width::kByteOrInt},
    {IPPROTO_IP, IP_RECVTTL, kEither, 0, flag, Width::kByteOrInt},
    {IPPROTO_IP, IP_RECVTOS, kEither, 0, flag, Width::kByteOrInt},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, kEither, 0, flag, Width::kByteOrInt},
    {IPPROTO_IP, IP_MULTICAST_TTL, SOCK_DGRAM, 1, range_or_default<0, 255, 1>, Width::kByteOrInt},
    {IPPROTO_IP, IP_MULTICAST_LOOP, kEither, 1, flag, Width::kByteOrInt},
    {IPPROTO_IPV6, IPV6_V6ONLY, kEither, 0, flag},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, kEither, kDefaultTtl, range_or_default<0, 255, kDefaultTtl>},
    {IPPROTO_IPV6, IPV6_MULTICAST_HOPS, SOCK_DGRAM, 1, range_or_default<0, 255, 1>},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, kEither, 1, range<0, 1>},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, kEither, IPV6_PMTUDISC_WANT, range<0, 5>},
    {IPPROTO_IPV6, IPV6_RECVERR, kEither, 0, flag},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, kEither, 0, flag},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, kEither, 0, flag},
    {IPPROTO_IPV6, IPV6_RECVTCLASS, kEither, 0, flag},
    {IPPROTO_IPV6, IPV6_TCLASS, SOCK_STREAM, 0, traffic_class_v6<0xfc>},
    {IPPROTO_IPV6, IPV6_TCLASS, SOCK_DGRAM, 0, traffic_class_v6<0xff>},
    {IPPROTO_TCP, TCP_NODELAY, SOCK_STREAM, 0, flag},
    {IPPROTO_TCP, TCP_MAXSEG, SOCK_STREAM, kDefaultMss, segment_size},
    {IPPROTO_TCP, TCP_CORK, SOCK_STREAM, 0, flag},
    {IPPROTO_TCP, TCP_KEEPIDLE, SOCK_STREAM, 7200, range<1, 32767>},
    {IPPROTO_TCP, TCP_KEEPINTVL, SOCK_STREAM, 75, range<1, 32767>},
    {IPPROTO_TCP, TCP_KEEPCNT, SOCK_STREAM, 9, range<1, 127>},
    {IPPROTO_TCP, TCP_SYNCNT, SOCK_STREAM, 6, range<1, 127>},
    {IPPROTO_TCP, TCP_LINGER2, SOCK_STREAM, kFinTimeout, fin_timeout},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, SOCK_STREAM, 0, defer_accept},
    {IPPROTO_TCP, TCP_QUICKACK, SOCK_STREAM, 1, flag},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, SOCK_STREAM, 0, range<0, INT_MAX>},
    {IPPROTO_TCP, TCP_FASTOPEN, SOCK_STREAM, 0, range<0, INT_MAX>},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, SOCK_STREAM, 0, any_number},
    {IPPROTO_UDP, UDP_CORK, SOCK_DGRAM, 0, flag},
};
static_assert(std::size(kRules) == InetOptions::kCount);

const Rule* find_rule(int type, int level, int option) {
  const auto* found = std::ranges::find_if(kRules, [&](const Rule& rule) {
    return rule.level == level && rule.option == option &&
           (rule.type == kEither || rule.type == type);
  });
  return found == std::end(kRules) ? nullptr : found;
}

Result<int> number_in(const Rule& rule, std::span<const std::byte> value) {
  if (rule.width == Width::kInt || value.size() >= sizeof(int)) return int_option(value);
  return value.empty() ? 0 : static_cast<int>(value[0]);
}

}  // namespace

InetOptions::InetOptions(int domain, int type) : domain_(domain), type_(type) {
  for (size_t i = 0; i < kCount; i++) values_[i].store(kRules[i].initial);
}

bool InetOptions::has_level(int level) const {
  switch (level) {
    case IPPROTO_IP:
      return true;  // of IPv6 sockets, too: for what they do with mapped addresses
    case IPPROTO_IPV6:
      return domain_ == AF_INET6;
    case IPPROTO_TCP:
      return type_ == SOCK_STREAM;
    case IPPROTO_UDP:
      return type_ == SOCK_DGRAM;
    default:
      return false;
  }
}

Result<void> InetOptions::set(int level, int option, std::span<const std::byte> value) {
  const Rule* rule = has_level(level) ? find_rule(type_, level, option) : nullptr;
  if (rule == nullptr) return Errno::kNoProtoOpt;
  const std::optional<int> number = rule->check(TRY(number_in(*rule, value)));
  if (!number) return Errno::kInval;
  values_[static_cast<size_t>(rule - kRules)].store(*number, std::memory_order_relaxed);
  return {};
}

Result<std::vector<std::byte>> InetOptions::get(int level, int option) const {
  // net/ipv4/ip_sockglue.c: do_ip_getsockopt answers for levels that are not its own.
  if (!has_level(level)) return domain_ == AF_INET ? Errno::kOpNotSupp : Errno::kNoProtoOpt;
  const Rule* rule = find_rule(type_, level, option);
  if (rule == nullptr) return Errno::kNoProtoOpt;
  return option_bytes(values_[static_cast<size_t>(rule - kRules)].load(std::memory_order_relaxed));
}

bool InetOptions::v6_only() const {
  const Rule* rule = find_rule(type_, IPPROTO_IPV6, IPV6_V6ONLY);
  return values_[static_cast<size_t>(rule - kRules)].load(std::memory_order_relaxed) != 0;
}

}  // namespace boxrun::net
