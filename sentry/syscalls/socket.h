#pragma once
#include <sys/socket.h>

#include <array>

#include "sentry/net/socket.h"
#include "sentry/syscalls/args.h"
#include "sentry/syscalls/support.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

// --- socket.cpp: sockets, their names, connections and options
Result<uint64_t> sys_socket(Task& task, Int domain, Int type, Int protocol);
Result<uint64_t> sys_socketpair(Task& task, Int domain, Int type, Int protocol,
                                UserOut<std::array<int, 2>> fds);
Result<uint64_t> sys_bind(Task& task, Fd fd, UserIn<Bytes> address, Int size);
Result<uint64_t> sys_listen(Task& task, Fd fd, Int backlog);
Result<uint64_t> sys_connect(Task& task, Fd fd, UserIn<Bytes> address, Int size);
Result<uint64_t> sys_accept(Task& task, Fd fd, UserOut<Bytes> address, UserInOut<int> size);
Result<uint64_t> sys_accept4(Task& task, Fd fd, UserOut<Bytes> address, UserInOut<int> size,
                             Int flags);
Result<uint64_t> sys_shutdown(Task& task, Fd fd, Int how);
Result<uint64_t> sys_getsockname(Task& task, Fd fd, UserOut<Bytes> address, UserInOut<int> size);
Result<uint64_t> sys_getpeername(Task& task, Fd fd, UserOut<Bytes> address, UserInOut<int> size);
Result<uint64_t> sys_setsockopt(Task& task, Fd fd, Int level, Int option, UserIn<Bytes> value,
                                Int size);
Result<uint64_t> sys_getsockopt(Task& task, Fd fd, Int level, Int option, UserOut<Bytes> value,
                                UserInOut<int> size);

// --- socket_io.cpp: what goes through them
Result<uint64_t> sys_sendto(Task& task, Fd fd, UserIn<Bytes> buffer, Size size, Int flags,
                            UserIn<Bytes> address, Int address_size);
Result<uint64_t> sys_recvfrom(Task& task, Fd fd, UserOut<Bytes> buffer, Size size, Int flags,
                              UserOut<Bytes> address, UserInOut<int> address_size);
Result<uint64_t> sys_sendmsg(Task& task, Fd fd, UserIn<msghdr> message, Int flags);
Result<uint64_t> sys_recvmsg(Task& task, Fd fd, UserInOut<msghdr> message, Int flags);
Result<uint64_t> sys_sendmmsg(Task& task, Fd fd, UserInOut<mmsghdr> messages, Unsigned count,
                              Int flags);
Result<uint64_t> sys_recvmmsg(Task& task, Fd fd, UserInOut<mmsghdr> messages, Unsigned count,
                              Int flags, UserInOut<timespec> timeout);

// An open socket and the descriptor that names it: EBADF, ENOTSOCK.
struct OpenSocket {
  Ref<FileDescription> file;
  net::Socket* socket;
  net::Socket* operator->() const { return socket; }
  net::Socket& operator*() const { return *socket; }
};
Result<OpenSocket> open_socket(Task& task, Fd fd);

// Who makes a socket call, for the time of one system call: lives on the handler's stack.
class SocketCaller {
 public:
  explicit SocketCaller(Task& task);
  operator net::SocketCaller&() { return caller_; }  // NOLINT(google-explicit-constructor)

 private:
  FileCaller files_;
  net::SocketCaller caller_;
};

// An address argument of a call: EINVAL for a senseless size, EFAULT.
Result<net::Address> copy_in_address(Task& task, UserIn<Bytes> from, int size);
// As much as `size` has room for; then `size` becomes the length it has (accept(2)).
Result<void> copy_out_address(Task& task, const net::Address& address, UserOut<Bytes> to,
                              UserInOut<int> size);

// Whether and how long a call on a socket may wait.
struct Patience {
  bool waits = true;  // neither O_NONBLOCK nor MSG_DONTWAIT
  Deadline deadline;  // SO_RCVTIMEO, SO_SNDTIMEO
  // signal(7): with a timeout, the call is never restarted.
  Errno interrupted() const { return deadline ? Errno::kIntr : Errno::kRestartSys; }
};
Patience patience_of(const net::Socket& socket, std::optional<Nanos> timeout, int flags = 0);

// Tries `op(place)` until it is not kAgain, waiting for `events` of the socket, or at the place
// that it names. EAGAIN when the timeout is over.
template <class Op>
auto until_possible(Task& task, net::Socket& socket, Events events, const Patience& patience,
                    Op op) {
  for (;;) {
    net::WaitPlace place, now;
    auto result = op(place);
    if (result.error() != Errno::kAgain || !patience.waits) return result;
    task.sleeper().reset();
    const WaitQueue::Entry entry(place.queue != nullptr ? *place.queue : *socket.queue(), events,
                                 task.sleeper());
    result = op(now);
    if (result.error() != Errno::kAgain) return result;
    if (now.queue != place.queue) continue;
    if (const auto slept = task.sleep(patience.deadline); !slept.ok()) {
      return decltype(result)(slept.error() == Errno::kIntr ? patience.interrupted()
                                                            : Errno::kAgain);
    }
  }
}

// read(2) and write(2) of a socket are recv(2) and send(2) without flags; EPIPE brings SIGPIPE.
Result<uint64_t> receive_from(Task& task, net::Socket& socket, net::Incoming& message);
Result<uint64_t> send_to(Task& task, net::Socket& socket, net::Outgoing& message);

}  // namespace boxrun::syscalls
