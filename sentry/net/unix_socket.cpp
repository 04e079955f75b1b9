#include "sentry/net/unix_socket.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "sentry/mm/user.h"
#include "sentry/net/unix_endpoint.h"
#include "sentry/vfs/operations.h"

namespace boxrun::net {
namespace {

constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);

// af_unix.c: unix_validate_addr.
Result<void> check_address(const Address& address) {
  if (address.size() <= kPathOffset || address.size() > sizeof(sockaddr_un) ||
      family_of(address) != AF_UNIX) {
    return Errno::kInval;
  }
  return {};
}

bool is_abstract(const Address& address) { return address[kPathOffset] == std::byte{0}; }

// The path in an address, which need not end in a NUL.
std::string path_in(const Address& address) {
  const auto* text = reinterpret_cast<const char*>(address.data()) + kPathOffset;
  return {text, strnlen(text, address.size() - kPathOffset)};
}

// As getsockname(2) tells it: with one NUL at the end.
Address path_address(const std::string& path) {
  const sa_family_t family = AF_UNIX;
  Address address(kPathOffset + path.size() + 1);
  memcpy(address.data(), &family, sizeof family);
  memcpy(address.data() + kPathOffset, path.c_str(), path.size() + 1);
  return address;
}

// Of a socket without a name: the family alone.
Address unnamed() {
  const sa_family_t family = AF_UNIX;
  const auto bytes = bytes_of(family);
  return {bytes.begin(), bytes.end()};
}

vfs::At at_of(SocketCaller& caller, const std::string& path) {
  return {path.starts_with('/') ? caller.files.fs.root() : caller.files.fs.cwd(), path};
}

class UnixSocket final : public Socket {
 public:
  UnixSocket(const Ref<UnixSystem>& system, int flags, Ref<Credentials> credentials,
             Ref<UnixEndpoint> endpoint)
      : Socket(open_request(system->mount(), flags, std::move(credentials)),
               {AF_UNIX, endpoint->type(), 0}),
        system_(system),
        endpoint_(std::move(endpoint)) {}
  ~UnixSocket() override { endpoint_->close(); }

  UnixEndpoint& endpoint() { return *endpoint_; }
  const Ref<UnixEndpoint>& endpoint_ref() { return endpoint_; }

  Result<void> bind(SocketCaller& caller, const Address& address) override;
  Result<void> listen(SocketCaller& caller, int backlog) override {
    return endpoint_->listen(backlog, caller.connecting());
  }
  Result<void> connect(SocketCaller& caller, const Address& address, WaitPlace& place) override;
  Result<Ref<Socket>> accept(SocketCaller& caller, int flags) override;
  Result<size_t> send(SocketCaller& caller, Outgoing& message, WaitPlace& place) override;
  Result<size_t> receive(Incoming& message) override;
  Result<void> shutdown(int how) override { return endpoint_->shutdown(how); }
  Result<Address> name() override { return name_of(*endpoint_); }
  Result<Address> peer_name() override {
    const Ref<UnixEndpoint> peer = endpoint_->peer();
    if (!peer) return Errno::kNotConn;
    return name_of(*peer);
  }
  Errno take_error() override { return endpoint_->take_error(); }

  Events ready() override { return endpoint_->ready(); }
  WaitQueue* queue() override { return &endpoint_->queue(); }
  Result<uint64_t> ioctl(uint32_t command, uint64_t arg, mm::MemoryManager& memory,
                         vfs::IoctlCaller& caller) override;

 private:
  static Address name_of(UnixEndpoint& endpoint) {
    Address name = endpoint.name();
    return name.empty() ? unnamed() : name;
  }
  bool listening() override { return endpoint_->listening(); }
  ucred peer_identity() override { return endpoint_->peer_identity(); }
  void options_changed() override {
    endpoint_->set_pass_credentials(options().pass_credentials());
    endpoint_->set_send_buffer(options().send_buffer());
  }
  Result<Ref<UnixEndpoint>> find(SocketCaller& caller, const Address& address);
  // Sockets that want to be told who sends get a name to be answered at (unix(7), SO_PASSCRED).
  Result<void> name_if_asked() {
    return endpoint_->pass_credentials() ? endpoint_->autobind() : Result<void>();
  }

  const Ref<UnixSystem> system_;
  const Ref<UnixEndpoint> endpoint_;
};

Result<void> UnixSocket::bind(SocketCaller& caller, const Address& address) {
  if (address.size() == kPathOffset && family_of(address) == AF_UNIX) return endpoint_->autobind();
  TRY(check_address(address));
  if (is_abstract(address)) return endpoint_->bind_abstract(address);
  TRY(endpoint_->begin_bind());
  const std::string path = path_in(address);
  auto place = vfs::make_socket(caller.files, at_of(caller, path), 0777, endpoint_);
  endpoint_->finish_bind(place.ok() ? path_address(path) : Address(),
                         place.ok() ? *place : vfs::Path());
  return place.error();
}

// af_unix.c: unix_find_other.
Result<Ref<UnixEndpoint>> UnixSocket::find(SocketCaller& caller, const Address& address) {
  TRY(check_address(address));
  Ref<UnixEndpoint> found;
  if (is_abstract(address)) {
    found = system_->find(address);
  } else {
    const std::string path = path_in(address);
    const vfs::Path place = TRY(vfs::find(caller.files, at_of(caller, path), 0));
    vfs::Inode& inode = *place.dentry->inode();
    TRY(inode.permission(*caller.files.credentials, vfs::kMayWrite));
    if (inode.type() != vfs::FileType::kSocket) return Errno::kConnRefused;
    // What is attached to a socket's inode is always an endpoint: bind() put it there.
    found = static_ref_cast<UnixEndpoint>(inode.attachment());
  }
  if (!found) return Errno::kConnRefused;
  if (found->type() != type()) return Errno::kProtoType;
  return found;
}

Result<void> UnixSocket::connect(SocketCaller& caller, const Address& address, WaitPlace& place) {
  if (type() == SOCK_DGRAM) {
    if (family_of(address) == AF_UNSPEC) return endpoint_->connect_datagrams(nullptr);
    TRY(check_address(address));
    TRY(name_if_asked());
    return endpoint_->connect_datagrams(TRY(find(caller, address)));
  }
  TRY(check_address(address));
  TRY(name_if_asked());
  const Ref<UnixEndpoint> listener = TRY(find(caller, address));
  const auto connected = endpoint_->connect_to(*listener, caller.connecting());
  if (connected.error() == Errno::kAgain) place = {listener, &listener->room_queue()};
  return connected.error();
}

Result<Ref<Socket>> UnixSocket::accept(SocketCaller& caller, int flags) {
  Ref<UnixEndpoint> connection = TRY(endpoint_->accept());
  connection->set_pass_credentials(options().pass_credentials());
  auto socket =
      make_ref<UnixSocket>(system_, flags, caller.files.credentials, std::move(connection));
  socket->options().inherit(options());
  return Ref<Socket>(std::move(socket));
}

Result<size_t> UnixSocket::send(SocketCaller& caller, Outgoing& message, WaitPlace& place) {
  if ((message.flags & MSG_OOB) != 0) return Errno::kOpNotSupp;
  if (type() == SOCK_STREAM) {
    if (!message.to.empty()) return endpoint_->peer() ? Errno::kIsConn : Errno::kOpNotSupp;
    return endpoint_->send_stream(caller, message);
  }
  if (type() == SOCK_SEQPACKET || message.to.empty()) {
    TRY(name_if_asked());
    return endpoint_->send_packet(caller, nullptr, message, place);
  }
  TRY(check_address(message.to));
  TRY(name_if_asked());
  return endpoint_->send_packet(caller, TRY(find(caller, message.to)), message, place);
}

Result<size_t> UnixSocket::receive(Incoming& message) {
  if ((message.flags & MSG_OOB) != 0) {
    return type() == SOCK_STREAM ? Errno::kInval : Errno::kOpNotSupp;
  }
  return type() == SOCK_STREAM ? endpoint_->receive_stream(message)
                               : endpoint_->receive_packet(message);
}

Result<uint64_t> UnixSocket::ioctl(uint32_t command, uint64_t arg, mm::MemoryManager& memory,
                                   vfs::IoctlCaller& caller) {
  size_t bytes = 0;
  switch (command) {
    case FIONREAD:
      if (endpoint_->listening()) return Errno::kInval;
      bytes = endpoint_->unread_bytes();
      break;
    case SIOCOUTQ:
      bytes = endpoint_->unsent_bytes();
      break;
    default:
      return FileDescription::ioctl(command, arg, memory, caller);
  }
  TRY(memory.write(mm::UserOut<int32_t>{arg}, static_cast<int32_t>(bytes)));
  return uint64_t{0};
}

// af_unix.c: unix_create.
Result<int> check_type(int type, int protocol) {
  if (protocol != 0 && protocol != PF_UNIX) return Errno::kProtoNoSupport;
  switch (type) {
    case SOCK_STREAM:
    case SOCK_DGRAM:
    case SOCK_SEQPACKET:
      return type;
    case SOCK_RAW:  // as BSD has it
      return SOCK_DGRAM;
    default:
      return Errno::kSockTNoSupport;
  }
}

}  // namespace

Result<Ref<Socket>> create_unix_socket(const Ref<UnixSystem>& system, int type, int protocol,
                                       int flags, Ref<Credentials> credentials) {
  auto endpoint = TRY(UnixEndpoint::create(system, TRY(check_type(type, protocol))));
  return Ref<Socket>(
      make_ref<UnixSocket>(system, flags, std::move(credentials), std::move(endpoint)));
}

Result<std::pair<Ref<Socket>, Ref<Socket>>> create_unix_pair(const Ref<UnixSystem>& system,
                                                             int type, int protocol, int flags,
                                                             const Ref<Credentials>& credentials,
                                                             const ucred& who) {
  const int known = TRY(check_type(type, protocol));
  const Ref<UnixEndpoint> a = TRY(UnixEndpoint::create(system, known));
  const Ref<UnixEndpoint> b = TRY(UnixEndpoint::create(system, known));
  UnixEndpoint::make_pair(a, b, who);
  return std::pair(Ref<Socket>(make_ref<UnixSocket>(system, flags, credentials, a)),
                   Ref<Socket>(make_ref<UnixSocket>(system, flags, credentials, b)));
}

}  // namespace boxrun::net
