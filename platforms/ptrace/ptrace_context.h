#pragma once
#include <memory>

#include "platforms/platform.h"
#include "platforms/ptrace/stub_process.h"
#include "platforms/stub/doorbell.h"
#include "platforms/stub/placement.h"

namespace boxrun::platform {

// One guest thread: a stub thread in the process of the address space it runs in, traced by the
// host thread that owns this object.
class PtraceContext final : public Context, private RegisterSource {
 public:
  explicit PtraceContext(Placement& placement) : pair_(placement) {}
  ~PtraceContext() override;

  Stop run(AddressSpace& address_space, CpuState& cpu) override;
  void interrupt() override { doorbell_.ring(); }

 private:
  Result<void> move_to(const Ref<StubProcess>& process, CpuState& cpu);
  void leave();
  Result<void> write_back(CpuState& cpu);
  Result<Stop> run_until_stop(CpuState& cpu);
  // Nothing when the stop means nothing to the guest and it should go on.
  Result<std::optional<Stop>> handle_stop(int status, CpuState& cpu);
  Result<Stop> system_call(CpuState& cpu);
  Result<std::optional<Stop>> signal(int signo, CpuState& cpu);
  Result<std::optional<Stop>> vsyscall(const siginfo_t& info, CpuState& cpu);

  void fetch_registers(Registers& out) override;
  void fetch_xstate(std::span<std::byte> out) override;

  Ref<StubProcess> process_;
  std::unique_ptr<StubThread> thread_;
  Placement::Pair pair_;
  Doorbell doorbell_;
};

}  // namespace boxrun::platform
