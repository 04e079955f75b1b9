#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_set>
#include <vector>

#include "sentry/net/socket.h"
#include "sentry/net/unix_message.h"
#include "sentry/net/unix_system.h"
#include "sentry/vfs/mount.h"
#include "sentry/wait/wait.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::net {

// What other sockets know of an AF_UNIX socket (struct unix_sock): its receive queue, its peer, who
// waits for it. It exists before accept(2) has made a socket of it, and after close(2) while a peer
// or a message refers to it.
//
// Both ends of a direction, the senders and the receiver, share the lock of the receiving endpoint.
// No thread holds the locks of two endpoints but connect_datagrams, by Lock2. References are
// dropped, and queues notified, without the lock. Errors are those of Linux (net/unix/af_unix.c).
class UnixEndpoint final : public RefCounted {
 public:
  // ENFILE. `type`: SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET.
  static Result<Ref<UnixEndpoint>> create(Ref<UnixSystem> system, int type);
  ~UnixEndpoint() override;

  UnixSystem& system() const { return *system_; }
  int type() const { return type_; }
  bool has_connections() const { return type_ != SOCK_DGRAM; }
  WaitQueue& queue() { return queue_; }
  // Where those wait who have found the receive queue, or the backlog, full.
  WaitQueue& room_queue() { return room_queue_; }

  // --- names (unix_connect.cpp)
  // Abstract or made up (`name` without a path): EADDRINUSE; EINVAL when it has a name, or is just
  // getting one.
  Result<void> bind_abstract(const Address& name) EXCLUDES(mutex_);
  Result<void> autobind() EXCLUDES(mutex_);  // does nothing when it has a name
  // A path, in two steps, since the inode is made between them: an empty name gives up.
  Result<void> begin_bind() EXCLUDES(mutex_);
  void finish_bind(Address name, vfs::Path place) EXCLUDES(mutex_);
  Address name() EXCLUDES(mutex_);

  // --- connections (unix_connect.cpp)
  static void make_pair(const Ref<UnixEndpoint>& a, const Ref<UnixEndpoint>& b, const ucred& who);
  Result<void> listen(int backlog, const ucred& who) EXCLUDES(mutex_);
  // kAgain when the backlog is full.
  Result<void> connect_to(UnixEndpoint& listener, const ucred& who) EXCLUDES(mutex_);
  // Of datagram sockets: where send goes, and who alone may send here; null: nowhere, and all.
  Result<void> connect_datagrams(Ref<UnixEndpoint> to) EXCLUDES(mutex_);
  Result<Ref<UnixEndpoint>> accept() EXCLUDES(mutex_);
  Ref<UnixEndpoint> peer() EXCLUDES(mutex_);  // null
  ucred peer_identity() EXCLUDES(mutex_);     // kNobody
  bool listening() EXCLUDES(mutex_);
  Result<void> shutdown(int how) EXCLUDES(mutex_);
  // The socket is gone. kReset: its peer has lost something even if the queue is empty.
  enum class Close : uint8_t { kOrderly, kReset };
  void close(Close how = Close::kOrderly) EXCLUDES(mutex_);

  // --- data (unix_transfer.cpp); see Socket::send and receive
  Result<size_t> send_stream(SocketCaller& caller, Outgoing& message) EXCLUDES(mutex_);
  // To `to`, or to the peer when it is null.
  Result<size_t> send_packet(SocketCaller& caller, Ref<UnixEndpoint> to, Outgoing& message,
                             WaitPlace& place) EXCLUDES(mutex_);
  Result<size_t> receive_stream(Incoming& message) EXCLUDES(mutex_);
  Result<size_t> receive_packet(Incoming& message) EXCLUDES(mutex_);
  Events ready() EXCLUDES(mutex_);
  size_t unread_bytes() EXCLUDES(mutex_);  // FIONREAD: of a stream all, else of the first packet
  size_t unsent_bytes() const { return sent_.load(std::memory_order_relaxed); }  // SIOCOUTQ
  Errno take_error() EXCLUDES(mutex_);

  // --- copies of the socket's options
  void set_send_buffer(int bytes);
  void set_pass_credentials(bool on) { pass_credentials_.store(on, std::memory_order_relaxed); }
  bool pass_credentials() const { return pass_credentials_.load(std::memory_order_relaxed); }

  // --- for UnixMessage: what this socket has sent and nobody has read
  Result<void> charge_sent(size_t bytes);  // EAGAIN when the buffer is full, ENOBUFS
  void release_sent(size_t bytes);

 private:
  using Queue = std::deque<std::unique_ptr<UnixMessage>>;
  enum class State : uint8_t { kUnconnected, kConnecting, kConnected, kListening, kClosed };
  enum class Naming : uint8_t { kNone, kInProgress, kNamed };
  // Bits of shutdown_, as in struct sock.
  static constexpr uint8_t kNoReceive = 1, kNoSend = 2;
  static constexpr size_t kMaxPackets = 10;  // net.unix.max_dgram_qlen

  UnixEndpoint(Ref<UnixSystem> system, int type);

  // --- on the other end's behalf
  Result<void> queue_connection(const Ref<UnixEndpoint>& connection) EXCLUDES(mutex_);
  void peer_closed(Errno error) EXCLUDES(mutex_);
  void peer_shut_down(uint8_t bits) EXCLUDES(mutex_);
  void add_sender(UnixEndpoint& sender) REQUIRES(mutex_) { senders_.insert(&sender); }
  void forget_sender(UnixEndpoint& sender) EXCLUDES(mutex_);
  // Takes the message, and the files with it; neither when it fails.
  Result<void> deliver(const UnixEndpoint& sender, std::unique_ptr<UnixMessage>& message,
                       std::vector<Ref<vfs::FileDescription>>& files, uint64_t file_limit)
      EXCLUDES(mutex_);
  Result<void> may_deliver_locked(const UnixEndpoint& sender) const REQUIRES(mutex_);
  bool full_locked(const UnixEndpoint& sender) const REQUIRES(mutex_);
  bool full_for(const UnixEndpoint& sender) EXCLUDES(mutex_);

  // --- on one's own
  Result<Ref<UnixEndpoint>> target() EXCLUDES(mutex_);  // the peer: ENOTCONN
  Result<void> may_send() EXCLUDES(mutex_);             // EPIPE
  Result<std::unique_ptr<UnixMessage>> pack(const SocketCaller& caller, const Outgoing& out,
                                            IoBuffers& data, size_t size, const UnixEndpoint& to);
  Result<size_t> send_piece(SocketCaller& caller, Outgoing& out, UnixEndpoint& to);
  Result<size_t> nothing_there_locked(const Incoming& in) REQUIRES(mutex_);
  Result<void> read_pieces(Incoming& in, Queue& read, size_t& done) REQUIRES(mutex_);
  Result<bool> read_piece(UnixMessage& message, Incoming& in, size_t& done) REQUIRES(mutex_);
  std::vector<Ref<UnixEndpoint>> waiting_senders() EXCLUDES(mutex_);
  std::vector<Ref<UnixEndpoint>> waiting_senders_locked() REQUIRES(mutex_);
  bool writable() const;
  void wake_all();

  const Ref<UnixSystem> system_;
  const int type_;
  WaitQueue queue_, room_queue_;
  std::atomic<size_t> sent_{0};
  std::atomic<size_t> send_buffer_{kBufferDefault};
  std::atomic<bool> pass_credentials_{false};

  Mutex mutex_{Rank::kPipe};
  State state_ GUARDED_BY(mutex_) = State::kUnconnected;
  uint8_t shutdown_ GUARDED_BY(mutex_) = 0;
  Errno error_ GUARDED_BY(mutex_) = Errno::kOk;  // reported once, then forgotten
  Naming naming_ GUARDED_BY(mutex_) = Naming::kNone;
  Address name_ GUARDED_BY(mutex_);
  vfs::Path place_ GUARDED_BY(mutex_);  // of the inode it is bound to
  Ref<UnixEndpoint> peer_ GUARDED_BY(mutex_);
  ucred peer_identity_ GUARDED_BY(mutex_) = kNobody;
  Queue messages_ GUARDED_BY(mutex_);
  size_t unread_ GUARDED_BY(mutex_) = 0;  // bytes in it
  // Datagram sockets that are connected to this one; forget_sender() comes before their end.
  std::unordered_set<UnixEndpoint*> senders_ GUARDED_BY(mutex_);
  size_t backlog_ GUARDED_BY(mutex_) = 0;
  std::deque<Ref<UnixEndpoint>> connections_ GUARDED_BY(mutex_);  // not accepted yet
};

}  // namespace boxrun::net
