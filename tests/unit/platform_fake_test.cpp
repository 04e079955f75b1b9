#include <sys/syscall.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "platforms/fake/fake_platform.h"
#include "tests/unit/platform_machine.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::platform;

namespace {

constexpr uint64_t kEntry = 0x400000;
constexpr uint64_t kHandler = 0x401000;
constexpr uint64_t kRestorer = 0x402000;
constexpr uint64_t kStackTop = kDataAddress + kPageSize;

struct FakeMachine {
  TestMemory memory;
  FakePlatform platform;
  std::unique_ptr<AddressSpace> space = std::move(platform.new_address_space(nullptr)).take();
  std::unique_ptr<Context> context = std::move(platform.new_context()).take();
  CpuState cpu{host_xstate_size()};

  explicit FakeMachine(FakePlatform::Program program) {
    platform.add_program(kEntry, std::move(program));
    Registers r{};
    r.rip = kEntry;
    r.rsp = kStackTop - 64;
    cpu.reset(r);
  }
  Stop run() { return context->run(*space, cpu); }
  void map_data() {
    const Op op =
        Op::map({kDataAddress, kDataAddress + kPageSize}, memory.fd(), kDataOffset, kReadWrite);
    REQUIRE(space->apply({&op, 1}).ok());
  }
};

}  // namespace

TEST_CASE("fake: a lambda makes system calls and gets their results") {
  FakeMachine m(FakePlatform::main([](FakeGuest& guest) {
    return static_cast<int>(guest.syscall(SYS_getpid, 1, 2, 3, 4, 5, 6));
  }));
  REQUIRE(m.run().why == Why::kSyscall);
  CHECK(m.cpu.syscall_number() == SYS_getpid);
  CHECK(m.cpu.syscall_arg(5) == 6);
  m.cpu.set_result(42);
  REQUIRE(m.run().why == Why::kSyscall);
  CHECK(m.cpu.syscall_number() == SYS_exit_group);
  CHECK(m.cpu.syscall_arg(0) == 42);
}

TEST_CASE("fake: a restarted system call is issued again with its arguments") {
  FakeMachine m([](FakeGuest& guest) { guest.syscall(SYS_read, 7); });
  REQUIRE(m.run().why == Why::kSyscall);
  Registers& r = m.cpu.registers_for_write();
  r.rip -= 2;
  r.rax = SYS_read;
  REQUIRE(m.run().why == Why::kSyscall);
  CHECK(m.cpu.syscall_number() == SYS_read);
  CHECK(m.cpu.syscall_arg(0) == 7);
}

TEST_CASE("fake: a signal handler runs over the interrupted lambda and returns to it") {
  int handled = 0;
  FakeMachine m([&](FakeGuest& guest) {
    guest.syscall(SYS_pause);
    guest.syscall(1000, handled);
  });
  m.map_data();
  m.platform.add_program(
      kHandler, [&](FakeGuest& guest) { handled = static_cast<int>(guest.registers().rdi); });
  m.platform.add_program(kRestorer, [](FakeGuest& guest) { guest.syscall(SYS_rt_sigreturn); });
  for (int round = 0; round < 3; round++) {
    if (round == 0) REQUIRE(m.run().why == Why::kSyscall);
    const Registers saved = m.cpu.registers();
    Registers& r = m.cpu.registers_for_write();
    r.rip = kHandler;
    r.rdi = static_cast<uint64_t>(SIGUSR1 + round);
    r.rsp -= 256;
    m.memory.set_word(kDataOffset + (r.rsp - kDataAddress), kRestorer);
    REQUIRE(m.run().why == Why::kSyscall);
    CHECK(m.cpu.syscall_number() == SYS_rt_sigreturn);
    CHECK(m.cpu.sp() == saved.rsp - 256 + 8);
    m.cpu.registers_for_write() = saved;
    m.cpu.set_result(0);
  }
  REQUIRE(m.run().why == Why::kSyscall);
  CHECK(m.cpu.syscall_number() == 1000);
  CHECK(m.cpu.syscall_arg(0) == SIGUSR1 + 2);
}

TEST_CASE("fake: a forked Context runs the child's lambda on a copy of the memory map") {
  FakeMachine m([](FakeGuest& guest) {
    const int64_t r = guest.syscall_for_child(
        [](FakeGuest& child) { child.syscall(1001, child.registers().rax); }, SYS_fork);
    guest.syscall(1000, r);
  });
  m.map_data();
  REQUIRE(m.run().why == Why::kSyscall);
  auto child_space = std::move(m.platform.new_address_space(m.space.get())).take();
  CpuState child_cpu(host_xstate_size());
  child_cpu.copy_from(m.cpu);
  child_cpu.set_result(0);
  m.cpu.set_result(55);
  std::thread child([&] {
    auto context = std::move(m.platform.new_context()).take();
    CHECK(context->run(*child_space, child_cpu).why == Why::kSyscall);
    CHECK(child_cpu.syscall_number() == 1001);
    CHECK(child_cpu.syscall_arg(0) == 0);
  });
  REQUIRE(m.run().why == Why::kSyscall);
  CHECK(m.cpu.syscall_number() == 1000);
  CHECK(m.cpu.syscall_arg(0) == 55);
  child.join();
}

TEST_CASE("fake: suspended lambdas are unwound with their Context") {
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watched = held;
  {
    FakeMachine m([held = std::move(held)](FakeGuest& guest) {
      const std::shared_ptr<int> on_stack = held;
      for (;;) guest.syscall(SYS_pause);
    });
    for (int i = 0; i < 10; i++) CHECK(m.run().why == Why::kSyscall);
  }
  CHECK(watched.expired());
}

TEST_CASE("fake: an access beyond the end of a mapped file is a bus error") {
  FakeMachine m([](FakeGuest& guest) { guest.read<uint64_t>(kDataAddress); });
  UniqueFd file(::memfd_create("short", MFD_CLOEXEC));
  const Op op = Op::map({kDataAddress, kDataAddress + kPageSize}, file.get(), 0, Prot::kRead);
  REQUIRE(m.space->apply({&op, 1}).ok());
  const Stop stop = m.run();
  REQUIRE(stop.why == Why::kTrap);
  CHECK(stop.signo == SIGBUS);
  CHECK(stop.code == BUS_ADRERR);
  CHECK(stop.addr == kDataAddress);
}

TEST_CASE("fake: a thousand system calls from each of many threads") {
  constexpr int kThreads = 8;
  constexpr int kCalls = 1000;
  TestMemory memory;
  FakePlatform platform;
  platform.add_program(kEntry, [](FakeGuest& guest) {
    for (;;) guest.syscall(1000);
  });
  std::atomic<int> calls = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; i++) {
    threads.emplace_back([&] {
      auto space = std::move(platform.new_address_space(nullptr)).take();
      auto context = std::move(platform.new_context()).take();
      CpuState cpu(host_xstate_size());
      Registers r{};
      r.rip = kEntry;
      cpu.reset(r);
      for (int n = 0; n < kCalls; n++) {
        if (context->run(*space, cpu).why != Why::kSyscall) break;
        cpu.set_result(0);
        calls++;
      }
    });
  }
  threads.clear();
  CHECK(calls == kThreads * kCalls);
}
