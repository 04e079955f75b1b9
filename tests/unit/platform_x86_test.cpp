// What x86-64 guest code can see and do besides plain system calls: vector state, segment bases,
// exceptions, and the other ways into a kernel. Runs on every platform that runs machine code.
#include <sys/syscall.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "tests/unit/platform_suite.h"

using namespace boxrun;
using namespace boxrun::platform;

namespace {

constexpr uint64_t kFsBase = kDataAddress + 0x100;
constexpr uint64_t kGsBase = kDataAddress + 0x200;

bool has_avx2() { return __builtin_cpu_supports("avx2") && (host_xcr0() & 4) != 0; }
bool has_avx512() { return __builtin_cpu_supports("avx512f") && (host_xcr0() & 0xe0) == 0xe0; }

Stop run_trap(Machine& m, const char* label, uint64_t rbx, uint64_t* ip) {
  GuestThread t(*m.platform, m.add_program());
  t.start(label, rbx);
  const Stop stop = t.run();
  *ip = t.cpu.ip();
  return stop;
}

}  // namespace

TEST_CASE("AVX registers and segment bases survive system calls and injected work") {
  if (!has_avx2()) return;
  on_platforms(Which::kRealCode, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    m.memory.set_word(kDataOffset + 0x100, 111);
    m.memory.set_word(kDataOffset + 0x200, 222);
    Registers r = registers_at(guest_vector);
    r.rbx = 0x1122334455667788;
    r.fs_base = kFsBase;
    r.gs_base = kGsBase;
    t.cpu.reset(r);
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 1003);
    const Op op = map_page(0x20000000, m.memory, kDataOffset, Prot::kRead);
    REQUIRE(m.space->apply({&op, 1}).ok());
    REQUIRE(t.run_with(0).why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 1004);
    CHECK(t.cpu.syscall_arg(0) == 0x1122334455667788);
    CHECK(t.cpu.syscall_arg(1) == 111);
    CHECK(t.cpu.syscall_arg(2) == 222);
    CHECK(t.cpu.registers().fs_base == kFsBase);
    CHECK(t.cpu.registers().gs_base == kGsBase);
  });
}

TEST_CASE("written vector state and segment bases reach the guest") {
  if (!has_avx2()) return;
  on_platforms(Which::kRealCode, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    m.memory.set_word(kDataOffset + 0x100, 111);
    m.memory.set_word(kDataOffset + 0x200, 222);
    Registers r = registers_at(guest_vector);
    r.rbx = 0x0101010101010101;
    r.fs_base = kFsBase;
    r.gs_base = kFsBase;
    t.cpu.reset(r);
    REQUIRE(t.run().why == Why::kSyscall);
    // The upper half of ymm15: standard format, 16 bytes a register from offset 576 on.
    const uint64_t value = 0x7777;
    std::memcpy(&t.cpu.xstate_for_write()[576 + 15 * 16], &value, sizeof value);
    t.cpu.registers_for_write().gs_base = kGsBase;
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 1004);
    CHECK(t.cpu.syscall_arg(0) == value);
    CHECK(t.cpu.syscall_arg(1) == 111);
    CHECK(t.cpu.syscall_arg(2) == 222);
  });
}

TEST_CASE("AVX-512 registers survive system calls and are copied to a new thread") {
  if (!has_avx512()) {
    MESSAGE("SKIPPED: this CPU has no AVX-512");
    return;
  }
  on_platforms(Which::kRealCode, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_vector512, 0xfeedfacecafebeef);
    REQUIRE(t.run().why == Why::kSyscall);
    CpuState copy(host_xstate_size());
    copy.copy_from(t.cpu);
    std::thread clone([&] {
      GuestThread c(*m.platform, *m.space);
      c.cpu.copy_from(copy);
      c.cpu.set_result(0);
      REQUIRE(c.run().why == Why::kSyscall);
      CHECK(c.cpu.syscall_number() == 1004);
      CHECK(c.cpu.syscall_arg(0) == 0xfeedfacecafebeef);
    });
    clone.join();
    REQUIRE(t.run_with(0).why == Why::kSyscall);
    CHECK(t.cpu.syscall_arg(0) == 0xfeedfacecafebeef);
  });
}

TEST_CASE("a Context that moves takes along what the caller did not replace") {
  if (!has_avx2()) return;
  on_platforms(Which::kRealCode, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    Registers r = registers_at(guest_vector);
    r.rbx = 0x4242;
    r.fs_base = kFsBase;
    r.gs_base = kGsBase;
    t.cpu.reset(r);
    REQUIRE(t.run().why == Why::kSyscall);
    auto other = std::move(m.platform->new_address_space(m.space.get())).take();
    t.space = other.get();
    REQUIRE(t.run_with(0).why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 1004);
    CHECK(t.cpu.syscall_arg(0) == 0x4242);
    t.context.reset();
  });
}

TEST_CASE("exceptions have the signal, code and address that Linux gives them") {
  on_platforms(Which::kRealCode, [](Machine& m) {
    uint64_t ip = 0;
    Stop stop = run_trap(m, guest_int3, 0, &ip);
    CHECK(stop.why == Why::kTrap);
    CHECK(stop.signo == SIGTRAP);
    CHECK(stop.code == SI_KERNEL);
    CHECK(ip == guest_address(guest_int3_done));

    stop = run_trap(m, guest_undefined, 0, &ip);
    CHECK(stop.why == Why::kTrap);
    CHECK(stop.signo == SIGILL);
    CHECK(stop.code == ILL_ILLOPN);
    CHECK(stop.addr == guest_address(guest_undefined));

    stop = run_trap(m, guest_divide, 0, &ip);
    CHECK(stop.why == Why::kTrap);
    CHECK(stop.signo == SIGFPE);
    CHECK(stop.code == FPE_INTDIV);
    CHECK(stop.addr == ip);

    stop = run_trap(m, guest_privileged, 0, &ip);
    CHECK(stop.why == Why::kTrap);
    CHECK(stop.signo == SIGSEGV);
    CHECK(stop.code == SI_KERNEL);
    CHECK(stop.addr == 0);

    stop = run_trap(m, guest_load, 0x8000'0000'0000'0000, &ip);  // not canonical
    CHECK(stop.why == Why::kTrap);
    CHECK(stop.signo == SIGSEGV);
    CHECK(stop.code == SI_KERNEL);
    CHECK(stop.addr == 0);

    stop = run_trap(m, guest_single_step, 0, &ip);
    CHECK(stop.why == Why::kTrap);
    CHECK(stop.signo == SIGTRAP);
    CHECK(stop.code == TRAP_TRACE);
    CHECK(ip == guest_address(guest_single_step_done));

    stop = run_trap(m, guest_misaligned, kDataAddress, &ip);
    CHECK(stop.why == Why::kTrap);
    CHECK(stop.signo == SIGBUS);
    CHECK(stop.code == BUS_ADRALN);
  });
}

TEST_CASE("kernel addresses fault like any other that is not mapped") {
  on_platforms(Which::kRealCode, [](Machine& m) {
    for (const uint64_t address : {0xffff'8000'0000'0000, 0xffff'ffff'ff60'0000, uint64_t{0}}) {
      uint64_t ip = 0;
      const Stop stop = run_trap(m, guest_load, address, &ip);
      CHECK(stop.why == Why::kFault);
      CHECK(stop.addr == address);
      CHECK(ip == guest_address(guest_load));
    }
  });
}

TEST_CASE("system calls of other architectures are trapped and named") {
  on_platforms(Which::kRealCode, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_int80);
    Stop stop = t.run();
    REQUIRE(stop.why == Why::kSyscall);
    CHECK(stop.arch == Arch::kI386);
    CHECK(t.cpu.syscall_number() == 20);
    stop = t.run_with(static_cast<uint64_t>(-ENOSYS));
    REQUIRE(stop.why == Why::kSyscall);
    CHECK(stop.arch == Arch::kX86_64);
    CHECK(t.cpu.syscall_number() == 1002);
    CHECK(t.cpu.syscall_arg(0) == static_cast<uint64_t>(-ENOSYS));

    t.start(guest_x32);
    stop = t.run();
    REQUIRE(stop.why == Why::kSyscall);
    CHECK(stop.arch == Arch::kX32);
    CHECK(t.cpu.syscall_number() == 39);
    stop = t.run_with(static_cast<uint64_t>(-ENOSYS));
    REQUIRE(stop.why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 1002);
    CHECK(t.cpu.syscall_arg(0) == static_cast<uint64_t>(-ENOSYS));
  });
}

TEST_CASE("vsyscall page calls are trapped, and return to their caller with our result") {
  constexpr uint64_t kPage = 0xffffffffff600000;
  const struct {
    uint64_t entry;
    uint64_t number;
  } calls[] = {{kPage, SYS_gettimeofday}, {kPage + 0x400, SYS_time}, {kPage + 0x800, SYS_getcpu}};
  on_platforms(Which::kRealCode, [&calls](Machine& m) {
    for (const auto& call : calls) {
      GuestThread t(*m.platform, m.add_program());
      Registers r = registers_at(guest_vsyscall);
      r.rbx = call.entry;
      t.cpu.reset(r);
      const Stop stop = t.run();
      if (stop.why == Why::kFault) {
        MESSAGE("this host has no vsyscall page: its calls fault");
        CHECK(stop.addr == call.entry);
        continue;
      }
      REQUIRE(stop.why == Why::kSyscall);
      CHECK(stop.arch == Arch::kX86_64);
      CHECK(t.cpu.syscall_number() == call.number);
      CHECK(t.cpu.syscall_arg(0) == 0);
      CHECK(t.cpu.ip() == guest_address(guest_vsyscall_done));
      CHECK(t.cpu.sp() == r.rsp);
      REQUIRE(t.run_with(4711).why == Why::kSyscall);
      CHECK(t.cpu.syscall_number() == 1002);
      CHECK(t.cpu.syscall_arg(0) == 4711);
    }
  });
}

TEST_CASE("no system call of the guest reaches the host") {
  on_platforms(Which::kRealCode, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    constexpr uint64_t kRounds = 100;
    Registers r = registers_at(guest_hostile_calls);
    r.rbx = kRounds;
    r.r12 = kDataAddress;  // munmap of its own data
    t.cpu.reset(r);
    uint64_t calls = 0;
    for (;;) {
      REQUIRE(t.run().why == Why::kSyscall);
      if (t.cpu.syscall_number() == 1005) break;
      // A result of our own: had the host served the call, it would have put its result there.
      t.cpu.set_result(12345);
      calls++;
    }
    CHECK(calls == 5 * kRounds);
    t.start(guest_load, kDataAddress);
    CHECK(t.run().why == Why::kSyscall);
  });
}

TEST_CASE("registers that no program could have are made harmless") {
  on_platforms(Which::kRealCode, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    const auto survives = [&](auto spoil) {
      Registers r = registers_at(guest_syscall);
      spoil(r);
      t.cpu.reset(r);
      const Why why = t.run().why;
      CHECK((why == Why::kSyscall || why == Why::kFault || why == Why::kTrap));
      t.start(guest_syscall);
      CHECK(t.run().why == Why::kSyscall);
    };
    survives([](Registers& r) { r.cs = 0; });
    survives([](Registers& r) { r.cs = 0x10; });
    survives([](Registers& r) { r.cs = 0xffff; });
    survives([](Registers& r) { r.ss = 0xfffb; });
    survives([](Registers& r) { r.fs = r.gs = r.ds = r.es = 0xffff; });
    survives([](Registers& r) { r.fs_base = UINT64_MAX; });
    survives([](Registers& r) { r.gs_base = 0x8000'0000'0000'0000; });
    survives([](Registers& r) { r.rip = 0x8000'0000'0000'0000; });
    survives([](Registers& r) { r.rip = 0xffff'ffff'8100'0000; });
    survives([](Registers& r) { r.eflags = UINT64_MAX; });
    survives([](Registers& r) { r.rsp = UINT64_MAX; });
    survives([](Registers& r) {
      r.orig_rax = 0;
      r.rax = static_cast<uint64_t>(-512);
    });
  });
}
