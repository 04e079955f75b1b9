// send(2), recv(2) and their families. Nothing below sees a guest address: buffers are pinned,
// addresses and control data copied.
#include <signal.h>

#include <algorithm>
#include <climits>

#include "sentry/kernel/signals.h"
#include "sentry/kernel/task.h"
#include "sentry/syscalls/socket.h"
#include "sentry/syscalls/socket_control.h"

namespace boxrun::syscalls {
namespace {

constexpr size_t kMaxMessages = UIO_MAXIOV;  // of one sendmmsg or recvmmsg
// Asked of and returned by recvmsg (net/socket.c: ___sys_recvmsg).
constexpr int kReturnedFlags = MSG_CMSG_CLOEXEC;

Result<mm::Pinned> pin_message(Task& task, const msghdr& header, mm::Access access) {
  if (header.msg_iovlen > UIO_MAXIOV) return Errno::kMsgSize;
  return task.mm().pin_iovec(reinterpret_cast<uint64_t>(header.msg_iov), header.msg_iovlen, access);
}

// A message is sent whole or not at all; of a stream goes what can be read.
Result<void> check_readable(const net::Socket& socket, const mm::Pinned& pinned) {
  if (pinned.complete() || socket.type() == SOCK_STREAM) return {};
  return Errno::kFault;
}

Result<uint64_t> send_message(Task& task, net::Socket& socket, const msghdr& header, int flags) {
  net::Outgoing message;
  if (header.msg_name != nullptr && header.msg_namelen != 0) {
    const auto size = static_cast<int>(header.msg_namelen);
    if (size < 0) return Errno::kInval;
    message.to =
        TRY(copy_in_address(task, UserIn<Bytes>{reinterpret_cast<uint64_t>(header.msg_name)},
                            std::min<int>(size, net::kMaxAddress)));
  }
  TRY(read_control(task, header, message));
  const mm::Pinned pinned = TRY(pin_message(task, header, mm::Access::kRead));
  TRY(check_readable(socket, pinned));
  message.data = pinned.buffers();
  message.flags = flags;
  return send_to(task, socket, message);
}

Result<uint64_t> receive_message(Task& task, net::Socket& socket, UserInOut<msghdr> at, int flags) {
  msghdr header = TRY(task.mm().read(at.in()));
  if (header.msg_name != nullptr && static_cast<int>(header.msg_namelen) < 0) {
    return Errno::kInval;
  }
  const mm::Pinned pinned = TRY(pin_message(task, header, mm::Access::kWrite));
  net::Incoming message;
  message.data = pinned.buffers();
  message.flags = flags;
  const uint64_t size = TRY(receive_from(task, socket, message));
  if (header.msg_name != nullptr) {
    const auto part =
        std::span(message.from).first(std::min<size_t>(message.from.size(), header.msg_namelen));
    TRY(task.mm().copy_out(reinterpret_cast<uint64_t>(header.msg_name), part));
    header.msg_namelen = static_cast<socklen_t>(message.from.size());
  }
  header.msg_flags = (flags & kReturnedFlags) | message.message_flags;
  TRY(write_control(task, message, (flags & MSG_CMSG_CLOEXEC) != 0, header));
  // Only what the call returns is written: the rest may have changed meanwhile.
  const auto field = [&](size_t offset) { return at.addr + offset; };
  if (header.msg_name != nullptr) {
    TRY(task.mm().write(UserOut<socklen_t>{field(offsetof(msghdr, msg_namelen))},
                        header.msg_namelen));
  }
  TRY(task.mm().write(UserOut<int>{field(offsetof(msghdr, msg_flags))}, header.msg_flags));
  TRY(task.mm().write(UserOut<size_t>{field(offsetof(msghdr, msg_controllen))},
                      header.msg_controllen));
  return size;
}

UserInOut<msghdr> header_of(UserInOut<mmsghdr> messages, size_t index) {
  return {messages.addr + index * sizeof(mmsghdr)};
}

Result<void> write_length(Task& task, UserInOut<mmsghdr> messages, size_t index, uint64_t size) {
  return task.mm().write(
      UserOut<unsigned>{header_of(messages, index).addr + offsetof(mmsghdr, msg_len)},
      static_cast<unsigned>(size));
}

}  // namespace

Result<uint64_t> send_to(Task& task, net::Socket& socket, net::Outgoing& message) {
  const Patience patience = patience_of(socket, socket.options().send_timeout(), message.flags);
  if (!patience.waits) message.flags |= MSG_DONTWAIT;
  SocketCaller caller(task);
  uint64_t done = 0;
  for (;;) {
    const auto sent = until_possible(task, socket, kWritable, patience, [&](net::WaitPlace& place) {
      return socket.send(caller, message, place);
    });
    if (!sent.ok() && done > 0) return done;
    // Only streams, and only when nothing went out (net/unix/af_unix.c: unix_stream_sendmsg).
    if (sent.error() == Errno::kPipe && socket.type() == SOCK_STREAM &&
        (message.flags & MSG_NOSIGNAL) == 0) {
      (void)kernel::send_to_task(task, kernel::kernel_signal(SIGPIPE));
    }
    if (!sent.ok()) return sent.error();
    done += *sent;
    if (message.data.empty() || !patience.waits) return done;
  }
}

Result<uint64_t> receive_from(Task& task, net::Socket& socket, net::Incoming& message) {
  const Patience patience = patience_of(socket, socket.options().receive_timeout(), message.flags);
  if (!patience.waits) message.flags |= MSG_DONTWAIT;
  const size_t size = message.data.remaining();
  const size_t enough = (message.flags & MSG_WAITALL) != 0
                            ? size
                            : std::min<size_t>(size, socket.options().low_water());
  uint64_t done = 0;
  for (;;) {
    const auto received = until_possible(task, socket, kReadable, patience,
                                         [&](net::WaitPlace&) { return socket.receive(message); });
    if (!received.ok()) return done > 0 ? Result<uint64_t>(done) : received.error();
    done += *received;
    // Packets are never joined; what was only looked at would be looked at again.
    const bool joins = socket.type() == SOCK_STREAM && (message.flags & MSG_PEEK) == 0;
    if (!joins || message.ended || !patience.waits || done >= enough) return done;
  }
}

Result<uint64_t> sys_sendto(Task& task, Fd fd, UserIn<Bytes> buffer, Size size, Int flags,
                            UserIn<Bytes> address, Int address_size) {
  const mm::Pinned pinned =
      TRY(task.mm().pin(buffer.addr, std::min(size.value, kMaxTransfer), mm::Access::kRead));
  const auto socket = TRY(open_socket(task, fd));
  TRY(check_readable(*socket, pinned));
  net::Outgoing message;
  message.data = pinned.buffers();
  message.flags = flags.value;
  if (address) message.to = TRY(copy_in_address(task, address, address_size.value));
  return send_to(task, *socket, message);
}

Result<uint64_t> sys_recvfrom(Task& task, Fd fd, UserOut<Bytes> buffer, Size size, Int flags,
                              UserOut<Bytes> address, UserInOut<int> address_size) {
  const mm::Pinned pinned =
      TRY(task.mm().pin(buffer.addr, std::min(size.value, kMaxTransfer), mm::Access::kWrite));
  const auto socket = TRY(open_socket(task, fd));
  net::Incoming message;
  message.data = pinned.buffers();
  message.flags = flags.value;
  const uint64_t received = TRY(receive_from(task, *socket, message));
  if (address) TRY(copy_out_address(task, message.from, address, address_size));
  return received;
}

Result<uint64_t> sys_sendmsg(Task& task, Fd fd, UserIn<msghdr> message, Int flags) {
  const auto socket = TRY(open_socket(task, fd));
  return send_message(task, *socket, TRY(task.mm().read(message)), flags.value);
}

Result<uint64_t> sys_recvmsg(Task& task, Fd fd, UserInOut<msghdr> message, Int flags) {
  const auto socket = TRY(open_socket(task, fd));
  return receive_message(task, *socket, message, flags.value);
}

Result<uint64_t> sys_sendmmsg(Task& task, Fd fd, UserInOut<mmsghdr> messages, Unsigned count,
                              Int flags) {
  const auto socket = TRY(open_socket(task, fd));
  const size_t most = std::min<size_t>(count.value, kMaxMessages);
  size_t done = 0;
  for (Errno error = Errno::kOk; done < most; done++) {
    const auto sent = [&]() -> Result<void> {
      const msghdr header = TRY(task.mm().read(header_of(messages, done).in()));
      const uint64_t size = TRY(send_message(task, *socket, header, flags.value));
      return write_length(task, messages, done, size);
    }();
    error = sent.error();
    if (error != Errno::kOk && done == 0) return error;
    if (error != Errno::kOk) break;
  }
  return done;
}

// recvmmsg(2), BUGS: the timeout is looked at between messages only.
Result<uint64_t> sys_recvmmsg(Task& task, Fd fd, UserInOut<mmsghdr> messages, Unsigned count,
                              Int flags, UserInOut<timespec> timeout) {
  const Deadline deadline = TRY(deadline_of(task, timeout.in()));
  const auto socket = TRY(open_socket(task, fd));
  if (const Errno error = socket->take_error(); error != Errno::kOk) return error;
  const size_t most = std::min<size_t>(count.value, kMaxMessages);
  int how = flags.value & ~MSG_WAITFORONE;
  size_t done = 0;
  while (done < most) {
    const auto received = [&]() -> Result<void> {
      const uint64_t size = TRY(receive_message(task, *socket, header_of(messages, done), how));
      return write_length(task, messages, done, size);
    }();
    if (!received.ok() && done == 0) return received.error();
    if (!received.ok()) break;
    done++;
    if ((flags.value & MSG_WAITFORONE) != 0) how |= MSG_DONTWAIT;
    if (deadline && left_until(deadline) == 0) break;
  }
  if (deadline) TRY(task.mm().write(timeout.out(), to_timespec(left_until(deadline))));
  return done;
}

}  // namespace boxrun::syscalls
