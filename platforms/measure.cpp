#include "platforms/measure.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace boxrun::platform {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kNumber = 39;
// mov $kNumber,%eax; syscall, as C libraries have it; jmp to the nop before it
constexpr std::array<unsigned char, 10> kCode{0x90, 0xb8, kNumber, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf6};
constexpr uint64_t kCallEnd = 8;
// Enough for a pair to be set apart (stub/placement.h).
constexpr int kWarmUp = 256;
constexpr int kBatch = 64;

// As a kernel would, lets the platform improve the call.
Result<void> make_calls(Context& context, AddressSpace& space, CpuState& cpu, uint64_t address,
                        int count) {
  for (int i = 0; i < count; i++) {
    const Stop stop = context.run(space, cpu);
    if (stop.why != Why::kSyscall || cpu.syscall_number() != kNumber) return Errno::kSrch;
    if (stop.hot) {
      std::array<std::byte, kPageSize> page{};
      std::memcpy(page.data(), kCode.data(), kCode.size());
      const Range spare{address + kPageSize, address + 2 * kPageSize};
      space.improve({address + kCallEnd, kNumber, page, spare});
    }
    cpu.set_result(kNumber);
  }
  return {};
}

}  // namespace

Result<std::chrono::nanoseconds> measure_call(Platform& platform, int memory_file) {
  if (::pwrite(memory_file, kCode.data(), kCode.size(), 0) < 0) return last_error();
  const uint64_t address = *page_up(platform.user_addresses().start);
  std::unique_ptr<AddressSpace> space = TRY(platform.new_address_space(nullptr));
  const Op map = Op::map({address, address + kPageSize}, memory_file, 0, Prot::kRead | Prot::kExec);
  TRY(space->apply({&map, 1}));
  std::unique_ptr<Context> context = TRY(platform.new_context());
  CpuState cpu(host_xstate_size());
  Registers registers{};
  registers.rip = address;
  registers.eflags = 0x202;
  cpu.reset(registers);
  TRY(make_calls(*context, *space, cpu, address, kWarmUp));
  std::array<std::chrono::nanoseconds, 5> batches{};
  for (auto& batch : batches) {
    const Clock::time_point start = Clock::now();
    TRY(make_calls(*context, *space, cpu, address, kBatch));
    batch = (Clock::now() - start) / kBatch;
  }
  std::ranges::nth_element(batches, batches.begin() + batches.size() / 2);
  return batches[batches.size() / 2];
}

}  // namespace boxrun::platform
