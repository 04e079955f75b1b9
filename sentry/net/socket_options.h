#pragma once
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sentry/cred/credentials.h"
#include "sentry/time/clock.h"
#include "src/base/result.h"

namespace boxrun::net {

// net.core.wmem_default and its maximum, in bytes (socket(7)).
inline constexpr int kBufferDefault = 212992;

// The options of level SOL_SOCKET that are values and no more (socket(7)). Any thread.
class SocketOptions {
 public:
  // ENOPROTOOPT for what is not one of them; EINVAL, EDOM, EPERM.
  Result<void> set(const Credentials& who, int option, std::span<const std::byte> value);
  Result<std::vector<std::byte>> get(int option) const;

  // What new sockets of a family have, in bytes.
  void set_buffers(int send, int receive);

  bool reuse_address() const { return flag(SO_REUSEADDR); }
  bool reuse_port() const { return flag(SO_REUSEPORT); }
  bool pass_credentials() const { return flag(SO_PASSCRED); }
  int send_buffer() const { return send_buffer_.load(std::memory_order_relaxed); }
  int low_water() const { return low_water_.load(std::memory_order_relaxed); }
  // SO_RCVTIMEO, SO_SNDTIMEO: none waits forever.
  std::optional<Nanos> receive_timeout() const { return timeout(receive_timeout_); }
  std::optional<Nanos> send_timeout() const { return timeout(send_timeout_); }

  // What an accepted socket has of its listener (net/unix/af_unix.c: unix_sock_inherit_flags).
  void inherit(const SocketOptions& listener);

 private:
  static constexpr Nanos kForever = -1;
  static std::optional<Nanos> timeout(const std::atomic<Nanos>& value);
  bool flag(int option) const;
  void set_flag(int option, bool on);
  Result<void> set_timeout(std::atomic<Nanos>& timeout, std::span<const std::byte> value);

  std::atomic<uint64_t> flags_{0};  // one bit for each option that is on or off
  std::atomic<int> send_buffer_{kBufferDefault};
  std::atomic<int> receive_buffer_{kBufferDefault};
  std::atomic<int> low_water_{1};
  std::atomic<int> priority_{0};
  // Aligned like an integer of its size, or clang calls a library for its atomics.
  struct alignas(8) Linger : linger {};
  std::atomic<Linger> linger_{Linger{}};
  std::atomic<Nanos> receive_timeout_{kForever};
  std::atomic<Nanos> send_timeout_{kForever};
};

// The value of an option that is an int: EINVAL when it is too short.
Result<int> int_option(std::span<const std::byte> value);
std::vector<std::byte> option_bytes(int value);

}  // namespace boxrun::net
