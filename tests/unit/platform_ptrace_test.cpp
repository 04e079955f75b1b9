// What only the ptrace platform has to show; what every platform must do is in
// platform_conformance_test.cpp.
#include <sys/syscall.h>

#include "platforms/ptrace/ptrace_platform.h"
#include "tests/unit/platform_machine.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::platform;

TEST_CASE("guest system calls are trapped with their arguments and get their results") {
  TestMemory memory;
  StubError error;
  auto platform = PtracePlatform::create(memory.fd(), error);
  REQUIRE_MESSAGE(platform != nullptr, error.step);
  auto space = platform->new_address_space(nullptr);
  REQUIRE(space.ok());
  REQUIRE(map_program(**space, memory).ok());
  auto context = platform->new_context();
  REQUIRE(context.ok());
  CpuState cpu(host_xstate_size());
  Registers r = registers_at(guest_syscall);
  r.rax = SYS_exit_group;
  r.rdi = 1;
  r.rsi = 2;
  r.rdx = 3;
  r.r10 = 4;
  r.r8 = 5;
  r.r9 = 6;
  cpu.reset(r);
  Stop stop = (*context)->run(**space, cpu);
  REQUIRE(stop.why == Why::kSyscall);
  CHECK(cpu.syscall_number() == SYS_exit_group);
  for (size_t i = 0; i < 6; i++) CHECK(cpu.syscall_arg(i) == i + 1);
  cpu.set_result(SYS_kill);
  stop = (*context)->run(**space, cpu);
  REQUIRE(stop.why == Why::kSyscall);
  CHECK(cpu.syscall_number() == SYS_kill);
  CHECK(cpu.ip() == guest_address(guest_syscall_done));
}
