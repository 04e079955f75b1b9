// AF_UNIX: what goes from one endpoint to another.
#include <algorithm>
#include <utility>

#include "sentry/net/unix_endpoint.h"

namespace boxrun::net {
namespace {

// The largest piece of a stream in one message (UNIX_SKB_FRAGS_SZ).
constexpr size_t kMaxPiece = 32768;
// What recvmsg tells of a message whose sender was not recorded.
constexpr ucred kUnknownSender{0, 65534, 65534};

bool same(const ucred& a, const ucred& b) {
  return a.pid == b.pid && a.uid == b.uid && a.gid == b.gid;
}

}  // namespace

Result<Ref<UnixEndpoint>> UnixEndpoint::target() {
  Lock lock(mutex_);
  if (!peer_) return Errno::kNotConn;
  return peer_;
}

Result<void> UnixEndpoint::may_send() {
  Lock lock(mutex_);
  return (shutdown_ & kNoSend) != 0 ? Result<void>(Errno::kPipe) : Result<void>();
}

// A message of up to `size` bytes of `data`, with the credentials that go with it.
Result<std::unique_ptr<UnixMessage>> UnixEndpoint::pack(const SocketCaller& caller,
                                                        const Outgoing& out, IoBuffers& data,
                                                        size_t size, const UnixEndpoint& to) {
  auto message = TRY(UnixMessage::create(Ref(this), data, size));
  message->credentials = out.credentials;
  if (!out.credentials && (pass_credentials() || to.pass_credentials())) {
    message->credentials = caller.sending();
  }
  return message;
}

// af_unix.c: unix_stream_sendmsg.
Result<size_t> UnixEndpoint::send_stream(SocketCaller& caller, Outgoing& out) {
  const Ref<UnixEndpoint> to = TRY(target());
  TRY(may_send());
  size_t done = 0;
  while (!out.data.empty()) {
    const auto sent = send_piece(caller, out, *to);
    if (!sent.ok()) return done > 0 ? Result<size_t>(done) : Result<size_t>(sent.error());
    done += *sent;
  }
  return done;
}

Result<size_t> UnixEndpoint::send_piece(SocketCaller& caller, Outgoing& out, UnixEndpoint& to) {
  if (const Errno error = take_error(); error != Errno::kOk) return error;
  // Half the buffer, so that the reader finds something while the writer goes on.
  const size_t most = std::min(kMaxPiece, send_buffer_.load(std::memory_order_relaxed) / 2 - 64);
  IoBuffers rest = out.data;
  auto message = TRY(pack(caller, out, rest, std::min(rest.remaining(), most), to));
  const size_t size = message->unread().size();
  TRY(to.deliver(*this, message, out.files, caller.open_file_limit));
  out.data = rest;
  return size;
}

// af_unix.c: unix_dgram_sendmsg, unix_seqpacket_sendmsg.
Result<size_t> UnixEndpoint::send_packet(SocketCaller& caller, Ref<UnixEndpoint> to, Outgoing& out,
                                         WaitPlace& place) {
  const bool to_peer = !to;
  if (to_peer) to = TRY(target());
  const size_t size = out.data.remaining();
  if (size > send_buffer_.load(std::memory_order_relaxed) - 32) return Errno::kMsgSize;
  if (const Errno error = take_error(); error != Errno::kOk) return error;
  TRY(may_send());
  IoBuffers rest = out.data;
  auto message = TRY(pack(caller, out, rest, size, *to));
  if (message->unread().size() < size) return Errno::kFault;
  const auto delivered = to->deliver(*this, message, out.files, caller.open_file_limit);
  if (delivered.ok()) {
    out.data = rest;
    return size;
  }
  if (delivered.error() == Errno::kAgain) place = {to, &to->room_queue_};
  if (delivered.error() == Errno::kConnRefused && to_peer) (void)connect_datagrams(nullptr);
  return delivered.error();
}

Result<void> UnixEndpoint::deliver(const UnixEndpoint& sender,
                                   std::unique_ptr<UnixMessage>& message,
                                   std::vector<Ref<vfs::FileDescription>>& files,
                                   uint64_t file_limit) {
  {
    Lock lock(mutex_);
    TRY(may_deliver_locked(sender));
    if (!files.empty()) TRY(message->attach(files, file_limit));
    unread_ += message->unread().size();
    messages_.push_back(std::move(message));
  }
  queue_.notify(kReadable);
  return {};
}

Result<void> UnixEndpoint::may_deliver_locked(const UnixEndpoint& sender) const {
  if (!has_connections()) {
    if (state_ == State::kClosed) return Errno::kConnRefused;
    if (peer_ && peer_.get() != &sender) return Errno::kPerm;
  }
  if ((shutdown_ & kNoReceive) != 0) return Errno::kPipe;
  return full_locked(sender) ? Result<void>(Errno::kAgain) : Result<void>();
}

// Between peers the send buffer is bound enough.
bool UnixEndpoint::full_locked(const UnixEndpoint& sender) const {
  return messages_.size() > kMaxPackets && &sender != this && peer_.get() != &sender;
}

bool UnixEndpoint::full_for(const UnixEndpoint& sender) {
  Lock lock(mutex_);
  return full_locked(sender);
}

// What there is to say when no message is there.
Result<size_t> UnixEndpoint::nothing_there_locked(const Incoming& in) {
  if (const Errno error = std::exchange(error_, Errno::kOk); error != Errno::kOk) return error;
  // A datagram socket that does not wait is not told of the end (unix_dgram_recvmsg).
  const bool tells_end = has_connections() || (in.flags & MSG_DONTWAIT) == 0;
  if ((shutdown_ & kNoReceive) != 0 && tells_end) return size_t{0};
  return Errno::kAgain;
}

// One message's part in receive_stream. False when it must not be read together with what came
// before it.
Result<bool> UnixEndpoint::read_piece(UnixMessage& message, Incoming& in, size_t& done) {
  const bool peek = (in.flags & MSG_PEEK) != 0;
  if (pass_credentials()) {
    const ucred sender = message.credentials.value_or(kUnknownSender);
    if (in.credentials && !same(*in.credentials, sender)) return false;
    in.credentials = sender;
  }
  const auto part = message.unread().first(std::min(message.unread().size(), in.data.remaining()));
  const size_t size = part.empty() ? 0 : TRY(in.data.put(part));
  done += size;
  if (message.has_files()) {
    in.files = peek ? message.files() : message.take_files();
    in.ended = true;
  }
  if (!peek) {
    message.consume(size);
    unread_ -= size;
  }
  return size == part.size() && !in.ended;
}

// af_unix.c: unix_stream_read_generic.
Result<size_t> UnixEndpoint::receive_stream(Incoming& in) {
  Queue read;  // dropped after the lock: that wakes senders
  Ref<UnixEndpoint> from;
  size_t done = 0;
  {
    Lock lock(mutex_);
    if (state_ != State::kConnected) return Errno::kInval;
    if (messages_.empty()) {
      in.ended = true;
      return nothing_there_locked(in);
    }
    from = Ref(&messages_.front()->from());
    TRY(read_pieces(in, read, done));
  }
  in.from = from->name();
  return done;
}

Result<void> UnixEndpoint::read_pieces(Incoming& in, Queue& read, size_t& done) {
  for (size_t i = 0; i < messages_.size();) {
    const auto more = read_piece(*messages_[i], in, done);
    if (!more.ok() && done == 0) return more.error();
    if (!more.ok() || !*more) in.ended = true;
    if (messages_[i]->unread().empty()) {
      read.push_back(std::move(messages_[i]));
      messages_.pop_front();
    } else {
      i++;
    }
    if (in.ended || in.data.empty()) break;
  }
  return {};
}

// af_unix.c: unix_dgram_recvmsg.
Result<size_t> UnixEndpoint::receive_packet(Incoming& in) {
  const bool peek = (in.flags & MSG_PEEK) != 0;
  std::unique_ptr<UnixMessage> taken;
  std::vector<Ref<UnixEndpoint>> woken;
  Ref<UnixEndpoint> from;
  size_t size = 0, copied = 0;
  {
    Lock lock(mutex_);
    if (has_connections() && state_ != State::kConnected) return Errno::kNotConn;
    if (error_ != Errno::kOk) return std::exchange(error_, Errno::kOk);
    if (messages_.empty()) return nothing_there_locked(in);
    UnixMessage& message = *messages_.front();
    from = Ref(&message.from());
    size = message.unread().size();
    const auto part = message.unread().first(std::min(size, in.data.remaining()));
    const auto put = part.empty() ? Result<size_t>(size_t{0}) : in.data.put(part);
    copied = put.ok() ? *put : 0;
    if (pass_credentials()) in.credentials = message.credentials.value_or(kUnknownSender);
    if (peek) in.files = message.files();
    if (!peek) {
      in.files = message.take_files();
      if (messages_.size() == kMaxPackets + 1) woken = waiting_senders_locked();
      taken = std::move(messages_.front());
      messages_.pop_front();
      unread_ -= size;
    }
    if (!put.ok()) return put.error();
  }
  if (taken) room_queue_.notify(kWritable, INT32_MAX);
  for (const auto& sender : woken) sender->queue_.notify(kWritable, INT32_MAX);
  in.from = from->name();
  if (copied < size) in.message_flags |= MSG_TRUNC;
  return (in.flags & MSG_TRUNC) != 0 ? size : copied;
}

}  // namespace boxrun::net
