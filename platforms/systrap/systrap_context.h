#pragma once
#include <array>
#include <optional>

#include "platforms/platform.h"
#include "platforms/stub/doorbell.h"
#include "platforms/stub/placement.h"
#include "platforms/systrap/guest_process.h"
#include "platforms/systrap/signal_frame.h"

namespace boxrun::platform {

class SystrapContext final : public Context, private RegisterSource {
 public:
  SystrapContext(Placement& placement, StopTotals& totals) : pair_(placement), counter_(totals) {}
  ~SystrapContext() override;

  Stop run(AddressSpace& address_space, CpuState& cpu) override;
  void interrupt() override { doorbell_.ring(); }

 private:
  Result<void> move_to(const Ref<GuestProcess>& process, CpuState& cpu);
  void leave();
  Result<void> write_back(CpuState& cpu);
  Result<Stop> run_until_stop(CpuState& cpu);
  void resume();
  void look();
  // Returns once the stub has handed the thread over.
  // `Patience::kLittle`: it is our own code that runs, and nobody may have to interrupt it.
  enum class Patience : uint8_t { kEndless, kLittle };
  Result<void> wait_for_stop(Patience patience = Patience::kEndless);
  // Nothing when the stop means nothing to the guest and it should go on.
  Result<std::optional<Stop>> handle_stop(CpuState& cpu);
  Stop system_call(CpuState& cpu);
  // A stop at a patched call site: without a frame.
  Result<Stop> patched_call(CpuState& cpu);
  // Makes it a stop with one.
  Result<void> give_all();
  void take_all();
  void read_frame();
  bool is_hot(uint64_t ip);
  std::optional<Stop> exception(CpuState& cpu);

  void fetch_registers(Registers& out) override;
  void fetch_xstate(std::span<std::byte> out) override;

  ThreadSlot& slot() const { return process_->slot(thread_); }

  Ref<GuestProcess> process_;
  SystrapThread thread_;
  std::optional<SignalFrame> frame_;  // of the thread while it is stopped
  StopInfo stop_;
  bool at_patched_call_ = false;  // frame_ and stop_ are not of this stop
  bool broken_ = false;           // it could not be made one with a frame
  uint64_t call_number_ = 0;      // of a patched call
  uint64_t call_ip_ = 0;
  struct CallCount {
    uint64_t ip = 0;
    uint32_t calls = 0;
  };
  std::array<CallCount, 32> counts_{};  // of call instructions that trapped, by their address
  Placement::Pair pair_;
  Doorbell doorbell_;
  StopCounter counter_;
};

}  // namespace boxrun::platform
