#pragma once
#include <memory>

#include "platforms/platform.h"
#include "platforms/stub/placement.h"
#include "platforms/systrap/guest_process.h"

namespace boxrun::platform {

// Guest threads trap themselves: Syscall User Dispatch and a seccomp filter turn what they do into
// signals, whose handler hands the thread to the Sentry through shared memory. Needs no right to
// trace anybody.
class SystrapPlatform final : public Platform {
 public:
  // Before the Sentry is sealed, on a thread that lives as long as the process. `memory_file` as in
  // platform::Options. Null with `error` filled when the host does not let us.
  static std::unique_ptr<SystrapPlatform> create(int memory_file, StubError& error);

  ~SystrapPlatform() override;

  std::string_view name() const override { return "systrap"; }
  Range user_addresses() const override;
  Result<std::unique_ptr<AddressSpace>> new_address_space(AddressSpace* like) override;
  Result<std::unique_ptr<Context>> new_context() override;
  std::span<const HostSyscall> host_syscalls() const override;
  std::vector<Counter> counters() const override;

 private:
  SystrapPlatform(std::unique_ptr<Seed> seed, std::unique_ptr<ControlFile> control, int memory_file,
                  uint64_t lowest);
  // Traps a first guest thread as it will be done later; its process becomes the first address
  // space.
  bool prove(StubError& error);

  Stubs stubs_;
  Systrap systrap_;
  Placement placement_{Placement::Waiting::kAwake};
  const uint64_t lowest_;
  Mutex mutex_{Rank::kAddressSpace};
  Ref<GuestProcess> proven_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::platform
