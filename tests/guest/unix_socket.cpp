// AF_UNIX sockets as programs of one machine use them: stream, datagram, sequenced packets, names,
// credentials.
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/guest/guest_test.h"

namespace {

struct Address {
  sockaddr_un name = {};
  socklen_t length = 0;

  explicit Address(const std::string& path) {
    name.sun_family = AF_UNIX;
    memcpy(name.sun_path, path.data(), path.size());  // a leading NUL is an abstract name
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() +
                                    (path[0] == '\0' ? 0 : 1));
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&name); }
};

int make_socket(int type, int flags = 0) {
  int fd = socket(AF_UNIX, type | flags, 0);
  REQUIRE(fd >= 0);
  return fd;
}

// A message with room for data and for one control message.
struct Message {
  char data[16] = {};
  iovec vector = {data, sizeof data};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))] = {};
  msghdr header = {};

  explicit Message(size_t size = sizeof data) {
    vector.iov_len = size;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
  }
  // Turns it into one to send: `text` and a control message.
  template <class T>
  Message(const std::string& text, int type, const T& payload) : Message(text.size()) {
    memcpy(data, text.data(), text.size());
    header.msg_controllen = CMSG_SPACE(sizeof payload);
    cmsghdr* first = CMSG_FIRSTHDR(&header);
    first->cmsg_level = SOL_SOCKET;
    first->cmsg_type = type;
    first->cmsg_len = CMSG_LEN(sizeof payload);
    memcpy(CMSG_DATA(first), &payload, sizeof payload);
  }
  Message(const Message&) = delete;
  // Whether the first control message is one of `type`; its payload then.
  template <class T>
  bool received(int type, T* payload) {
    const cmsghdr* first = CMSG_FIRSTHDR(&header);
    if (first == nullptr || first->cmsg_type != type) return false;
    memcpy(payload, CMSG_DATA(first), sizeof *payload);
    return true;
  }
};

void make_pair(int type, int pair[2]) { REQUIRE(socketpair(AF_UNIX, type, 0, pair) == 0); }

}  // namespace

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

CASE(credentials_of_the_peer) {
  int pair[2];
  make_pair(SOCK_STREAM, pair);
  ucred peer = {};
  socklen_t length = sizeof peer;
  CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &length));
  CHECK_EQ(peer.pid, getpid());
  CHECK_EQ(peer.uid, geteuid());
  int on = 1;
  CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  CHECK_EQ(write(pair[0], "x", 1), 1);
  char byte;
  iovec vector = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))] = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  CHECK_EQ(recvmsg(pair[1], &message, 0), 1);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  REQUIRE(header != nullptr && header->cmsg_type == SCM_CREDENTIALS);
  ucred sender = {};
  memcpy(&sender, CMSG_DATA(header), sizeof sender);
  CHECK_EQ(sender.pid, getpid());
  CHECK_EQ(sender.uid, getuid());
}

CASE(credentials_that_the_sender_names) {
  int pair[2], on = 1;
  make_pair(SOCK_STREAM, pair);
  CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  const ucred mine = {getpid(), getuid(), getgid()};
  Message own("x", SCM_CREDENTIALS, mine);
  CHECK_EQ(sendmsg(pair[0], &own.header, 0), 1);
  Message got;
  CHECK_EQ(recvmsg(pair[1], &got.header, 0), 1);
  ucred sender = {};
  REQUIRE(got.received(SCM_CREDENTIALS, &sender));
  CHECK_EQ(sender.pid, mine.pid);
  CHECK_EQ(sender.uid, mine.uid);
  CHECK_EQ(sender.gid, mine.gid);
  Message short_one("x", SCM_CREDENTIALS, mine.pid);
  CHECK_ERRNO(sendmsg(pair[0], &short_one.header, 0), EINVAL);
  Message unknown("x", 77, mine);
  CHECK_ERRNO(sendmsg(pair[0], &unknown.header, 0), EINVAL);
}

CASE(credentials_of_others_take_privilege) {
  constexpr int kSetGid = 6, kSetUid = 7, kSysAdmin = 21;
  int pair[2], on = 1;
  make_pair(SOCK_STREAM, pair);
  CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  if (guest::has_capability(kSetUid) && guest::has_capability(kSysAdmin)) {
    Message other("x", SCM_CREDENTIALS, ucred{getppid(), 1234, getgid()});
    CHECK_EQ(sendmsg(pair[0], &other.header, 0), 1);
    Message got;
    CHECK_EQ(recvmsg(pair[1], &got.header, 0), 1);
    ucred sender = {};
    REQUIRE(got.received(SCM_CREDENTIALS, &sender));
    CHECK_EQ(sender.pid, getppid());
    CHECK_EQ(sender.uid, 1234);
    Message nobody("x", SCM_CREDENTIALS, ucred{0x3ffffff, getuid(), getgid()});
    CHECK_ERRNO(sendmsg(pair[0], &nobody.header, 0), ESRCH);
  }
  if (guest::has_capability(kSetUid) && guest::has_capability(kSetGid)) {
    CHECK_OK(setresgid(1000, 1000, 1000));
    CHECK_OK(setresuid(1000, 1000, 1000));
  }
  const ucred forged[] = {{getppid(), getuid(), getgid()},
                          {getpid(), getuid() + 1, getgid()},
                          {getpid(), getuid(), getgid() + 1}};
  for (const ucred& claim : forged) {
    Message message("x", SCM_CREDENTIALS, claim);
    CHECK_ERRNO(sendmsg(pair[0], &message.header, 0), EPERM);
  }
}

CASE(descriptors_with_data_that_is_cut) {
  int pair[2], channel[2];
  make_pair(SOCK_DGRAM, pair);
  REQUIRE(pipe(channel) == 0);
  Message out("a long text", SCM_RIGHTS, channel[1]);
  CHECK_EQ(sendmsg(pair[0], &out.header, 0), 11);
  close(channel[1]);
  Message peeked(4), in(4);
  CHECK_EQ(recvmsg(pair[1], &peeked.header, MSG_PEEK | MSG_TRUNC), 11);
  CHECK_EQ(peeked.header.msg_flags, MSG_TRUNC);
  CHECK_EQ(recvmsg(pair[1], &in.header, 0), 4);
  CHECK_EQ(in.header.msg_flags, MSG_TRUNC);
  CHECK_EQ(std::string(in.data), "a lo");
  int first = -1, second = -1;
  REQUIRE(peeked.received(SCM_RIGHTS, &first) && in.received(SCM_RIGHTS, &second));
  CHECK(first != second);  // looking gives descriptors, too
  CHECK_EQ(write(first, "1", 1), 1);
  CHECK_EQ(write(second, "2", 1), 1);
  close(first);
  close(second);
  char buffer[4] = {};
  CHECK_EQ(read(channel[0], buffer, 2), 2);
  CHECK_EQ(std::string(buffer), "12");
  CHECK_EQ(read(channel[0], buffer, 1), 0);  // no copy is left anywhere
}

CASE(descriptors_end_a_read_of_a_stream) {
  int pair[2];
  make_pair(SOCK_STREAM, pair);
  Message out("with", SCM_RIGHTS, pair[0]);
  CHECK_EQ(write(pair[0], "before", 6), 6);
  CHECK_EQ(sendmsg(pair[0], &out.header, 0), 4);
  CHECK_EQ(write(pair[0], "after", 5), 5);
  Message in;
  CHECK_EQ(recvmsg(pair[1], &in.header, 0), 10);
  CHECK_EQ(std::string(in.data, 10), "beforewith");
  int passed = -1;
  CHECK(in.received(SCM_RIGHTS, &passed));
  Message rest;
  CHECK_EQ(recvmsg(pair[1], &rest.header, 0), 5);
  CHECK_EQ(rest.header.msg_controllen, 0);
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

CASE(descriptors_that_find_no_room) {
  int pair[2];
  make_pair(SOCK_STREAM, pair);
  char byte = 'x';
  iovec vector = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(2 * sizeof(int));
  memcpy(CMSG_DATA(header), pair, sizeof pair);
  CHECK_EQ(sendmsg(pair[0], &message, 0), 1);
  CHECK_EQ(sendmsg(pair[0], &message, 0), 1);
  message.msg_controllen = CMSG_LEN(sizeof(int));  // room for one of two
  CHECK_EQ(recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC), 1);
  CHECK_EQ(message.msg_flags & MSG_CTRUNC, MSG_CTRUNC);
  int passed = -1;
  memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof passed);
  CHECK_EQ(fcntl(passed, F_GETFD), FD_CLOEXEC);
  message.msg_control = nullptr;
  message.msg_controllen = 0;
  CHECK_EQ(recvmsg(pair[1], &message, 0), 1);  // the descriptors are lost
  CHECK_EQ(message.msg_flags & MSG_CTRUNC, MSG_CTRUNC);
}
