// How packets travel between the Sentry and the Gofer.
#pragma once
#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "gofer/protocol.h"
#include "src/base/fd.h"
#include "src/base/result.h"

namespace boxrun::gofer {

// The descriptors that came or go with one packet.
class FdList {
 public:
  size_t size() const { return size_; }
  bool full() const { return size_ == kMaxFds; }
  const UniqueFd& operator[](size_t i) const { return fds_[i]; }
  // False (and `fd` is closed) when the list is full.
  bool push(UniqueFd fd);
  // Takes the oldest that was not taken yet; empty when there is none left.
  UniqueFd take_next();
  void clear();
  // Some that came are missing, because this process may have no more descriptors.
  bool lost() const { return lost_; }
  void set_lost() { lost_ = true; }

 private:
  std::array<UniqueFd, kMaxFds> fds_;
  size_t size_ = 0;
  size_t next_ = 0;
  bool lost_ = false;
};

// One end of a connection that carries packets, each with a few descriptors, in order. Used by one
// thread at a time. A later implementation is a shared-memory ring, with a socket beside it for
// the descriptors: so a received packet is always in the receiver's own memory.
class Channel {
 public:
  virtual ~Channel() = default;

  // Sends one packet of at most kMaxMessage bytes. EPIPE when the peer is gone.
  virtual Result<void> send(Data packet, const FdList& fds) = 0;
  // Waits for the next packet and copies it to `into` (kMaxMessage bytes). EPIPE when the peer is
  // gone, EPROTO when it sent a packet or a list of descriptors that is too long.
  virtual Result<size_t> receive(std::span<std::byte> into, FdList& fds) = 0;
  virtual bool carries_fds() const = 0;
  // Makes both directions fail, here and at the peer; wakes a receive that waits. Any thread.
  virtual void shut_down() = 0;
};

// A SOCK_SEQPACKET socket: one packet is one message of the host's.
class PacketChannel final : public Channel {
 public:
  explicit PacketChannel(UniqueFd socket) : socket_(std::move(socket)) {}
  Result<void> send(Data packet, const FdList& fds) override;
  Result<size_t> receive(std::span<std::byte> into, FdList& fds) override;
  bool carries_fds() const override { return true; }
  void shut_down() override;

 private:
  UniqueFd socket_;
};

// A stream socket as plain 9P uses it: packets are told apart by their leading length. It carries
// no descriptors: sending some is EOPNOTSUPP, received ones are closed.
class StreamChannel final : public Channel {
 public:
  explicit StreamChannel(UniqueFd socket) : socket_(std::move(socket)) {}
  Result<void> send(Data packet, const FdList& fds) override;
  Result<size_t> receive(std::span<std::byte> into, FdList& fds) override;
  bool carries_fds() const override { return false; }
  void shut_down() override;

 private:
  Result<void> receive_exactly(std::span<std::byte> into);
  UniqueFd socket_;
};

struct ChannelPair {
  UniqueFd client, server;
};
// The two ends for a PacketChannel, close-on-exec. Made before the Sentry is sealed.
Result<ChannelPair> make_channel_pair();

}  // namespace boxrun::gofer
