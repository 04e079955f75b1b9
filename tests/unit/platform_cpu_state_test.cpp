#include <cstring>

#include "platforms/cpu_state.h"
#include "tests/unit/test.h"

using namespace boxrun::platform;

namespace {

class CountingSource final : public RegisterSource {
 public:
  void fetch_registers(Registers& out) override {
    register_fetches++;
    out = Registers{};
    out.rax = 1;
    out.rbx = 2;
    out.rip = 0x1000;
    out.rsp = 0x2000;
  }
  void fetch_xstate(std::span<std::byte> out) override {
    xstate_fetches++;
    initial_xstate(out);
  }
  int register_fetches = 0;
  int xstate_fetches = 0;
};

}  // namespace

TEST_CASE("a system call with a result fetches no registers") {
  CountingSource source;
  CpuState cpu(host_xstate_size());
  cpu.stopped_in_syscall(source, 39, {1, 2, 3, 4, 5, 6}, 0x1002, 0x2000);
  CHECK(cpu.syscall_number() == 39);
  CHECK(cpu.syscall_arg(5) == 6);
  CHECK(cpu.ip() == 0x1002);
  CHECK(cpu.sp() == 0x2000);
  cpu.set_result(7);
  CHECK(cpu.result_dirty());
  CHECK_FALSE(cpu.registers_dirty());
  CHECK(source.register_fetches == 0);
  // A fetch after set_result must not bring the old rax back.
  CHECK(cpu.registers().rax == 7);
  CHECK(cpu.registers().rbx == 2);
  CHECK(source.register_fetches == 1);
}

TEST_CASE("registers are fetched once per stop and written registers win") {
  CountingSource source;
  CpuState cpu(host_xstate_size());
  cpu.stopped(source);
  CHECK(cpu.ip() == 0x1000);
  cpu.registers_for_write().rip = 0x5000;
  CHECK(cpu.ip() == 0x5000);
  CHECK(cpu.registers_dirty());
  CHECK(source.register_fetches == 1);
  cpu.written();
  cpu.stopped(source);
  CHECK(cpu.ip() == 0x1000);
  CHECK(source.register_fetches == 2);
  CHECK(source.xstate_fetches == 0);
}

TEST_CASE("a clone gets the parent's registers and FP state, all to be written") {
  CountingSource source;
  CpuState parent(host_xstate_size());
  CpuState child(host_xstate_size());
  parent.stopped(source);
  parent.xstate_for_write()[100] = std::byte{0x5a};
  child.copy_from(parent);
  CHECK(child.registers_dirty());
  CHECK(child.xstate_dirty());
  CHECK(child.registers().rbx == 2);
  CHECK(child.xstate()[100] == std::byte{0x5a});
}

TEST_CASE("the initial FP state has the control words of execve") {
  CpuState cpu(host_xstate_size());
  cpu.reset(Registers{});
  uint16_t fcw;
  uint32_t mxcsr;
  std::memcpy(&fcw, &cpu.xstate()[0], sizeof fcw);
  std::memcpy(&mxcsr, &cpu.xstate()[24], sizeof mxcsr);
  CHECK(fcw == 0x37f);
  CHECK(mxcsr == 0x1f80);
  CHECK((host_xcr0() & 3) == 3);
  CHECK(host_xstate_size() >= 576);
}
