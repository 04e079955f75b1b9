// AF_INET and AF_INET6 where no interface is up: what a program finds whose sandbox has no network.
// It holds natively, too, in a new network namespace, but for IPv6 addresses (EADDRNOTAVAIL there,
// because even the choice of a source address fails), and for bind to an address of IPv4, which a
// namespace allows until its first interface has been up.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tests/guest/guest_test.h"

namespace {

struct Name {
  sockaddr_storage storage = {};
  socklen_t size = 0;

  Name(const char* address, uint16_t port) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
      v4->sin_family = AF_INET;
      v4->sin_port = htons(port);
      size = sizeof *v4;
    } else {
      REQUIRE(inet_pton(AF_INET6, address, &v6->sin6_addr) == 1);
      v6->sin6_family = AF_INET6;
      v6->sin6_port = htons(port);
      size = sizeof *v6;
    }
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

int make(int domain, int type) { return CHECK_OK(socket(domain, type, 0)); }

int connect_to(int domain, int type, const char* address) {
  const Name to(address, 443);
  const int fd = make(domain, type);
  const int result = connect(fd, to.get(), to.size);
  const int error = errno;
  close(fd);
  errno = error;
  return result;
}

uint16_t port_of(int fd) {
  sockaddr_in name = {};  // the port is where an IPv6 address has it
  socklen_t size = sizeof name;
  CHECK_OK(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size));
  return ntohs(name.sin_port);
}

constexpr int kTypes[] = {SOCK_STREAM, SOCK_DGRAM};

}  // namespace

CASE(nobody_can_be_connected_to) {
  for (const int type : kTypes) {
    for (const char* address : {"203.0.113.9", "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1",
                                "224.0.0.1", "255.255.255.255"}) {
      CHECK_ERRNO(connect_to(AF_INET, type, address), ENETUNREACH);
    }
    for (const char* address : {"2001:db8::1", "::1", "::", "::ffff:203.0.113.9"}) {
      CHECK_ERRNO(connect_to(AF_INET6, type, address), ENETUNREACH);
    }
    CHECK_ERRNO(connect_to(AF_INET6, type, "fe80::1"), EINVAL);  // of which interface?
  }
}

CASE(a_non_blocking_connect_fails_at_once) {
  const int fd = CHECK_OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  const Name to("203.0.113.9", 443);
  CHECK_ERRNO(connect(fd, to.get(), to.size), ENETUNREACH);
  int error = -1;
  socklen_t size = sizeof error;
  CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
  CHECK_EQ(error, 0);
  pollfd poll_fd = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
  CHECK_EQ(poll(&poll_fd, 1, 0), 1);
  CHECK_EQ(poll_fd.revents, POLLOUT | POLLHUP);
}

CASE(datagrams_go_nowhere) {
  for (const auto& [domain, address] : {std::pair(AF_INET, "203.0.113.9"),
                                        {AF_INET, "127.0.0.1"},
                                        {AF_INET6, "2001:db8::1"},
                                        {AF_INET6, "::1"},
                                        {AF_INET6, "203.0.113.9"}}) {
    const int fd = make(domain, SOCK_DGRAM);
    Name to(address, 53);
    CHECK_ERRNO(sendto(fd, "x", 1, 0, to.get(), to.size), ENETUNREACH);
    CHECK(port_of(fd) != 0);  // sending takes a port first
    iovec data = {const_cast<char*>("x"), 1};
    msghdr message = {};
    message.msg_name = &to.storage;
    message.msg_namelen = to.size;
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    CHECK_ERRNO(sendmsg(fd, &message, 0), ENETUNREACH);
    const Name nowhere(address, 0);
    CHECK_ERRNO(sendto(fd, "x", 1, 0, nowhere.get(), nowhere.size), EINVAL);
    close(fd);
  }
}

CASE(fast_open_connects) {
  const int fd = make(AF_INET, SOCK_STREAM);
  const Name to("203.0.113.9", 443);
  CHECK_ERRNO(sendto(fd, "x", 1, MSG_FASTOPEN, to.get(), to.size), ENETUNREACH);
}

CASE(only_the_wildcard_address_is_ours) {
  for (const int type : kTypes) {
    for (const char* address : {"203.0.113.9", "10.0.0.1"}) {
      const Name name(address, 0);
      const int fd = make(AF_INET, type);
      CHECK_ERRNO(bind(fd, name.get(), name.size), EADDRNOTAVAIL);
      CHECK_EQ(port_of(fd), 0);
      close(fd);
    }
    for (const char* address : {"2001:db8::1", "::1", "::ffff:10.0.0.1"}) {
      const Name name(address, 0);
      const int fd = make(AF_INET6, type);
      CHECK_ERRNO(bind(fd, name.get(), name.size), EADDRNOTAVAIL);
      close(fd);
    }
  }
}

CASE(a_failed_connect_leaves_the_name) {
  const Name any("0.0.0.0", 0), to("203.0.113.9", 443);
  int fd = make(AF_INET, SOCK_STREAM);
  CHECK_OK(bind(fd, any.get(), any.size));
  const uint16_t port = port_of(fd);
  CHECK_ERRNO(connect(fd, to.get(), to.size), ENETUNREACH);
  CHECK_EQ(port_of(fd), port);
  fd = make(AF_INET, SOCK_STREAM);
  CHECK_ERRNO(connect(fd, to.get(), to.size), ENETUNREACH);
  CHECK_EQ(port_of(fd), 0);
  fd = make(AF_INET, SOCK_DGRAM);
  CHECK_ERRNO(connect(fd, to.get(), to.size), ENETUNREACH);
  CHECK(port_of(fd) != 0);
}
