// What the programs about AF_UNIX sockets share: addresses, messages with one control message.
#pragma once
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/guest/guest_test.h"

namespace guest_unix {

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

inline int make_socket(int type, int flags = 0) {
  int fd = socket(AF_UNIX, type | flags, 0);
  REQUIRE(fd >= 0);
  return fd;
}

inline void make_pair(int type, int pair[2]) { REQUIRE(socketpair(AF_UNIX, type, 0, pair) == 0); }

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

}  // namespace guest_unix
