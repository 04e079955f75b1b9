// Sockets as system calls see them (socket(2), socket(7)).
#pragma once
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "sentry/net/socket_options.h"
#include "sentry/vfs/caller.h"
#include "sentry/vfs/file_description.h"
#include "sentry/wait/wait.h"
#include "src/base/bytes.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::net {

// The bytes of a sockaddr, its family first; empty: none.
using Address = std::vector<std::byte>;
inline constexpr size_t kMaxAddress = sizeof(sockaddr_storage);
// AF_UNSPEC for what is too short to have a family.
int family_of(const Address& address);

// What SO_PEERCRED tells where there is no peer.
inline constexpr ucred kNobody{0, static_cast<uid_t>(-1), static_cast<gid_t>(-1)};

// One caller for the time of one system call: borrowed, on its stack.
struct SocketCaller {
  vfs::Caller& files;        // for addresses that are paths; the credentials; who hears of denials
  pid_t pid;                 // of the process
  uint64_t open_file_limit;  // RLIMIT_NOFILE: also bounds descriptors on their way (unix(7))

  ucred connecting() const;  // what SO_PEERCRED tells the other side: effective ids
  ucred sending() const;     // what SCM_CREDENTIALS tells, unless the sender says: real ids
};

// sendmsg(2). What was sent is gone from `data` and `files`.
struct Outgoing {
  IoBuffers data;
  int flags = 0;  // MSG_*; MSG_DONTWAIT also for a non-blocking file
  Address to;
  std::optional<ucred> credentials;              // SCM_CREDENTIALS, checked
  std::vector<Ref<vfs::FileDescription>> files;  // SCM_RIGHTS
};

// recvmsg(2).
struct Incoming {
  IoBuffers data;
  int flags = 0;  // as in Outgoing
  // What came, over all attempts of one call:
  Address from;
  std::optional<ucred> credentials;
  std::vector<Ref<vfs::FileDescription>> files;
  int message_flags = 0;  // MSG_TRUNC
  bool ended = false;     // nothing more may be added: end of stream, another sender, descriptors
};

// Where to wait after kAgain, when that is not at the socket itself but at its peer.
struct WaitPlace {
  Ref<RefCounted> owner;  // keeps the queue
  WaitQueue* queue = nullptr;
};

// A socket. Owned by descriptors like every open file; what other sockets know of it is an object
// of its family, which the destructor closes. Thread-safe; never blocks.
class Socket : public vfs::FileDescription {
 public:
  // Null for other files.
  static Socket* of(vfs::FileDescription& file);

  int domain() const { return kind_.domain; }
  int type() const { return kind_.type; }
  SocketOptions& options() { return options_; }

  virtual Result<void> bind(SocketCaller& caller, const Address& address) = 0;
  virtual Result<void> listen(SocketCaller& caller, int backlog) = 0;
  // kAgain while the peer has no room: the caller waits at `place`.
  virtual Result<void> connect(SocketCaller& caller, const Address& address, WaitPlace& place) = 0;
  // `flags`: O_NONBLOCK of the new socket.
  virtual Result<Ref<Socket>> accept(SocketCaller& caller, int flags) = 0;
  // As much as fits now; kAgain when that is nothing, ECONNRESET and its like.
  virtual Result<size_t> send(SocketCaller& caller, Outgoing& message, WaitPlace& place) = 0;
  // What is there now; kAgain when nothing is. With MSG_TRUNC the length of the whole datagram.
  virtual Result<size_t> receive(Incoming& message) = 0;
  virtual Result<void> shutdown(int how) = 0;
  virtual Result<Address> name() = 0;
  virtual Result<Address> peer_name() = 0;
  virtual Errno take_error() = 0;  // what SO_ERROR tells once; kOk

  // setsockopt(2), getsockopt(2). At most `room` bytes are returned.
  Result<void> set_option(SocketCaller& caller, int level, int option,
                          std::span<const std::byte> value);
  Result<std::vector<std::byte>> option(int level, int option, size_t room);

  Result<void> sync(bool) override { return Errno::kInval; }
  // A message is sent whole or not at all.
  Result<void> cut_partial(IoBuffers&) const override { return Errno::kFault; }

 protected:
  struct Kind {
    int domain, type, protocol;
  };
  Socket(const vfs::OpenRequest& request, Kind kind);
  int protocol() const { return kind_.protocol; }

  // An inode in `mount`, the AnonymousFileSystem "sockfs", and what opens it.
  static vfs::OpenRequest open_request(const Ref<vfs::Mount>& mount, int flags,
                                       Ref<Credentials> credentials);

  // --- options that need the family
  virtual bool listening() = 0;                      // SO_ACCEPTCONN
  virtual ucred peer_identity() { return kNobody; }  // SO_PEERCRED
  virtual void options_changed() {}                  // of SOL_SOCKET
  virtual Result<void> set_family_option(int level, int option, std::span<const std::byte> value);
  virtual Result<std::vector<std::byte>> family_option(int level, int option);

 private:
  Result<std::vector<std::byte>> socket_option(int option);

  const Kind kind_;
  SocketOptions options_;
};

}  // namespace boxrun::net
