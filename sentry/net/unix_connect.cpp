// AF_UNIX: names, and how two endpoints find and lose each other.
#include <algorithm>
#include <utility>

#include "sentry/net/unix_endpoint.h"

namespace boxrun::net {
namespace {

constexpr int kMaxBacklog = 4096;  // net.core.somaxconn

}  // namespace

Result<void> UnixEndpoint::begin_bind() {
  Lock lock(mutex_);
  if (naming_ != Naming::kNone) return Errno::kInval;
  naming_ = Naming::kInProgress;
  return {};
}

void UnixEndpoint::finish_bind(Address name, vfs::Path place) {
  Lock lock(mutex_);
  naming_ = name.empty() ? Naming::kNone : Naming::kNamed;
  name_ = std::move(name);
  place_ = std::move(place);
}

Result<void> UnixEndpoint::bind_abstract(const Address& name) {
  TRY(begin_bind());
  const auto claimed = system_->claim(name, *this);
  finish_bind(claimed.ok() ? name : Address(), {});
  return claimed.error();
}

Result<void> UnixEndpoint::autobind() {
  if (!begin_bind().ok()) return {};
  auto claimed = system_->claim_any(*this);
  finish_bind(claimed.ok() ? *claimed : Address(), {});
  return claimed.error();
}

void UnixEndpoint::make_pair(const Ref<UnixEndpoint>& a, const Ref<UnixEndpoint>& b,
                             const ucred& who) {
  const auto connect = [&](UnixEndpoint& one, const Ref<UnixEndpoint>& other) {
    Lock lock(one.mutex_);
    one.peer_ = other;
    one.peer_identity_ = who;
    one.state_ = State::kConnected;
    if (!one.has_connections()) one.add_sender(*other);
  };
  connect(*a, b);
  connect(*b, a);
}

Result<void> UnixEndpoint::listen(int backlog, const ucred& who) {
  if (!has_connections()) return Errno::kOpNotSupp;
  {
    Lock lock(mutex_);
    if (naming_ != Naming::kNamed) return Errno::kInval;
    if (state_ != State::kUnconnected && state_ != State::kListening) return Errno::kInval;
    state_ = State::kListening;
    peer_identity_ = who;  // what connecting sockets will be told
    backlog_ = static_cast<size_t>(
        std::min(static_cast<unsigned>(backlog), static_cast<unsigned>(kMaxBacklog)));
  }
  room_queue_.notify(kWritable, INT32_MAX);
  return {};
}

Result<void> UnixEndpoint::connect_to(UnixEndpoint& listener, const ucred& who) {
  {
    Lock lock(mutex_);
    if (state_ == State::kConnected) return Errno::kIsConn;
    if (state_ != State::kUnconnected) return Errno::kInval;
    state_ = State::kConnecting;  // against another thread's connect
  }
  const auto connected = [&]() -> Result<Ref<UnixEndpoint>> {
    auto other_end = TRY(create(system_, type_));
    Address name = listener.name();
    {
      Lock lock(other_end->mutex_);
      other_end->peer_ = Ref(this);
      other_end->peer_identity_ = who;
      other_end->state_ = State::kConnected;
      other_end->name_ = std::move(name);
      other_end->set_pass_credentials(true);  // until accept knows better (maybe_add_creds)
    }
    TRY(listener.queue_connection(other_end));
    return other_end;
  }();
  const ucred server = listener.peer_identity();
  Lock lock(mutex_);
  state_ = connected.ok() ? State::kConnected : State::kUnconnected;
  if (!connected.ok()) return connected.error();
  peer_ = *connected;
  peer_identity_ = server;
  return {};
}

Result<void> UnixEndpoint::queue_connection(const Ref<UnixEndpoint>& connection) {
  {
    Lock lock(mutex_);
    if (state_ != State::kListening || (shutdown_ & kNoReceive) != 0) return Errno::kConnRefused;
    if (connections_.size() > backlog_) return Errno::kAgain;
    connections_.push_back(connection);
  }
  queue_.notify(kReadable);
  return {};
}

Result<Ref<UnixEndpoint>> UnixEndpoint::accept() {
  if (!has_connections()) return Errno::kOpNotSupp;
  Ref<UnixEndpoint> connection;
  {
    Lock lock(mutex_);
    if (state_ != State::kListening) return Errno::kInval;
    if (connections_.empty()) {
      return (shutdown_ & kNoReceive) != 0 ? Errno::kInval : Errno::kAgain;
    }
    connection = std::move(connections_.front());
    connections_.pop_front();
  }
  room_queue_.notify(kWritable, INT32_MAX);
  return connection;
}

// The two locks order this against a send in the other direction, whose receiver checks its peer.
Result<void> UnixEndpoint::connect_datagrams(Ref<UnixEndpoint> to) {
  Queue lost;
  Ref<UnixEndpoint> before;
  {
    Lock lock(mutex_);
    before = std::exchange(peer_, nullptr);
    state_ = State::kUnconnected;
    // Who was connected has no use for what others have sent meanwhile.
    if (before && before.get() != to.get()) {
      lost.swap(messages_);
      unread_ = 0;
    }
  }
  if (before) {
    before->forget_sender(*this);
    if (!lost.empty() && before->peer().get() == this) {
      Lock lock(before->mutex_);
      before->error_ = Errno::kConnReset;
    }
  }
  if (!to) return {};
  const Lock2 both(mutex_, to->mutex_);
  if (to->state_ == State::kClosed) return Errno::kConnRefused;
  if (to->peer_ && to->peer_.get() != this) return Errno::kPerm;
  to->add_sender(*this);
  state_ = State::kConnected;
  peer_ = std::move(to);
  return {};
}

void UnixEndpoint::forget_sender(UnixEndpoint& sender) {
  Lock lock(mutex_);
  senders_.erase(&sender);
}

Result<void> UnixEndpoint::shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno::kInval;
  const auto bits = static_cast<uint8_t>(how + 1);
  Ref<UnixEndpoint> other;
  {
    Lock lock(mutex_);
    shutdown_ |= bits;
    if (has_connections()) other = peer_;
  }
  wake_all();
  room_queue_.notify(kWritable, INT32_MAX);
  if (other) {
    const bool reads = (bits & kNoReceive) != 0, sends = (bits & kNoSend) != 0;
    other->peer_shut_down(static_cast<uint8_t>((reads ? kNoSend : 0) | (sends ? kNoReceive : 0)));
  }
  return {};
}

void UnixEndpoint::peer_shut_down(uint8_t bits) {
  {
    Lock lock(mutex_);
    shutdown_ |= bits;
  }
  wake_all();
}

void UnixEndpoint::peer_closed(Errno error) {
  {
    Lock lock(mutex_);
    shutdown_ = kNoReceive | kNoSend;
    if (error != Errno::kOk) error_ = error;
  }
  wake_all();
}

// af_unix.c: unix_release_sock.
void UnixEndpoint::close(Close how) {
  Queue unread;
  std::deque<Ref<UnixEndpoint>> not_accepted;
  Ref<UnixEndpoint> other;
  Address name;
  vfs::Path place;
  {
    Lock lock(mutex_);
    state_ = State::kClosed;
    shutdown_ = kNoReceive | kNoSend;
    unread.swap(messages_);
    unread_ = 0;
    not_accepted.swap(connections_);
    other = std::exchange(peer_, nullptr);
    name = name_;
    place = std::exchange(place_, {});
  }
  if (place.dentry) {
    place.dentry->inode()->detach(*this);
  } else if (!name.empty()) {
    system_->give_up(name, *this);
  }
  if (other && has_connections()) {
    const bool lost = how == Close::kReset || !unread.empty();
    other->peer_closed(lost ? Errno::kConnReset : Errno::kOk);
  } else if (other) {
    other->forget_sender(*this);
  }
  for (const auto& connection : not_accepted) connection->close(Close::kReset);
  wake_all();
  room_queue_.notify(kWritable, INT32_MAX);
  for (const auto& sender : waiting_senders()) sender->queue_.notify(kWritable, INT32_MAX);
}

// Those whose next send will tell that nobody is here any more.
std::vector<Ref<UnixEndpoint>> UnixEndpoint::waiting_senders() {
  Lock lock(mutex_);
  return waiting_senders_locked();
}

std::vector<Ref<UnixEndpoint>> UnixEndpoint::waiting_senders_locked() {
  std::vector<Ref<UnixEndpoint>> senders;
  for (UnixEndpoint* sender : senders_) {
    if (sender->try_ref()) senders.push_back(adopt_ref(sender));
  }
  return senders;
}

}  // namespace boxrun::net
