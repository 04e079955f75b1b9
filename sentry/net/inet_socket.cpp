#include "sentry/net/inet_socket.h"

#include <linux/capability.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include <climits>
#include <cstring>
#include <string>
#include <utility>

#include "sentry/mm/user.h"
#include "sentry/net/inet_address.h"
#include "sentry/net/inet_options.h"

namespace boxrun::net {
namespace {

constexpr int kMaxProtocol = 262;                         // IPPROTO_MPTCP
constexpr uint16_t kFirstUnprivilegedPort = 1024;         // net.ipv4.ip_unprivileged_port_start
constexpr int kTcpSendBuffer = 16384;                     // net.ipv4.tcp_wmem, bytes
constexpr int kTcpReceiveBuffer = 131072;                 // net.ipv4.tcp_rmem, bytes
constexpr size_t kMaxDatagram = 65535;                    // bytes, headers included
constexpr Events kUdpWritable = kWritable | EPOLLWRBAND;  // datagram_poll
constexpr uint8_t kNoReceive = 1, kNoSend = 2;            // as in struct sock

class InetSocket final : public Socket {
 public:
  InetSocket(Ref<InetSystem> system, int domain, int type, int protocol, int flags,
             Ref<Credentials> credentials)
      : Socket(open_request(system->mount(), flags, std::move(credentials)),
               {domain, type, protocol}),
        system_(std::move(system)),
        inet_options_(domain, type),
        address_(InetAddress::any(domain)) {
    if (stream()) options().set_buffers(kTcpSendBuffer, kTcpReceiveBuffer);
    use_.type = type;
  }
  ~InetSocket() override {
    system_->give_up(use_);
    system_->socket_gone();
  }

  Result<void> bind(SocketCaller& caller, const Address& address) override;
  Result<void> listen(SocketCaller& caller, int backlog) override;
  Result<void> connect(SocketCaller& caller, const Address& address, WaitPlace& place) override;
  Result<Ref<Socket>> accept(SocketCaller& caller, int flags) override;
  Result<size_t> send(SocketCaller& caller, Outgoing& message, WaitPlace& place) override;
  Result<size_t> receive(Incoming& message) override;
  Result<void> shutdown(int how) override;
  Result<Address> name() override;
  Result<Address> peer_name() override { return Errno::kNotConn; }
  Errno take_error() override { return Errno::kOk; }

  Events ready() override;
  WaitQueue* queue() override { return &queue_; }
  Result<uint64_t> ioctl(uint32_t command, uint64_t arg, mm::MemoryManager& memory,
                         vfs::IoctlCaller& caller) override;

 private:
  bool stream() const { return type() == SOCK_STREAM; }
  bool listening() override {
    Lock lock(mutex_);
    return use_.listening;
  }
  Result<void> set_family_option(int level, int option, std::span<const std::byte> value) override;
  Result<std::vector<std::byte>> family_option(int level, int option) override {
    return inet_options_.get(level, option);
  }

  Result<InetAddress> parse_local(const Address& address) const;
  Result<InetAddress> parse_destination(const Address& address) const;
  Result<void> take_port_locked(uid_t owner, uint16_t port) REQUIRES(mutex_);
  // A port for a socket that has none.
  Result<void> autobind(const SocketCaller& caller) EXCLUDES(mutex_);
  void disconnect() EXCLUDES(mutex_);
  // Why `to` cannot be reached: ENETUNREACH, reported unless `to` is this host.
  static Errno unreachable(SocketCaller& caller, const InetAddress& to);

  const Ref<InetSystem> system_;
  InetOptions inet_options_;
  WaitQueue queue_;

  Mutex mutex_{Rank::kSocketNames};
  InetAddress address_ GUARDED_BY(mutex_);  // with a port that use_ has
  PortUse use_ GUARDED_BY(mutex_);
  bool port_chosen_ GUARDED_BY(mutex_) = false;  // by bind(2) (SOCK_BINDPORT_LOCK)
  uint8_t shutdown_ GUARDED_BY(mutex_) = 0;
};

// net/ipv4/af_inet.c: __inet_bind; net/ipv6/af_inet6.c: __inet6_bind. AF_UNSPEC is taken for
// AF_INET where the address is the wildcard.
Result<InetAddress> InetSocket::parse_local(const Address& address) const {
  auto parsed = parse_address(domain(), address);
  if (domain() == AF_INET && parsed.error() == Errno::kAfNoSupport &&
      family_of(address) == AF_UNSPEC) {
    sockaddr_in name;
    memcpy(&name, address.data(), sizeof name);
    if (name.sin_addr.s_addr == INADDR_ANY) return InetAddress::from(name);
  }
  const InetAddress wanted = TRY(parsed);
  if (domain() == AF_INET6) {
    if (IN6_IS_ADDR_MULTICAST(&wanted.address)) return Errno::kInval;
    if (wanted.is_v4() && inet_options_.v6_only()) return Errno::kInval;
  }
  // No interface is up, so that no address is ours.
  if (!wanted.is_any()) return Errno::kAddrNotAvail;
  return wanted;
}

Result<void> InetSocket::take_port_locked(uid_t owner, uint16_t port) {
  use_.port = port;
  use_.v4 = address_.is_v4() || (domain() == AF_INET6 && !inet_options_.v6_only());
  use_.v6 = !address_.is_v4();
  use_.reuse_address = options().reuse_address();
  use_.reuse_port = options().reuse_port();
  use_.owner = owner;
  const auto claimed = system_->claim(use_);
  if (!claimed.ok()) use_.port = 0;
  address_.port = use_.port;
  return claimed;
}

Result<void> InetSocket::bind(SocketCaller& caller, const Address& address) {
  const InetAddress wanted = TRY(parse_local(address));
  const Credentials& who = *caller.files.credentials;
  if (wanted.port != 0 && wanted.port < kFirstUnprivilegedPort &&
      !who.has_capability(CAP_NET_BIND_SERVICE)) {
    return Errno::kAcces;
  }
  Lock lock(mutex_);
  if (use_.port != 0) return Errno::kInval;
  address_ = wanted;
  if (const auto taken = take_port_locked(who.euid, wanted.port); !taken.ok()) {
    address_ = InetAddress::any(domain());
    return taken;
  }
  port_chosen_ = wanted.port != 0;
  return {};
}

Result<void> InetSocket::autobind(const SocketCaller& caller) {
  Lock lock(mutex_);
  return use_.port != 0 ? Result<void>() : take_port_locked(caller.files.credentials->euid, 0);
}

// net/ipv4/af_inet.c: inet_listen. Nobody ever comes, so that the backlog does not matter.
Result<void> InetSocket::listen(SocketCaller& caller, int) {
  if (!stream()) return Errno::kOpNotSupp;
  TRY(autobind(caller));
  Lock lock(mutex_);
  if (use_.listening) return {};
  return system_->start_listening(use_);
}

Result<Ref<Socket>> InetSocket::accept(SocketCaller&, int) {
  if (!stream()) return Errno::kOpNotSupp;
  return listening() ? Errno::kAgain : Errno::kInval;
}

// IPv6 datagram sockets take addresses of IPv4 as well (net/ipv6/datagram.c, net/ipv6/udp.c).
Result<InetAddress> InetSocket::parse_destination(const Address& address) const {
  const bool plain_v4 = !stream() && domain() == AF_INET6 && family_of(address) == AF_INET;
  const InetAddress to = TRY(parse_address(plain_v4 ? AF_INET : domain(), address));
  if (to.lacks_scope()) return Errno::kInval;
  return to;
}

Errno InetSocket::unreachable(SocketCaller& caller, const InetAddress& to) {
  if (!to.is_this_host() && caller.files.denials != nullptr) {
    const std::string text = to.text();
    caller.files.denials->denied({vfs::Denial::Kind::kConnect, text, Errno::kNetUnreach});
  }
  return Errno::kNetUnreach;
}

// net/ipv4/tcp.c: tcp_disconnect; net/ipv4/udp.c: __udp_disconnect. A port that bind(2) has not
// chosen is given back by datagram sockets only.
void InetSocket::disconnect() {
  {
    Lock lock(mutex_);
    shutdown_ = 0;
    if (use_.listening) system_->stop_listening(use_);
    if (!stream() && !port_chosen_) {
      system_->give_up(use_);
      address_.port = 0;
    }
  }
  queue_.notify(kAllEvents, INT_MAX);
}

// net/ipv4/af_inet.c: __inet_stream_connect, inet_dgram_connect.
Result<void> InetSocket::connect(SocketCaller& caller, const Address& address, WaitPlace&) {
  if (address.size() < sizeof(sa_family_t)) return Errno::kInval;
  if (family_of(address) == AF_UNSPEC) {
    disconnect();
    return {};
  }
  if (listening()) return Errno::kIsConn;
  if (!stream()) TRY(autobind(caller));
  return unreachable(caller, TRY(parse_destination(address)));
}

// net/ipv4/tcp.c: tcp_sendmsg_locked; net/ipv4/udp.c: udp_sendmsg; net/ipv6/udp.c: udpv6_sendmsg.
Result<size_t> InetSocket::send(SocketCaller& caller, Outgoing& message, WaitPlace& place) {
  if (stream()) {
    if ((message.flags & MSG_FASTOPEN) == 0) return Errno::kPipe;
    return connect(caller, message.to, place).error();
  }
  TRY(autobind(caller));
  if (domain() == AF_INET) {
    if (message.data.remaining() > kMaxDatagram) return Errno::kMsgSize;
    if ((message.flags & MSG_OOB) != 0) return Errno::kOpNotSupp;
  }
  Address to = message.to;
  // AF_UNSPEC is AF_INET to the one family, and no address to the other.
  if (family_of(to) == AF_UNSPEC && to.size() >= sizeof(sa_family_t)) {
    if (domain() == AF_INET6) return Errno::kDestAddrReq;
    const sa_family_t family = AF_INET;
    memcpy(to.data(), &family, sizeof family);
  }
  if (to.empty()) return Errno::kDestAddrReq;
  auto parsed = parse_destination(to);
  if (parsed.error() == Errno::kAfNoSupport && domain() == AF_INET6) return Errno::kInval;
  const InetAddress destination = TRY(parsed);
  if (destination.port == 0) return Errno::kInval;
  return unreachable(caller, destination);
}

// net/ipv4/tcp.c: tcp_recvmsg_locked; net/core/datagram.c: __skb_wait_for_more_packets.
Result<size_t> InetSocket::receive(Incoming& message) {
  message.ended = true;
  if ((message.flags & MSG_ERRQUEUE) != 0) return Errno::kAgain;
  Lock lock(mutex_);
  const bool over = (shutdown_ & kNoReceive) != 0;
  if (stream()) {
    if (use_.listening) return Errno::kNotConn;
    if ((message.flags & MSG_OOB) != 0) return Errno::kInval;
    return over ? Result<size_t>(0) : Errno::kNotConn;
  }
  // Only who would wait is told that nothing will come.
  return over && (message.flags & MSG_DONTWAIT) == 0 ? Result<size_t>(0) : Errno::kAgain;
}

// net/ipv4/af_inet.c: inet_shutdown. Who is not connected gets an error, but is shut down all the
// same, and those who poll are woken; a listener goes back to where it was before listen(2).
Result<void> InetSocket::shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno::kInval;
  if (listening()) {
    if (how != SHUT_WR) disconnect();
    return {};
  }
  {
    Lock lock(mutex_);
    shutdown_ |= static_cast<uint8_t>(how + 1);
  }
  queue_.notify(kAllEvents, INT_MAX);
  return Errno::kNotConn;
}

Result<Address> InetSocket::name() {
  Lock lock(mutex_);
  return address_.to_sockaddr(domain());
}

Result<void> InetSocket::set_family_option(int level, int option,
                                           std::span<const std::byte> value) {
  if (domain() == AF_INET6 && level == IPPROTO_IPV6 && option == IPV6_V6ONLY) {
    Lock lock(mutex_);
    if (use_.port != 0) return Errno::kInval;
    return inet_options_.set(level, option, value);
  }
  return inet_options_.set(level, option, value);
}

// net/ipv4/tcp.c: tcp_poll; net/core/datagram.c: datagram_poll.
Events InetSocket::ready() {
  Lock lock(mutex_);
  if (use_.listening) return 0;
  Events events = stream() ? kWritable | kHangup : kUdpWritable;
  if ((shutdown_ & kNoReceive) != 0) events |= kReadable | kReadHangup;
  if (shutdown_ == (kNoReceive | kNoSend)) events |= kHangup;
  return events;
}

Result<uint64_t> InetSocket::ioctl(uint32_t command, uint64_t arg, mm::MemoryManager& memory,
                                   vfs::IoctlCaller& caller) {
  if (command != FIONREAD && command != SIOCOUTQ) {
    return FileDescription::ioctl(command, arg, memory, caller);
  }
  if (listening()) return Errno::kInval;
  TRY(memory.write(mm::UserOut<int32_t>{arg}, 0));
  return uint64_t{0};
}

// The protocol that `type` has in `domain`, or the error of who asks for another one
// (net/ipv4/af_inet.c: inet_create, net/ipv6/af_inet6.c: inet6_create).
Result<int> check_protocol(int domain, int type, int protocol, const Credentials& who) {
  if (protocol < 0 || protocol > kMaxProtocol) return Errno::kInval;
  switch (type) {
    case SOCK_STREAM:
      if (protocol == 0 || protocol == IPPROTO_TCP) return IPPROTO_TCP;
      return Errno::kProtoNoSupport;
    case SOCK_DGRAM:
      if (protocol == 0 || protocol == IPPROTO_UDP) return IPPROTO_UDP;
      // net.ipv4.ping_group_range lets no group send pings.
      if (protocol == (domain == AF_INET ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6})) {
        return Errno::kAcces;
      }
      return Errno::kProtoNoSupport;
    case SOCK_RAW:
      if (protocol != 0 && !who.has_capability(CAP_NET_RAW)) return Errno::kPerm;
      return Errno::kProtoNoSupport;
    default:
      return Errno::kSockTNoSupport;
  }
}

}  // namespace

Result<Ref<Socket>> create_inet_socket(const Ref<InetSystem>& system, int domain, int type,
                                       int protocol, int flags, Ref<Credentials> credentials) {
  const int known = TRY(check_protocol(domain, type, protocol, *credentials));
  TRY(system->socket_made());
  return Ref<Socket>(
      make_ref<InetSocket>(system, domain, type, known, flags, std::move(credentials)));
}

}  // namespace boxrun::net
