#pragma once
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <span>

#include "platforms/cpu_state.h"
#include "platforms/systrap/layout.h"
#include "src/base/result.h"

namespace boxrun::platform {

// What stopped a guest thread, copied once from the frame that the host kernel put on the alternate
// stack (arch/x86/kernel/signal_64.c), where guest code can write, too.
struct StopInfo {
  int signo = 0;
  siginfo_t info{};
  uint64_t error_code = 0;  // of a page fault
  Registers registers{};
};

// The frame of a stopped guest thread in its slot.
class SignalFrame {
 public:
  // `address` as the stub gave it; `slot` are the bytes of the slot, which the stub has at
  // `slot_address`. EFAULT unless all of the frame lies on the alternate stack.
  static Result<SignalFrame> at(uint64_t address, std::byte* slot, uint64_t slot_address);

  // Without fs_base and gs_base, which are not in it.
  StopInfo read(int signo) const;
  void set_result(uint64_t rax) const;
  void set_ip(uint64_t rip) const;
  // What the stub returns to. `registers` are anything a guest may have made up.
  void write(const Registers& registers) const;
  // The standard-format XSAVE area. EFAULT when it does not lie on the alternate stack.
  Result<void> read_xstate(std::span<std::byte> out) const;
  // Parts that the host would refuse are made acceptable.
  Result<void> write_xstate(std::span<const std::byte> from) const;

 private:
  SignalFrame(std::byte* frame, std::byte* slot, uint64_t slot_address)
      : frame_(frame), slot_(slot), slot_address_(slot_address) {}
  // The part of the area that the host made and that lies in the slot, at most `most` bytes.
  Result<std::span<std::byte>> xstate(size_t most) const;

  std::byte* frame_;
  std::byte* slot_;
  uint64_t slot_address_;
};

}  // namespace boxrun::platform
