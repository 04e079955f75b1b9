// AF_UNIX sockets as programs of one machine use them: stream, datagram, sequenced packets, names.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "tests/guest/guest_test.h"
#include "tests/guest/unix_socket.h"

using namespace guest_unix;

CASE(stream_server_and_client) {
  Address address("server");
  int server = make_socket(SOCK_STREAM);
  CHECK_OK(bind(server, address.get(), address.length));
  struct stat info = {};
  CHECK_OK(stat("server", &info));
  CHECK(S_ISSOCK(info.st_mode));
  int early = make_socket(SOCK_STREAM);
  CHECK_ERRNO(connect(early, address.get(), address.length), ECONNREFUSED);
  CHECK_OK(listen(server, 5));
  pid_t pid = guest::spawn([&] {
    int client = make_socket(SOCK_STREAM);
    CHECK_OK(connect(client, address.get(), address.length));
    CHECK_EQ(write(client, "question", 8), 8);
    char reply[16] = {};
    CHECK_EQ(read(client, reply, sizeof reply), 6);
    CHECK_EQ(std::string(reply), "answer");
    CHECK_EQ(read(client, reply, sizeof reply), 0);
  });
  int connection = CHECK_OK(accept4(server, nullptr, nullptr, SOCK_CLOEXEC));
  CHECK_EQ(fcntl(connection, F_GETFD), FD_CLOEXEC);
  char text[16] = {};
  CHECK_EQ(read(connection, text, sizeof text), 8);
  CHECK_EQ(std::string(text), "question");
  CHECK_EQ(write(connection, "answer", 6), 6);
  close(connection);
  CHECK_EXIT(pid, 0);
  int again = make_socket(SOCK_STREAM);
  CHECK_ERRNO(bind(again, address.get(), address.length), EADDRINUSE);
  close(server);
  CHECK_ERRNO(connect(again, address.get(), address.length), ECONNREFUSED);
  Address missing("missing");
  CHECK_ERRNO(connect(again, missing.get(), missing.length), ENOENT);
}

CASE(abstract_names) {
  Address address(std::string("\0boxrun-guest-test", 18));
  int server = make_socket(SOCK_STREAM);
  CHECK_OK(bind(server, address.get(), address.length));
  CHECK_OK(listen(server, 1));
  int client = make_socket(SOCK_STREAM);
  CHECK_OK(connect(client, address.get(), address.length));
  int connection = CHECK_OK(accept(server, nullptr, nullptr));
  sockaddr_un name = {};
  socklen_t length = sizeof name;
  CHECK_OK(getpeername(client, reinterpret_cast<sockaddr*>(&name), &length));
  CHECK_EQ(length, address.length);
  CHECK_EQ(memcmp(name.sun_path, address.name.sun_path, 18), 0);
  length = sizeof name;
  CHECK_OK(getsockname(client, reinterpret_cast<sockaddr*>(&name), &length));
  CHECK_EQ(length, sizeof(sa_family_t));  // never bound
  close(connection);
}

CASE(datagrams_keep_their_boundaries) {
  int pair[2];
  make_pair(SOCK_DGRAM, pair);
  CHECK_EQ(send(pair[0], "one", 3, 0), 3);
  CHECK_EQ(send(pair[0], "", 0, 0), 0);
  CHECK_EQ(send(pair[0], "three", 5, 0), 5);
  char buffer[16];
  CHECK_EQ(recv(pair[1], buffer, sizeof buffer, 0), 3);
  CHECK_EQ(recv(pair[1], buffer, sizeof buffer, 0), 0);
  CHECK_EQ(recv(pair[1], buffer, 2, MSG_TRUNC), 5);
  CHECK_ERRNO(recv(pair[1], buffer, 1, MSG_DONTWAIT), EAGAIN);
}

CASE(datagrams_between_names) {
  Address a("a"), b("b");
  int first = make_socket(SOCK_DGRAM), second = make_socket(SOCK_DGRAM);
  CHECK_OK(bind(first, a.get(), a.length));
  CHECK_OK(bind(second, b.get(), b.length));
  CHECK_EQ(sendto(first, "hello", 5, 0, b.get(), b.length), 5);
  char buffer[16];
  sockaddr_un from = {};
  socklen_t length = sizeof from;
  CHECK_EQ(recvfrom(second, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &length),
           5);
  CHECK_EQ(std::string(from.sun_path), "a");
  CHECK_ERRNO(send(first, "x", 1, 0), ENOTCONN);
  CHECK_OK(connect(first, b.get(), b.length));
  CHECK_EQ(send(first, "x", 1, 0), 1);
  close(second);
  CHECK_ERRNO(send(first, "x", 1, 0), ECONNREFUSED);
}

CASE(sequenced_packets) {
  int pair[2];
  make_pair(SOCK_SEQPACKET, pair);
  CHECK_EQ(send(pair[0], "packet", 6, 0), 6);
  char buffer[16];
  CHECK_EQ(recv(pair[1], buffer, 3, 0), 3);
  CHECK_ERRNO(recv(pair[1], buffer, 3, MSG_DONTWAIT), EAGAIN);  // the rest is gone
  close(pair[0]);
  CHECK_EQ(recv(pair[1], buffer, 3, 0), 0);
}

CASE(shutdown_and_broken_pipes) {
  int pair[2];
  make_pair(SOCK_STREAM, pair);
  CHECK_OK(shutdown(pair[0], SHUT_WR));
  char byte;
  CHECK_EQ(read(pair[1], &byte, 1), 0);
  CHECK_ERRNO(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
  CHECK_EQ(write(pair[1], "y", 1), 1);
  CHECK_EQ(read(pair[0], &byte, 1), 1);
  close(pair[0]);
  CHECK_ERRNO(send(pair[1], "x", 1, MSG_NOSIGNAL), EPIPE);
  pid_t pid = guest::spawn([&] { (void)!write(pair[1], "x", 1); });
  CHECK_KILLED(pid, SIGPIPE);
}

CASE(unread_data_resets_the_peer) {
  int pair[2];
  make_pair(SOCK_STREAM, pair);
  CHECK_EQ(write(pair[0], "unread", 6), 6);
  close(pair[1]);
  char byte;
  CHECK_ERRNO(read(pair[0], &byte, 1), ECONNRESET);
  CHECK_EQ(read(pair[0], &byte, 1), 0);
}

CASE(peek_and_waitall) {
  int pair[2];
  make_pair(SOCK_STREAM, pair);
  CHECK_EQ(write(pair[0], "abcdef", 6), 6);
  char buffer[16] = {};
  CHECK_EQ(recv(pair[1], buffer, 3, MSG_PEEK), 3);
  CHECK_EQ(recv(pair[1], buffer, 6, MSG_WAITALL), 6);
  CHECK_EQ(std::string(buffer), "abcdef");
  int available = -1;
  CHECK_EQ(write(pair[0], "12", 2), 2);
  CHECK_OK(ioctl(pair[1], FIONREAD, &available));
  CHECK_EQ(available, 2);
}

CASE(sequenced_packets_of_a_connection) {
  Address address("server");
  int server = make_socket(SOCK_SEQPACKET);
  CHECK_OK(bind(server, address.get(), address.length));
  CHECK_OK(listen(server, 1));
  int stream = make_socket(SOCK_STREAM), client = make_socket(SOCK_SEQPACKET);
  CHECK_ERRNO(connect(stream, address.get(), address.length), EPROTOTYPE);
  CHECK_ERRNO(send(client, "x", 1, MSG_NOSIGNAL), ENOTCONN);
  CHECK_OK(connect(client, address.get(), address.length));
  int connection = CHECK_OK(accept(server, nullptr, nullptr));
  CHECK_EQ(send(client, "first", 5, 0), 5);
  CHECK_EQ(send(client, "second", 6, 0), 6);
  Message in(3);
  CHECK_EQ(recvmsg(connection, &in.header, 0), 3);
  CHECK_EQ(in.header.msg_flags & MSG_TRUNC, MSG_TRUNC);
  char buffer[16];
  CHECK_EQ(read(connection, buffer, sizeof buffer), 6);
  CHECK_OK(shutdown(client, SHUT_WR));
  CHECK_EQ(read(connection, buffer, sizeof buffer), 0);
  CHECK_EQ(send(connection, "back", 4, 0), 4);
  CHECK_EQ(read(client, buffer, sizeof buffer), 4);
  close(client);
  CHECK_ERRNO(send(connection, "x", 1, MSG_NOSIGNAL), EPIPE);
}

CASE(epoll_watches_sockets) {
  int epoll = epoll_create1(0);
  const auto watch = [&](int fd) {
    epoll_event event = {};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
  };
  const auto ready = [&]() -> uint32_t {
    epoll_event event = {};
    return epoll_wait(epoll, &event, 1, 0) == 1 ? event.events : 0;
  };
  int pair[2];
  make_pair(SOCK_STREAM, pair);
  watch(pair[0]);
  CHECK_EQ(ready(), EPOLLOUT);
  CHECK_EQ(ready(), 0);
  CHECK_EQ(write(pair[1], "x", 1), 1);
  CHECK_EQ(ready(), EPOLLIN | EPOLLOUT);
  CHECK_OK(shutdown(pair[1], SHUT_WR));
  CHECK_EQ(ready(), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
  close(pair[1]);
  CHECK_EQ(ready(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP);
  CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_DEL, pair[0], nullptr));
  Address address("server");
  int server = make_socket(SOCK_STREAM);
  CHECK_OK(bind(server, address.get(), address.length));
  CHECK_OK(listen(server, 1));
  watch(server);
  CHECK_EQ(ready(), 0);
  int client = make_socket(SOCK_STREAM);
  CHECK_OK(connect(client, address.get(), address.length));
  CHECK_EQ(ready(), EPOLLIN);
}

CASE(options) {
  int fd = make_socket(SOCK_STREAM, SOCK_NONBLOCK | SOCK_CLOEXEC);
  CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  int value = 0;
  socklen_t length = sizeof value;
  CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length));
  CHECK_EQ(value, SOCK_STREAM);
  CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &length));
  CHECK_EQ(value, AF_UNIX);
  CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length));
  CHECK_EQ(value, 0);
  CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length));
  CHECK_EQ(value, 0);
  CHECK_ERRNO(listen(fd, 1), EINVAL);  // not bound
  CHECK_ERRNO(accept(fd, nullptr, nullptr), EINVAL);
  CHECK_ERRNO(socket(AF_UNIX, 77, 0), EINVAL);
  CHECK_ERRNO(socket(99, SOCK_STREAM, 0), EAFNOSUPPORT);
  CHECK_ERRNO(getsockopt(0, SOL_SOCKET, SO_TYPE, &value, &length), ENOTSOCK);
  char byte;
  CHECK_ERRNO(recv(fd, &byte, 1, 0), EINVAL);
  CHECK_ERRNO(send(fd, &byte, 1, MSG_NOSIGNAL), ENOTCONN);
}

CASE(backpressure) {
  int pair[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
  std::string data(4096, 'x');
  size_t sent = 0;
  ssize_t written;
  while ((written = write(pair[0], data.data(), data.size())) > 0)
    sent += static_cast<size_t>(written);
  CHECK_EQ(errno, EAGAIN);
  pollfd entry = {pair[0], POLLOUT, 0};
  CHECK_EQ(poll(&entry, 1, 0), 0);
  size_t received = 0;
  while ((written = read(pair[1], data.data(), data.size())) > 0)
    received += static_cast<size_t>(written);
  CHECK_EQ(received, sent);
  CHECK_EQ(poll(&entry, 1, 0), 1);
}

CASE(many_datagrams_in_one_call) {
  int pair[2];
  make_pair(SOCK_DGRAM, pair);
  char out[3] = {'a', 'b', 'c'};
  iovec from[3] = {{&out[0], 1}, {&out[1], 1}, {&out[2], 1}};
  mmsghdr messages[4] = {};
  for (int i = 0; i < 3; i++) messages[i].msg_hdr = {nullptr, 0, &from[i], 1, nullptr, 0, 0};
  CHECK_EQ(sendmmsg(pair[0], messages, 3, 0), 3);
  CHECK_EQ(messages[2].msg_len, 1);
  char in[4][8] = {};
  iovec to[4];
  for (int i = 0; i < 4; i++) {
    to[i] = {in[i], sizeof in[i]};
    messages[i].msg_hdr = {nullptr, 0, &to[i], 1, nullptr, 0, 0};
  }
  CHECK_EQ(recvmmsg(pair[1], messages, 4, MSG_WAITFORONE, nullptr), 3);
  CHECK_EQ(std::string(in[0]) + in[1] + in[2], "abc");
  CHECK_ERRNO(recvmmsg(pair[1], messages, 4, MSG_DONTWAIT, nullptr), EAGAIN);
}

CASE(a_full_backlog_makes_connects_wait) {
  Address address(std::string("\0boxrun-guest-backlog", 21));
  int server = make_socket(SOCK_STREAM);
  CHECK_OK(bind(server, address.get(), address.length));
  CHECK_OK(listen(server, 0));  // one may wait all the same
  int first = make_socket(SOCK_STREAM), second = make_socket(SOCK_STREAM, SOCK_NONBLOCK);
  CHECK_OK(connect(first, address.get(), address.length));
  CHECK_ERRNO(connect(second, address.get(), address.length), EAGAIN);
  pid_t pid = guest::spawn([&] {
    int third = make_socket(SOCK_STREAM);
    CHECK_OK(connect(third, address.get(), address.length));
  });
  guest::wait_until_blocked(pid);
  CHECK_OK(accept(server, nullptr, nullptr));
  CHECK_EXIT(pid, 0);
}
