// AF_INET and AF_INET6 sockets that are connected to nobody: kinds, names, ports, options,
// readiness. All of it is the same whatever network the machine has.
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/guest/guest_test.h"

namespace {

constexpr int kDomains[] = {AF_INET, AF_INET6};
constexpr int kTypes[] = {SOCK_STREAM, SOCK_DGRAM};

// The wildcard address.
struct Any {
  sockaddr_in6 v6 = {};  // begins as a sockaddr_in does: family, port, zeros
  socklen_t size;

  explicit Any(int domain, uint16_t port = 0)
      : size(domain == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)) {
    v6.sin6_family = static_cast<sa_family_t>(domain);
    v6.sin6_port = htons(port);
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&v6); }
};

int make(int domain, int type, int protocol = 0) {
  return CHECK_OK(socket(domain, type, protocol));
}

Any name_of(int fd, int domain) {
  Any name(domain);
  CHECK_OK(getsockname(fd, reinterpret_cast<sockaddr*>(&name.v6), &name.size));
  return name;
}
uint16_t port_of(int fd, int domain) { return ntohs(name_of(fd, domain).v6.sin6_port); }

int bind_any(int fd, int domain, uint16_t port = 0) {
  const Any name(domain, port);
  return bind(fd, name.get(), name.size);
}

int option(int fd, int level, int name) {
  int value = -12345;
  socklen_t size = sizeof value;
  CHECK_OK(getsockopt(fd, level, name, &value, &size));
  CHECK_EQ(size, sizeof value);
  return value;
}
int set_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value);
}

short readiness(int fd) {
  pollfd poll_fd = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
  CHECK(poll(&poll_fd, 1, 0) >= 0);
  return poll_fd.revents;
}

}  // namespace

CASE(kinds_and_protocols) {
  for (const int domain : kDomains) {
    for (const int protocol : {0, static_cast<int>(IPPROTO_TCP)}) {
      const int fd = make(domain, SOCK_STREAM, protocol);
      CHECK_EQ(option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
      CHECK_EQ(option(fd, SOL_SOCKET, SO_DOMAIN), domain);
      CHECK_EQ(option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    }
    const int fd = make(domain, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
    CHECK_EQ(option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
    CHECK_ERRNO(socket(domain, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    CHECK_ERRNO(socket(domain, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
    CHECK_ERRNO(socket(domain, SOCK_STREAM, -1), EINVAL);
    CHECK_ERRNO(socket(domain, SOCK_STREAM, 300), EINVAL);
    CHECK_ERRNO(socket(domain, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
    CHECK_ERRNO(socket(domain, SOCK_RAW, 0), EPROTONOSUPPORT);
    if (!guest::has_capability(CAP_NET_RAW)) {
      CHECK_ERRNO(socket(domain, SOCK_RAW, IPPROTO_TCP), EPERM);
    }
    int pair[2];
    CHECK_ERRNO(socketpair(domain, SOCK_STREAM, 0, pair), EOPNOTSUPP);
    CHECK_ERRNO(socketpair(domain, SOCK_DGRAM, 0, pair), EOPNOTSUPP);
  }
}

CASE(names_and_ephemeral_ports) {
  for (const int domain : kDomains) {
    for (const int type : kTypes) {
      const int fd = make(domain, type);
      const Any unbound = name_of(fd, domain), none(domain);
      CHECK_EQ(unbound.size, none.size);
      CHECK_EQ(memcmp(&unbound.v6, &none.v6, none.size), 0);
      CHECK_OK(bind_any(fd, domain));
      const Any bound = name_of(fd, domain), expected(domain, port_of(fd, domain));
      CHECK_EQ(memcmp(&bound.v6, &expected.v6, expected.size), 0);
      CHECK(port_of(fd, domain) >= 1024);
      CHECK_ERRNO(bind_any(fd, domain), EINVAL);  // it has a name
      const int other = make(domain, type);
      CHECK_OK(bind_any(other, domain));
      CHECK(port_of(other, domain) != port_of(fd, domain));
      sockaddr_storage peer = {};
      socklen_t size = sizeof peer;
      CHECK_ERRNO(getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size), ENOTCONN);
    }
  }
}

CASE(addresses_that_are_none) {
  for (const int domain : kDomains) {
    for (const int type : kTypes) {
      const socklen_t least = domain == AF_INET ? 16 : 24;
      for (socklen_t size = 0; size < least; size++) {
        const int fd = make(domain, type);
        const Any name(domain);
        CHECK_ERRNO(bind(fd, name.get(), size), EINVAL);
        CHECK_ERRNO(connect(fd, name.get(), size), EINVAL);
        close(fd);
      }
      const int fd = make(domain, type);
      Any name(AF_UNIX);
      name.size = sizeof name.v6;
      CHECK_ERRNO(bind(fd, name.get(), name.size), EAFNOSUPPORT);
      CHECK_ERRNO(connect(fd, name.get(), name.size), EAFNOSUPPORT);
      CHECK_ERRNO(bind(fd, name.get(), 1000), EINVAL);
      CHECK_ERRNO(bind(fd, reinterpret_cast<const sockaddr*>(1), name.size), EFAULT);
    }
  }
  // Once AF_UNSPEC stood for AF_INET.
  Any unspecified(AF_UNSPEC);
  CHECK_OK(bind(make(AF_INET, SOCK_STREAM), unspecified.get(), sizeof(sockaddr_in)));
  CHECK_ERRNO(bind(make(AF_INET6, SOCK_STREAM), unspecified.get(), unspecified.size), EAFNOSUPPORT);
}

CASE(low_ports_are_for_the_privileged) {
  if (guest::has_capability(CAP_NET_BIND_SERVICE)) return;
  if (guest::read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start") == "0\n") {
    guest::skip("every port is for everybody here");
  }
  for (const int domain : kDomains) {
    CHECK_ERRNO(bind_any(make(domain, SOCK_STREAM), domain, 80), EACCES);
    CHECK_ERRNO(bind_any(make(domain, SOCK_DGRAM), domain, 80), EACCES);
  }
}

CASE(a_port_has_one_owner) {
  for (const int domain : kDomains) {
    for (const int type : kTypes) {
      for (const int how : {0, SO_REUSEADDR, SO_REUSEPORT}) {
        const int first = make(domain, type), second = make(domain, type);
        const int third = make(domain, type);
        if (how != 0) CHECK_OK(set_option(first, SOL_SOCKET, how, 1));
        if (how != 0) CHECK_OK(set_option(second, SOL_SOCKET, how, 1));
        CHECK_OK(bind_any(first, domain));
        const uint16_t port = port_of(first, domain);
        CHECK_ERRNO(bind_any(third, domain, port), EADDRINUSE);
        CHECK_EQ(port_of(third, domain), 0);
        if (how == 0) {
          CHECK_ERRNO(bind_any(second, domain, port), EADDRINUSE);
          CHECK_OK(close(first));
        }
        CHECK_OK(bind_any(second, domain, port));
        close(first), close(second), close(third);
      }
    }
  }
  // Each protocol has its own.
  const int stream = make(AF_INET, SOCK_STREAM);
  CHECK_OK(bind_any(stream, AF_INET));
  CHECK_OK(bind_any(make(AF_INET, SOCK_DGRAM), AF_INET, port_of(stream, AF_INET)));
}

CASE(only_one_of_them_listens) {
  for (const int domain : kDomains) {
    const int first = make(domain, SOCK_STREAM), second = make(domain, SOCK_STREAM);
    CHECK_OK(set_option(first, SOL_SOCKET, SO_REUSEADDR, 1));
    CHECK_OK(set_option(second, SOL_SOCKET, SO_REUSEADDR, 1));
    CHECK_OK(bind_any(first, domain));
    CHECK_OK(bind_any(second, domain, port_of(first, domain)));
    CHECK_OK(listen(first, 1));
    CHECK_ERRNO(listen(second, 1), EADDRINUSE);
    const int third = make(domain, SOCK_STREAM);
    CHECK_OK(set_option(third, SOL_SOCKET, SO_REUSEADDR, 1));
    CHECK_ERRNO(bind_any(third, domain, port_of(first, domain)), EADDRINUSE);
    CHECK_OK(close(first));
    CHECK_OK(listen(second, 1));
  }
}

CASE(both_families_share_ports) {
  for (const int type : kTypes) {
    const int v6 = make(AF_INET6, type);
    CHECK_OK(set_option(v6, IPPROTO_IPV6, IPV6_V6ONLY, 0));
    CHECK_OK(bind_any(v6, AF_INET6));
    const uint16_t port = port_of(v6, AF_INET6);
    CHECK_ERRNO(bind_any(make(AF_INET, type), AF_INET, port), EADDRINUSE);
    CHECK_ERRNO(set_option(v6, IPPROTO_IPV6, IPV6_V6ONLY, 1), EINVAL);  // too late
    const int only = make(AF_INET6, type);
    CHECK_OK(set_option(only, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    const int v4 = make(AF_INET, type);
    CHECK_OK(bind_any(v4, AF_INET));
    CHECK_OK(bind_any(only, AF_INET6, port_of(v4, AF_INET)));
  }
}

CASE(listening) {
  for (const int domain : kDomains) {
    const int fd = make(domain, SOCK_STREAM);
    CHECK_ERRNO(accept(fd, nullptr, nullptr), EINVAL);
    CHECK_EQ(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
    CHECK_OK(listen(fd, 5));
    CHECK_OK(listen(fd, 9));
    CHECK_EQ(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
    CHECK(port_of(fd, domain) != 0);
    CHECK_EQ(readiness(fd), 0);
    CHECK_OK(fcntl(fd, F_SETFL, O_NONBLOCK));
    CHECK_ERRNO(accept(fd, nullptr, nullptr), EAGAIN);
    char byte;
    CHECK_ERRNO(recv(fd, &byte, 1, 0), ENOTCONN);
    CHECK_ERRNO(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
    const Any other(domain, 9);
    CHECK_ERRNO(connect(fd, other.get(), other.size), EISCONN);
    int bytes = 0;
    CHECK_ERRNO(ioctl(fd, FIONREAD, &bytes), EINVAL);
    CHECK_OK(shutdown(fd, SHUT_WR));
    CHECK_EQ(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
    CHECK_OK(shutdown(fd, SHUT_RD));
    CHECK_EQ(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
    CHECK_ERRNO(accept(fd, nullptr, nullptr), EINVAL);
    CHECK_EQ(readiness(fd), POLLOUT | POLLHUP);
    const int datagrams = make(domain, SOCK_DGRAM);
    CHECK_ERRNO(listen(datagrams, 5), EOPNOTSUPP);
    CHECK_ERRNO(accept(datagrams, nullptr, nullptr), EOPNOTSUPP);
  }
}

CASE(a_waiting_accept_ends_with_the_listener) {
  const int fd = make(AF_INET, SOCK_STREAM);
  CHECK_OK(listen(fd, 1));
  const pid_t pid = guest::spawn([&] { CHECK_ERRNO(accept(fd, nullptr, nullptr), EINVAL); });
  guest::wait_until_blocked(pid);
  CHECK_OK(shutdown(fd, SHUT_RD));
  CHECK_EXIT(pid, 0);
}

CASE(a_waiting_accept_times_out) {
  const int fd = make(AF_INET, SOCK_STREAM);
  CHECK_OK(listen(fd, 1));
  const timeval soon = {0, 20000};
  CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
  CHECK_ERRNO(accept(fd, nullptr, nullptr), EAGAIN);
}

CASE(nobody_to_talk_to) {
  for (const int domain : kDomains) {
    char byte;
    int stream = make(domain, SOCK_STREAM);
    CHECK_ERRNO(recv(stream, &byte, 1, 0), ENOTCONN);
    CHECK_ERRNO(read(stream, &byte, 1), ENOTCONN);
    CHECK_ERRNO(recv(stream, &byte, 1, MSG_OOB), EINVAL);
    CHECK_ERRNO(send(stream, "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_KILLED(guest::spawn([&] { (void)!write(stream, "x", 1); }), SIGPIPE);
    CHECK_ERRNO(shutdown(stream, 3), EINVAL);
    const int datagrams = make(domain, SOCK_DGRAM);
    CHECK_ERRNO(recv(datagrams, &byte, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_ERRNO(send(datagrams, "x", 1, 0), EDESTADDRREQ);
    CHECK_ERRNO(write(datagrams, "x", 1), EDESTADDRREQ);
    const Any unix_name(AF_UNIX);
    CHECK_ERRNO(sendto(datagrams, "x", 1, 0, unix_name.get(), sizeof unix_name.v6),
                domain == AF_INET ? EAFNOSUPPORT : EINVAL);
    CHECK_ERRNO(sendto(datagrams, "x", 1, 0, Any(domain).get(), 8), EINVAL);
    for (const int fd : {stream, datagrams}) {
      CHECK_EQ(option(fd, SOL_SOCKET, SO_ERROR), 0);
      int bytes = -1;
      CHECK_OK(ioctl(fd, FIONREAD, &bytes));
      CHECK_EQ(bytes, 0);
      const Any nobody(AF_UNSPEC);
      CHECK_OK(connect(fd, nobody.get(), nobody.size));  // undoes a connection, if there is one
    }
  }
}

CASE(readiness_without_a_peer) {
  for (const int domain : kDomains) {
    const int stream = make(domain, SOCK_STREAM), datagrams = make(domain, SOCK_DGRAM);
    CHECK_EQ(readiness(stream), POLLOUT | POLLHUP);
    CHECK_EQ(readiness(datagrams), POLLOUT);
    const int epoll = CHECK_OK(epoll_create1(0));
    epoll_event event = {EPOLLIN | EPOLLOUT, {}};
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, stream, &event));
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 1);
    CHECK_EQ(event.events, EPOLLOUT | EPOLLHUP);
  }
}

CASE(shutdown_without_a_peer) {
  for (const int domain : kDomains) {
    char byte;
    for (const int type : kTypes) {
      const int fd = make(domain, type);
      CHECK_ERRNO(shutdown(fd, SHUT_RD), ENOTCONN);
      CHECK_EQ(recv(fd, &byte, 1, 0), 0);  // shut down it is all the same
      CHECK((readiness(fd) & (POLLIN | POLLRDHUP)) == (POLLIN | POLLRDHUP));
      CHECK_ERRNO(shutdown(fd, SHUT_WR), ENOTCONN);
      CHECK_EQ(readiness(fd), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
    }
    // Who waits for a datagram is woken.
    const int fd = make(domain, SOCK_DGRAM);
    const pid_t pid = guest::spawn([&] { CHECK_EQ(recv(fd, &byte, 1, 0), 0); });
    guest::wait_until_blocked(pid);
    CHECK_ERRNO(shutdown(fd, SHUT_RDWR), ENOTCONN);
    CHECK_EXIT(pid, 0);
  }
}

namespace {

struct Trial {
  int domain, type, level, name, value;
  int expected;  // what is read back; kRefused: EINVAL
};
constexpr int kRefused = -1000;

}  // namespace

CASE(options_are_kept) {
  const Trial trials[] = {
      {AF_INET, SOCK_STREAM, SOL_SOCKET, SO_REUSEADDR, 1, 1},
      {AF_INET, SOCK_STREAM, SOL_SOCKET, SO_KEEPALIVE, 7, 1},
      {AF_INET, SOCK_DGRAM, SOL_SOCKET, SO_BROADCAST, 1, 1},
      {AF_INET, SOCK_STREAM, SOL_SOCKET, SO_RCVBUF, 10000, 20000},
      {AF_INET, SOCK_STREAM, IPPROTO_IP, IP_TOS, 0x10, 0x10},
      {AF_INET, SOCK_STREAM, IPPROTO_IP, IP_TOS, 0xff, 0xfc},
      {AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_TOS, 0xff, 0xff},
      {AF_INET, SOCK_STREAM, IPPROTO_IP, IP_TTL, 5, 5},
      {AF_INET, SOCK_STREAM, IPPROTO_IP, IP_TTL, 0, kRefused},
      {AF_INET, SOCK_STREAM, IPPROTO_IP, IP_TTL, 256, kRefused},
      {AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_MTU_DISCOVER, 2, 2},
      {AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_MTU_DISCOVER, 6, kRefused},
      {AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_RECVERR, 1, 1},
      {AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_PKTINFO, 1, 1},
      {AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_MULTICAST_TTL, 255, 255},
      {AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_MULTICAST_LOOP, 0, 0},
      {AF_INET6, SOCK_STREAM, IPPROTO_IPV6, IPV6_V6ONLY, 2, 1},
      {AF_INET6, SOCK_STREAM, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 255, 255},
      {AF_INET6, SOCK_STREAM, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256, kRefused},
      {AF_INET6, SOCK_DGRAM, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 0, 0},
      {AF_INET6, SOCK_DGRAM, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, 1},
      {AF_INET6, SOCK_STREAM, IPPROTO_IPV6, IPV6_TCLASS, 0xff, 0xfc},
      {AF_INET6, SOCK_STREAM, IPPROTO_IPV6, IPV6_TCLASS, 256, kRefused},
      {AF_INET6, SOCK_STREAM, IPPROTO_IP, IP_TTL, 5, 5},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_NODELAY, 5, 1},
      {AF_INET6, SOCK_STREAM, IPPROTO_TCP, TCP_NODELAY, 1, 1},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_KEEPIDLE, 30, 30},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_KEEPIDLE, 0, kRefused},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_KEEPINTVL, 32768, kRefused},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_KEEPCNT, 127, 127},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_KEEPCNT, 128, kRefused},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_MAXSEG, 1000, 1000},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_MAXSEG, 87, kRefused},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5, 7},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_USER_TIMEOUT, 60000, 60000},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_USER_TIMEOUT, -1, kRefused},
      {AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_QUICKACK, 0, 0},
      {AF_INET, SOCK_DGRAM, IPPROTO_UDP, UDP_CORK, 1, 1},
  };
  for (const Trial& trial : trials) {
    const int fd = make(trial.domain, trial.type);
    const int result = set_option(fd, trial.level, trial.name, trial.value);
    if (trial.expected == kRefused) {
      CHECK_ERRNO(result, EINVAL);
    } else if (!CHECK_EQ(result, 0) ||
               !CHECK_EQ(option(fd, trial.level, trial.name), trial.expected)) {
      guest::print("level %d option %d value %d\n", trial.level, trial.name, trial.value);
    }
    close(fd);
  }
}

CASE(options_of_others) {
  const int stream = make(AF_INET, SOCK_STREAM), datagrams = make(AF_INET, SOCK_DGRAM);
  int value = 1;
  socklen_t size = sizeof value;
  CHECK_ERRNO(set_option(stream, IPPROTO_IPV6, IPV6_V6ONLY, 1), ENOPROTOOPT);
  CHECK_ERRNO(set_option(datagrams, IPPROTO_TCP, TCP_NODELAY, 1), ENOPROTOOPT);
  CHECK_ERRNO(getsockopt(datagrams, IPPROTO_TCP, TCP_NODELAY, &value, &size), EOPNOTSUPP);
  CHECK_ERRNO(set_option(stream, IPPROTO_UDP, UDP_CORK, 1), ENOPROTOOPT);
  CHECK_ERRNO(set_option(stream, IPPROTO_TCP, 9999, 1), ENOPROTOOPT);
  CHECK_ERRNO(getsockopt(stream, IPPROTO_TCP, 9999, &value, &size), ENOPROTOOPT);
  const char one = 1;
  CHECK_ERRNO(setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &one, 1), EINVAL);
  CHECK_OK(setsockopt(stream, IPPROTO_IP, IP_TTL, &one, 1));  // a byte will do here
  CHECK_EQ(option(stream, IPPROTO_IP, IP_TTL), 1);
}

CASE(options_before_anybody_sets_them) {
  for (const int domain : kDomains) {
    const int stream = make(domain, SOCK_STREAM);
    CHECK_EQ(option(stream, IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK_EQ(option(stream, IPPROTO_TCP, TCP_KEEPCNT), 9);
    CHECK_EQ(option(stream, IPPROTO_TCP, TCP_MAXSEG), 536);
    CHECK_EQ(option(stream, IPPROTO_IP, IP_TTL), 64);
    if (domain == AF_INET6) CHECK_EQ(option(stream, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 64);
    ucred peer = {1, 1, 1};
    socklen_t size = sizeof peer;
    CHECK_OK(getsockopt(stream, SOL_SOCKET, SO_PEERCRED, &peer, &size));
    CHECK(peer.pid == 0 && peer.uid == static_cast<uid_t>(-1));
  }
}
