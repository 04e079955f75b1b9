#pragma once
#include <memory>

#include "platforms/platform.h"
#include "platforms/ptrace/stub_process.h"
#include "platforms/stub/placement.h"

namespace boxrun::platform {

// The portable reference: guest code runs in stub processes under PTRACE_SYSEMU. Needs nothing but
// permission to trace its own children. See platforms/README.md.
class PtracePlatform final : public Platform {
 public:
  // Before the Sentry is sealed, on a thread that lives as long as the process. `memory_file` as in
  // platform::Options. Null with `error` filled when the host does not let us.
  static std::unique_ptr<PtracePlatform> create(int memory_file, StubError& error);

  std::string_view name() const override { return "ptrace"; }
  Range user_addresses() const override;
  Result<std::unique_ptr<AddressSpace>> new_address_space(AddressSpace* like) override;
  Result<std::unique_ptr<Context>> new_context() override;
  std::span<const HostSyscall> host_syscalls() const override;

 private:
  PtracePlatform(std::unique_ptr<Seed> seed, int memory_file, uint64_t lowest);
  // Traces a first stub as it will be done later; it becomes the first address space.
  bool prove(StubError& error);

  Stubs stubs_;
  Placement placement_{Placement::Waiting::kAsleep};
  const uint64_t lowest_;
  Mutex mutex_{Rank::kAddressSpace};
  Ref<StubProcess> proven_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::platform
