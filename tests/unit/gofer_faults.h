// A channel that goes wrong at a chosen moment.
#pragma once
#include <chrono>
#include <memory>
#include <thread>

#include "gofer/channel.h"

namespace boxrun::gofer {

class FaultyChannel final : public Channel {
 public:
  enum class Fault { kTruncate, kSendFails, kReceiveFails, kDropFds, kDelay, kCorrupt };
  struct Plan {
    Fault fault;
    int at;  // which packet is hit; of kCorrupt: which byte of every packet but the first two
  };
  static inline Plan plan{};
  static std::unique_ptr<Channel> wrap(std::unique_ptr<Channel> inner) {
    return std::make_unique<FaultyChannel>(std::move(inner), plan);
  }

  FaultyChannel(std::unique_ptr<Channel> inner, Plan what)
      : inner_(std::move(inner)), plan_(what) {}

  Result<void> send(Data packet, const FdList& fds) override {
    if (plan_.fault == Fault::kSendFails && sent_++ >= plan_.at) return Errno::kNoBufs;
    return inner_->send(packet, fds);
  }
  Result<size_t> receive(std::span<std::byte> into, FdList& fds) override {
    const size_t size = TRY(inner_->receive(into, fds));
    const int count = received_++;
    const bool hit = count >= plan_.at;
    switch (plan_.fault) {
      case Fault::kTruncate:
        return hit ? size / 2 : size;
      case Fault::kReceiveFails:
        if (hit) return Errno::kProto;
        break;
      case Fault::kDropFds:
        if (hit) fds.clear();
        break;
      case Fault::kDelay:
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        break;
      case Fault::kCorrupt:
        if (count >= 2 && static_cast<size_t>(plan_.at) < size)
          into[static_cast<size_t>(plan_.at)] ^= std::byte{0x55};
        break;
      case Fault::kSendFails:
        break;
    }
    return size;
  }
  bool carries_fds() const override { return inner_->carries_fds(); }
  void shut_down() override { inner_->shut_down(); }

 private:
  std::unique_ptr<Channel> inner_;
  const Plan plan_;
  int sent_ = 0, received_ = 0;
};

}  // namespace boxrun::gofer
