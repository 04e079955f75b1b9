#include "sentry/net/unix_endpoint.h"

#include <utility>

namespace boxrun::net {

Result<Ref<UnixEndpoint>> UnixEndpoint::create(Ref<UnixSystem> system, int type) {
  TRY(system->endpoint_made());
  return adopt_ref(new UnixEndpoint(std::move(system), type));
}

UnixEndpoint::UnixEndpoint(Ref<UnixSystem> system, int type)
    : system_(std::move(system)), type_(type) {}

UnixEndpoint::~UnixEndpoint() { system_->endpoint_gone(); }

Ref<UnixEndpoint> UnixEndpoint::peer() {
  Lock lock(mutex_);
  return peer_;
}

ucred UnixEndpoint::peer_identity() {
  Lock lock(mutex_);
  return peer_identity_;
}

bool UnixEndpoint::listening() {
  Lock lock(mutex_);
  return state_ == State::kListening;
}

Address UnixEndpoint::name() {
  Lock lock(mutex_);
  return name_;
}

Errno UnixEndpoint::take_error() {
  Lock lock(mutex_);
  return std::exchange(error_, Errno::kOk);
}

size_t UnixEndpoint::unread_bytes() {
  Lock lock(mutex_);
  if (type_ == SOCK_STREAM) return unread_;
  return messages_.empty() ? 0 : messages_.front()->unread().size();
}

Result<void> UnixEndpoint::charge_sent(size_t bytes) {
  size_t sent = sent_.load(std::memory_order_relaxed);
  do {
    // Like sock_alloc_send_pskb: whoever finds any room at all may send one message.
    if (sent >= send_buffer_.load(std::memory_order_relaxed)) return Errno::kAgain;
  } while (!sent_.compare_exchange_weak(sent, sent + bytes, std::memory_order_relaxed));
  if (const auto charged = system_->charge(bytes); !charged.ok()) {
    sent_.fetch_sub(bytes, std::memory_order_relaxed);
    return charged.error();
  }
  return {};
}

void UnixEndpoint::release_sent(size_t bytes) {
  system_->release(bytes);
  sent_.fetch_sub(bytes, std::memory_order_relaxed);
  if (writable()) queue_.notify(kWritable, INT32_MAX);
}

// af_unix.c: unix_writable. A quarter, so that a sender is not woken for every message read.
bool UnixEndpoint::writable() const {
  return sent_.load(std::memory_order_relaxed) * 4 <= send_buffer_.load(std::memory_order_relaxed);
}

void UnixEndpoint::set_send_buffer(int bytes) {
  send_buffer_.store(static_cast<size_t>(bytes), std::memory_order_relaxed);
  queue_.notify(kWritable, INT32_MAX);
}

void UnixEndpoint::wake_all() {
  queue_.notify(kReadable | kWritable | kReadHangup | kHangup | kError, INT32_MAX);
}

// af_unix.c: unix_poll, unix_dgram_poll.
Events UnixEndpoint::ready() {
  Events events = 0;
  Ref<UnixEndpoint> to;
  {
    Lock lock(mutex_);
    if (error_ != Errno::kOk) events |= kError;
    if (shutdown_ == (kNoReceive | kNoSend)) events |= kHangup;
    if ((shutdown_ & kNoReceive) != 0) events |= kReadHangup | kReadable;
    if (!messages_.empty() || !connections_.empty()) events |= kReadable;
    const bool unconnected = state_ == State::kUnconnected || state_ == State::kConnecting;
    if (has_connections() && unconnected) events |= kHangup;
    if (state_ != State::kListening && writable()) events |= kWritable;
    if (!has_connections()) to = peer_;
  }
  if (to && (events & kWritable) != 0 && to->full_for(*this)) events &= ~kWritable;
  return events;
}

}  // namespace boxrun::net
