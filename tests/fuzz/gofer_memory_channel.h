// A channel whose incoming packets are cut out of one buffer: length[2], bytes. A tag of 0 stands
// for the tag of the last request, which depends on the CPU we run on.
#pragma once
#include <algorithm>
#include <cstring>

#include "gofer/channel.h"

namespace boxrun::gofer {

class MemoryChannel final : public Channel {
 public:
  explicit MemoryChannel(Data input) : input_(input) {}
  Result<void> send(Data packet, const FdList&) override {
    if (packet.size() >= kHeaderSize) std::memcpy(&tag_, packet.data() + kTagAt, sizeof tag_);
    return {};
  }
  Result<size_t> receive(std::span<std::byte> into, FdList& fds) override {
    fds.clear();
    uint16_t size = 0;
    if (input_.size() < sizeof size) return Errno::kPipe;
    std::memcpy(&size, input_.data(), sizeof size);
    input_ = input_.subspan(sizeof size);
    const size_t taken = std::min<size_t>(size, input_.size());
    std::ranges::copy(input_.first(taken), into.begin());
    input_ = input_.subspan(taken);
    if (taken >= kHeaderSize && into[kTagAt] == std::byte{} && into[kTagAt + 1] == std::byte{}) {
      std::memcpy(into.data() + kTagAt, &tag_, sizeof tag_);
    }
    return taken;
  }
  bool carries_fds() const override { return true; }
  void shut_down() override { input_ = {}; }

 private:
  static constexpr size_t kTagAt = 5;  // behind size[4] and type[1]
  Data input_;
  uint16_t tag_ = 0;
};

}  // namespace boxrun::gofer
