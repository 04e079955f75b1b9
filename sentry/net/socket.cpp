#include "sentry/net/socket.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "sentry/vfs/anonymous.h"

namespace boxrun::net {

int family_of(const Address& address) {
  sa_family_t family = AF_UNSPEC;
  if (address.size() >= sizeof family) memcpy(&family, address.data(), sizeof family);
  return family;
}

ucred SocketCaller::connecting() const {
  return {pid, files.credentials->euid, files.credentials->egid};
}
ucred SocketCaller::sending() const {
  return {pid, files.credentials->ruid, files.credentials->rgid};
}

Socket* Socket::of(vfs::FileDescription& file) {
  if (file.inode().type() != vfs::FileType::kSocket) return nullptr;
  return dynamic_cast<Socket*>(&file);
}

Socket::Socket(const vfs::OpenRequest& request, Kind kind)
    : FileDescription(request, request.path.dentry->inode(), Positioning::kStream), kind_(kind) {}

vfs::OpenRequest Socket::open_request(const Ref<vfs::Mount>& mount, int flags,
                                      Ref<Credentials> credentials) {
  vfs::Path path = vfs::AnonymousFileSystem::make(mount, vfs::FileType::kSocket, 0777, "socket:[%]",
                                                  *credentials);
  return {O_RDWR | (flags & O_NONBLOCK), std::move(path), std::move(credentials)};
}

Result<void> Socket::set_family_option(int, int, std::span<const std::byte>) {
  return Errno::kOpNotSupp;
}
Result<std::vector<std::byte>> Socket::family_option(int, int) { return Errno::kOpNotSupp; }

Result<void> Socket::set_option(SocketCaller& caller, int level, int option,
                                std::span<const std::byte> value) {
  if (level != SOL_SOCKET) return set_family_option(level, option, value);
  TRY(options_.set(*caller.files.credentials, option, value));
  options_changed();
  return {};
}

Result<std::vector<std::byte>> Socket::option(int level, int option, size_t room) {
  std::vector<std::byte> value =
      level == SOL_SOCKET ? TRY(socket_option(option)) : TRY(family_option(level, option));
  value.resize(std::min(value.size(), room));
  return value;
}

Result<std::vector<std::byte>> Socket::socket_option(int option) {
  switch (option) {
    case SO_TYPE:
      return option_bytes(kind_.type);
    case SO_DOMAIN:
      return option_bytes(kind_.domain);
    case SO_PROTOCOL:
      return option_bytes(kind_.protocol);
    case SO_ACCEPTCONN:
      return option_bytes(listening());
    case SO_ERROR:
      return option_bytes(static_cast<int>(take_error()));
    case SO_PEERCRED: {
      const ucred peer = peer_identity();
      const auto bytes = bytes_of(peer);
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    }
    default:
      return options_.get(option);
  }
}

}  // namespace boxrun::net
