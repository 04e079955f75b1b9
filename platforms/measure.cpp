#include "platforms/measure.h"

#include <unistd.h>

#include <algorithm>
#include <array>

namespace boxrun::platform {
namespace {

using Clock = std::chrono::steady_clock;

// syscall; jmp to it
constexpr std::array<unsigned char, 4> kCode{0x0f, 0x05, 0xeb, 0xfc};
constexpr uint64_t kNumber = 39;
// Enough for a pair to be set apart (stub/placement.h).
constexpr int kWarmUp = 256;
constexpr int kBatch = 64;

Result<void> make_calls(Context& context, AddressSpace& space, CpuState& cpu, int count) {
  for (int i = 0; i < count; i++) {
    const Stop stop = context.run(space, cpu);
    if (stop.why != Why::kSyscall || cpu.syscall_number() != kNumber) return Errno::kSrch;
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
  registers.rax = kNumber;
  registers.eflags = 0x202;
  cpu.reset(registers);
  TRY(make_calls(*context, *space, cpu, kWarmUp));
  std::array<std::chrono::nanoseconds, 5> batches{};
  for (auto& batch : batches) {
    const Clock::time_point start = Clock::now();
    TRY(make_calls(*context, *space, cpu, kBatch));
    batch = (Clock::now() - start) / kBatch;
  }
  std::ranges::nth_element(batches, batches.begin() + batches.size() / 2);
  return batches[batches.size() / 2];
}

}  // namespace boxrun::platform
