#include "sentry/net/socket_options.h"

#include <linux/capability.h>
#include <sys/time.h>

#include <algorithm>
#include <cstring>

#include "src/base/bytes.h"

namespace boxrun::net {
namespace {

// net/core/sock.c: what SO_SNDBUF and SO_RCVBUF are raised to at least, as getsockopt shows them.
constexpr int kMinSendBuffer = 4608;
constexpr int kMinReceiveBuffer = 2304;
constexpr int kMaxUnprivilegedPriority = 6;

// Options that are on or off. None of them changes what happens inside one sandbox but
// SO_PASSCRED, SO_REUSEADDR and SO_REUSEPORT; programs set them and expect to read them back.
constexpr int kFlags[] = {SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST, SO_KEEPALIVE, SO_OOBINLINE,
                          SO_NO_CHECK,  SO_REUSEPORT, SO_PASSCRED,  SO_TIMESTAMP, SO_TIMESTAMPNS};

// SO_*TIMEO_NEW: what 64-bit libraries never use, and the kernel knows all the same.
constexpr int kReceiveTimeoutNew = 66, kSendTimeoutNew = 67;

template <class T>
std::vector<std::byte> bytes_vector(const T& value) {
  const auto bytes = bytes_of(value);
  return {bytes.begin(), bytes.end()};
}

// The kernel doubles what it is asked for, to make up for its bookkeeping (socket(7)).
int doubled(int asked, int least) { return std::max(std::min(asked, kBufferDefault) * 2, least); }

}  // namespace

Result<int> int_option(std::span<const std::byte> value) {
  int number = 0;
  if (value.size() < sizeof number) return Errno::kInval;
  memcpy(&number, value.data(), sizeof number);
  return number;
}

std::vector<std::byte> option_bytes(int value) { return bytes_vector(value); }

bool SocketOptions::flag(int option) const {
  return (flags_.load(std::memory_order_relaxed) >> option & 1) != 0;
}

void SocketOptions::set_flag(int option, bool on) {
  const uint64_t bit = uint64_t{1} << option;
  on ? flags_.fetch_or(bit, std::memory_order_relaxed)
     : flags_.fetch_and(~bit, std::memory_order_relaxed);
}

std::optional<Nanos> SocketOptions::timeout(const std::atomic<Nanos>& value) {
  const Nanos now = value.load(std::memory_order_relaxed);
  if (now == kForever) return std::nullopt;
  return now;
}

void SocketOptions::set_buffers(int send, int receive) {
  send_buffer_.store(send, std::memory_order_relaxed);
  receive_buffer_.store(receive, std::memory_order_relaxed);
}

void SocketOptions::inherit(const SocketOptions& listener) {
  set_flag(SO_PASSCRED, listener.pass_credentials());
}

// net/core/sock.c: sock_set_timeout. A negative time is none at all: the call does not wait.
Result<void> SocketOptions::set_timeout(std::atomic<Nanos>& timeout,
                                        std::span<const std::byte> value) {
  timeval time{};
  if (value.size() < sizeof time) return Errno::kInval;
  memcpy(&time, value.data(), sizeof time);
  if (time.tv_usec < 0 || time.tv_usec >= 1'000'000) return Errno::kDom;
  const Nanos asked = from_timespec({time.tv_sec, time.tv_usec * 1000});
  timeout.store(asked == 0 ? kForever : std::max<Nanos>(asked, 0), std::memory_order_relaxed);
  return {};
}

Result<void> SocketOptions::set(const Credentials& who, int option,
                                std::span<const std::byte> value) {
  if (option == SO_RCVTIMEO || option == kReceiveTimeoutNew) {
    return set_timeout(receive_timeout_, value);
  }
  if (option == SO_SNDTIMEO || option == kSendTimeoutNew) return set_timeout(send_timeout_, value);
  const int number = TRY(int_option(value));
  if (std::ranges::find(kFlags, option) != std::end(kFlags)) {
    set_flag(option, number != 0);
    return {};
  }
  switch (option) {
    case SO_SNDBUF:
      send_buffer_.store(doubled(number, kMinSendBuffer), std::memory_order_relaxed);
      return {};
    case SO_RCVBUF:
      receive_buffer_.store(doubled(number, kMinReceiveBuffer), std::memory_order_relaxed);
      return {};
    case SO_RCVLOWAT:
      low_water_.store(number < 0 ? INT32_MAX : std::max(number, 1), std::memory_order_relaxed);
      return {};
    case SO_PRIORITY:
      if ((number < 0 || number > kMaxUnprivilegedPriority) && !who.has_capability(CAP_NET_ADMIN)) {
        return Errno::kPerm;
      }
      priority_.store(number, std::memory_order_relaxed);
      return {};
    case SO_LINGER: {
      Linger wanted{};
      if (value.size() < sizeof wanted) return Errno::kInval;
      memcpy(&wanted, value.data(), sizeof wanted);
      if (wanted.l_onoff == 0) wanted.l_linger = linger_.load().l_linger;
      linger_.store(wanted);
      return {};
    }
    case SO_DEBUG:
      return number != 0 && !who.has_capability(CAP_NET_ADMIN) ? Result<void>(Errno::kAcces)
                                                               : Result<void>();
    case SO_SNDBUFFORCE:
    case SO_RCVBUFFORCE:
    case SO_MARK:
      return Errno::kPerm;
    default:
      return Errno::kNoProtoOpt;
  }
}

Result<std::vector<std::byte>> SocketOptions::get(int option) const {
  const auto time = [](std::optional<Nanos> timeout) {
    const timespec t = to_timespec(timeout.value_or(0));
    return bytes_vector(timeval{t.tv_sec, t.tv_nsec / 1000});
  };
  if (std::ranges::find(kFlags, option) != std::end(kFlags)) return option_bytes(flag(option));
  switch (option) {
    case SO_SNDBUF:
      return option_bytes(send_buffer());
    case SO_RCVBUF:
      return option_bytes(receive_buffer_.load(std::memory_order_relaxed));
    case SO_RCVLOWAT:
      return option_bytes(low_water());
    case SO_SNDLOWAT:
      return option_bytes(1);
    case SO_PRIORITY:
      return option_bytes(priority_.load(std::memory_order_relaxed));
    case SO_LINGER:
      return bytes_vector(linger_.load());
    case SO_RCVTIMEO:
    case kReceiveTimeoutNew:
      return time(receive_timeout());
    case SO_SNDTIMEO:
    case kSendTimeoutNew:
      return time(send_timeout());
    case SO_DEBUG:
    case SO_MARK:
      return option_bytes(0);
    default:
      return Errno::kNoProtoOpt;
  }
}

}  // namespace boxrun::net
