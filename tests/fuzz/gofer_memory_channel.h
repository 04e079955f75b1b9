// A channel whose incoming packets are cut out of one buffer: length[2], bytes.
#pragma once
#include <algorithm>
#include <cstring>

#include "gofer/channel.h"

namespace boxrun::gofer {

class MemoryChannel final : public Channel {
 public:
  explicit MemoryChannel(Data input) : input_(input) {}
  Result<void> send(Data, const FdList&) override { return {}; }
  Result<size_t> receive(std::span<std::byte> into, FdList& fds) override {
    fds.clear();
    uint16_t size = 0;
    if (input_.size() < sizeof size) return Errno::kPipe;
    std::memcpy(&size, input_.data(), sizeof size);
    input_ = input_.subspan(sizeof size);
    const size_t taken = std::min<size_t>(size, input_.size());
    std::ranges::copy(input_.first(taken), into.begin());
    input_ = input_.subspan(taken);
    return taken;
  }
  bool carries_fds() const override { return true; }
  void shut_down() override { input_ = {}; }

 private:
  Data input_;
};

}  // namespace boxrun::gofer
