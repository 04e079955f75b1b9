#include "gofer/channel.h"

#include <sys/socket.h>

#include <cstring>

namespace boxrun::gofer {
namespace {

// A peer that went away shows as any of these, depending on who noticed first.
Errno transport_error(int host_errno) {
  return host_errno == ECONNRESET || host_errno == ENOTCONN || host_errno == EPIPE
             ? Errno::kPipe
             : from_host(host_errno);
}

union FdControl {
  cmsghdr header;
  char bytes[CMSG_SPACE(kMaxFds * sizeof(int))];
};

ssize_t send_retrying(int fd, const msghdr& message) {
  ssize_t sent;
  do sent = sendmsg(fd, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent;
}

ssize_t receive_retrying(int fd, msghdr& message) {
  ssize_t got;
  do got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  return got;
}

}  // namespace

bool FdList::push(UniqueFd fd) {
  if (full()) return false;
  fds_[size_++] = std::move(fd);
  return true;
}

UniqueFd FdList::take_next() {
  if (next_ == size_) return {};
  return std::move(fds_[next_++]);
}

void FdList::clear() {
  for (size_t i = 0; i < size_; i++) fds_[i].reset();
  size_ = next_ = 0;
  lost_ = false;
}

Result<void> PacketChannel::send(Data packet, const FdList& fds) {
  iovec piece{const_cast<std::byte*>(packet.data()), packet.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  FdControl control{};
  if (fds.size() > 0) {
    int numbers[kMaxFds];
    for (size_t i = 0; i < fds.size(); i++) numbers[i] = fds[i].get();
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(&control.header), numbers, fds.size() * sizeof(int));
  }
  if (send_retrying(socket_.get(), message) < 0) return transport_error(errno);
  return {};
}

Result<size_t> PacketChannel::receive(std::span<std::byte> into, FdList& fds) {
  fds.clear();
  iovec piece{into.data(), into.size()};
  FdControl control{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  const ssize_t got = receive_retrying(socket_.get(), message);
  if (got < 0) return transport_error(errno);
  // Own every descriptor before anything can fail, or a hostile peer would fill our table.
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      fds.push(UniqueFd(fd));
    }
  }
  if (got == 0) return Errno::kPipe;
  if ((message.msg_flags & MSG_TRUNC) != 0) return Errno::kProto;
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    // Either the peer sent too many, or our own table is full (unix(7)).
    if (fds.full()) return Errno::kProto;
    fds.set_lost();
  }
  return static_cast<size_t>(got);
}

void PacketChannel::shut_down() { shutdown(socket_.get(), SHUT_RDWR); }

Result<void> StreamChannel::send(Data packet, const FdList& fds) {
  if (fds.size() > 0) return Errno::kOpNotSupp;
  while (!packet.empty()) {
    iovec piece{const_cast<std::byte*>(packet.data()), packet.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const ssize_t sent = send_retrying(socket_.get(), message);
    if (sent < 0) return transport_error(errno);
    packet = packet.subspan(static_cast<size_t>(sent));
  }
  return {};
}

Result<size_t> StreamChannel::receive(std::span<std::byte> into, FdList& fds) {
  fds.clear();
  uint32_t size = 0;
  TRY(receive_exactly(std::as_writable_bytes(std::span(&size, 1))));
  if (size < kHeaderSize || size > into.size()) return Errno::kProto;
  std::memcpy(into.data(), &size, sizeof size);
  TRY(receive_exactly(into.subspan(sizeof size, size - sizeof size)));
  return size_t{size};
}

Result<void> StreamChannel::receive_exactly(std::span<std::byte> into) {
  while (!into.empty()) {
    iovec piece{into.data(), into.size()};
    msghdr message{};  // without a control buffer the host drops descriptors itself
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const ssize_t got = receive_retrying(socket_.get(), message);
    if (got < 0) return transport_error(errno);
    if (got == 0) return Errno::kPipe;
    into = into.subspan(static_cast<size_t>(got));
  }
  return {};
}

void StreamChannel::shut_down() { shutdown(socket_.get(), SHUT_RDWR); }

Result<ChannelPair> make_channel_pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return last_error();
  return ChannelPair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace boxrun::gofer
