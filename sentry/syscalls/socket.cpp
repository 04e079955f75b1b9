// Sockets, their names, connections and options; what goes through them is in socket_io.cpp.
#include "sentry/syscalls/socket.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/net/inet_socket.h"
#include "sentry/net/unix_socket.h"
#include "sentry/syscalls/dispatcher.h"

namespace boxrun::syscalls {
namespace {

static_assert(SOCK_CLOEXEC == O_CLOEXEC && SOCK_NONBLOCK == O_NONBLOCK);
constexpr int kTypeFlags = SOCK_CLOEXEC | SOCK_NONBLOCK;
constexpr int kTypeMask = 0xf;
constexpr int kMaxType = 10;    // SOCK_PACKET
constexpr int kMaxFamily = 45;  // AF_MCTP
constexpr int kMaxOptionSize = 4096;

// net/socket.c: __sys_socket, __sock_create.
Result<int> check_kind(int domain, int type) {
  if ((type & ~(kTypeMask | kTypeFlags)) != 0) return Errno::kInval;
  if (domain < 0 || domain > kMaxFamily) return Errno::kAfNoSupport;
  if ((type & kTypeMask) > kMaxType) return Errno::kInval;
  return type & kTypeMask;
}

Result<Ref<net::Socket>> create_socket(Task& task, int domain, int type, int protocol, int flags) {
  const auto& services = services_of(task);
  switch (domain) {
    case AF_UNIX:
      return net::create_unix_socket(services.unix_sockets, type, protocol, flags, task.cred_ref());
    case AF_INET:
    case AF_INET6:
      return net::create_inet_socket(services.inet_sockets, domain, type, protocol, flags,
                                     task.cred_ref());
    default:
      return Errno::kAfNoSupport;
  }
}

}  // namespace

SocketCaller::SocketCaller(Task& task)
    : files_(task), caller_{files_, task.tgid(), open_file_limit(task)} {}

Result<OpenSocket> open_socket(Task& task, Fd fd) {
  auto file = TRY(task.fds().get(fd.value));
  net::Socket* socket = net::Socket::of(*file);
  if (socket == nullptr) return Errno::kNotSock;
  return OpenSocket{std::move(file), socket};
}

Patience patience_of(const net::Socket& socket, std::optional<Nanos> timeout, int flags) {
  Patience patience;
  patience.waits = !socket.nonblocking() && (flags & MSG_DONTWAIT) == 0;
  if (patience.waits && timeout) patience.deadline = deadline_in(*timeout);
  return patience;
}

Result<net::Address> copy_in_address(Task& task, UserIn<Bytes> from, int size) {
  if (size < 0 || static_cast<size_t>(size) > net::kMaxAddress) return Errno::kInval;
  net::Address address(static_cast<size_t>(size));
  if (size > 0) TRY(task.mm().copy_in(from.addr, address));
  return address;
}

Result<void> copy_out_address(Task& task, const net::Address& address, UserOut<Bytes> to,
                              UserInOut<int> size) {
  const int room = TRY(task.mm().read(size.in()));
  if (room < 0) return Errno::kInval;
  const auto part = std::span(address).first(std::min(address.size(), static_cast<size_t>(room)));
  if (!part.empty()) TRY(task.mm().copy_out(to.addr, part));
  return task.mm().write(size.out(), static_cast<int>(address.size()));
}

Result<uint64_t> sys_socket(Task& task, Int domain, Int type, Int protocol) {
  const int kind = TRY(check_kind(domain.value, type.value));
  const int flags = type.value & kTypeFlags;
  auto socket = TRY(create_socket(task, domain.value, kind, protocol.value, flags));
  return install(task, std::move(socket), flags);
}

Result<uint64_t> sys_socketpair(Task& task, Int domain, Int type, Int protocol,
                                UserOut<std::array<int, 2>> fds) {
  const int kind = TRY(check_kind(domain.value, type.value));
  if (domain.value != AF_UNIX) {
    TRY(create_socket(task, domain.value, kind, protocol.value, 0));
    return Errno::kOpNotSupp;
  }
  SocketCaller caller(task);
  const net::SocketCaller& who = caller;
  auto pair = TRY(net::create_unix_pair(services_of(task).unix_sockets, kind, protocol.value,
                                        type.value, task.cred_ref(), who.connecting()));
  return install_pair(task, std::move(pair.first), std::move(pair.second), type.value, fds);
}

Result<uint64_t> sys_bind(Task& task, Fd fd, UserIn<Bytes> address, Int size) {
  const auto socket = TRY(open_socket(task, fd));
  SocketCaller caller(task);
  return zero(socket->bind(caller, TRY(copy_in_address(task, address, size.value))));
}

Result<uint64_t> sys_listen(Task& task, Fd fd, Int backlog) {
  const auto socket = TRY(open_socket(task, fd));
  SocketCaller caller(task);
  return zero(socket->listen(caller, backlog.value));
}

Result<uint64_t> sys_connect(Task& task, Fd fd, UserIn<Bytes> address, Int size) {
  const auto socket = TRY(open_socket(task, fd));
  const net::Address to = TRY(copy_in_address(task, address, size.value));
  SocketCaller caller(task);
  const Patience patience = patience_of(*socket, socket->options().send_timeout());
  return zero(until_possible(task, *socket, kWritable, patience, [&](net::WaitPlace& place) {
    return socket->connect(caller, to, place);
  }));
}

Result<uint64_t> sys_accept4(Task& task, Fd fd, UserOut<Bytes> address, UserInOut<int> size,
                             Int flags) {
  if ((flags.value & ~kTypeFlags) != 0) return Errno::kInval;
  const auto socket = TRY(open_socket(task, fd));
  SocketCaller caller(task);
  const Patience patience = patience_of(*socket, socket->options().receive_timeout());
  auto connection = TRY(until_possible(task, *socket, kReadable, patience, [&](net::WaitPlace&) {
    return socket->accept(caller, flags.value & SOCK_NONBLOCK);
  }));
  if (address) {
    // The peer may be gone again; then it has no name (net/socket.c: do_accept).
    const auto name = connection->peer_name();
    if (!name.ok()) return Errno::kConnAborted;
    TRY(copy_out_address(task, *name, address, size));
  }
  return install(task, std::move(connection), flags.value);
}
Result<uint64_t> sys_accept(Task& task, Fd fd, UserOut<Bytes> address, UserInOut<int> size) {
  return sys_accept4(task, fd, address, size, Int{0});
}

Result<uint64_t> sys_shutdown(Task& task, Fd fd, Int how) {
  return zero(TRY(open_socket(task, fd))->shutdown(how.value));
}

Result<uint64_t> sys_getsockname(Task& task, Fd fd, UserOut<Bytes> address, UserInOut<int> size) {
  const auto socket = TRY(open_socket(task, fd));
  return zero(copy_out_address(task, TRY(socket->name()), address, size));
}

Result<uint64_t> sys_getpeername(Task& task, Fd fd, UserOut<Bytes> address, UserInOut<int> size) {
  const auto socket = TRY(open_socket(task, fd));
  return zero(copy_out_address(task, TRY(socket->peer_name()), address, size));
}

Result<uint64_t> sys_setsockopt(Task& task, Fd fd, Int level, Int option, UserIn<Bytes> value,
                                Int size) {
  if (size.value < 0) return Errno::kInval;
  const auto socket = TRY(open_socket(task, fd));
  // No option that is understood is longer; Linux ignores what comes behind one.
  std::vector<std::byte> bytes(static_cast<size_t>(std::min(size.value, kMaxOptionSize)));
  if (!bytes.empty()) TRY(task.mm().copy_in(value.addr, bytes));
  SocketCaller caller(task);
  return zero(socket->set_option(caller, level.value, option.value, bytes));
}

Result<uint64_t> sys_getsockopt(Task& task, Fd fd, Int level, Int option, UserOut<Bytes> value,
                                UserInOut<int> size) {
  const auto socket = TRY(open_socket(task, fd));
  const int room = TRY(task.mm().read(size.in()));
  if (room < 0) return Errno::kInval;
  const auto bytes = TRY(socket->option(level.value, option.value, static_cast<size_t>(room)));
  if (!bytes.empty()) TRY(task.mm().copy_out(value.addr, bytes));
  return zero(task.mm().write(size.out(), static_cast<int>(bytes.size())));
}

}  // namespace boxrun::syscalls
