// Call sites that systrap replaces by jumps: what the guest gets is what it got before.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "tests/unit/platform_call_sites.h"

using namespace boxrun;
using namespace boxrun::platform;
using namespace std::chrono_literals;

namespace {

uint64_t original_word(const Machine& m, const char* label) {
  uint64_t value;
  std::memcpy(&value, m.memory.at(static_cast<uint64_t>(label - guest_text)), sizeof value);
  return value;
}

bool is_patched(Machine& m, AddressSpace& space, const char* label) {
  return guest_word(m, space, guest_address(label)) != original_word(m, label);
}

Registers distinct_registers(const char* label) {
  Registers r = registers_at(label);
  r.r15 = 15, r.r14 = 14, r.r13 = 13, r.r12 = 12, r.rbp = 11, r.rbx = 10, r.r10 = 9;
  r.r9 = 8, r.r8 = 7, r.rdx = 6, r.rsi = 5, r.rdi = 4;
  return r;
}

void check_distinct(CpuState& cpu, const Registers& r) {
  CHECK(cpu.syscall_arg(0) == r.rdi);
  CHECK(cpu.syscall_arg(1) == r.rsi);
  CHECK(cpu.syscall_arg(2) == r.rdx);
  CHECK(cpu.syscall_arg(3) == r.r10);
  CHECK(cpu.syscall_arg(4) == r.r8);
  CHECK(cpu.syscall_arg(5) == r.r9);
  CHECK(cpu.sp() == r.rsp);
}

}  // namespace

TEST_CASE("a call site is said to be hot when it has stopped often, then ever more rarely") {
  on_systrap([](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_site);
    int hot = 0;
    for (int i = 0; i < 1024; i++) {
      const Stop stop = t.run_with(0);
      REQUIRE(stop.why == Why::kSyscall);
      hot += stop.hot ? 1 : 0;
    }
    CHECK(hot == 8);  // 8, 16 ... 1024
  });
}

TEST_CASE("a patched site makes the same calls, and registers are as they were") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    Registers r = distinct_registers(guest_site);
    t.cpu.reset(r);
    REQUIRE(t.run().why == Why::kSyscall);
    space.improve(site_at(m, guest_site_done));
    CHECK(is_patched(m, space, guest_site));
    for (uint64_t i = 0; i < 200; i++) {
      CAPTURE(i);
      REQUIRE(t.run_with(i).why == Why::kSyscall);
      CHECK(t.cpu.syscall_number() == 1010);
      CHECK(t.cpu.ip() == end_of(guest_site_done));
      check_distinct(t.cpu, r);
      if (i % 3 == 0) continue;
      // All of them, asked for at the patched call.
      const Registers& seen = t.cpu.registers();
      CHECK(seen.orig_rax == 1010);
      CHECK(seen.rip == end_of(guest_site_done));
      CHECK(seen.rcx == seen.rip);
      CHECK(seen.r15 == 15);
      CHECK(seen.r14 == 14);
      CHECK(seen.r13 == 13);
      CHECK(seen.r12 == 12);
      CHECK(seen.rbp == 11);
      CHECK(seen.rbx == 10);
      CHECK(seen.rsp == r.rsp);
      CHECK(seen.gs_base == 0);
      if (i % 3 == 1) continue;
      r.rdi = i * 77;
      t.cpu.registers_for_write().rdi = r.rdi;
    }
  });
}

TEST_CASE("a patched site does not trap, unless the guest uses gs itself") {
  on_systrap([](Machine& m) {
    const auto counted = [&m](std::string_view name) {
      for (const Counter& counter : m.platform->counters()) {
        if (counter.name == name) return counter.value;
      }
      return uint64_t{0};
    };
    AddressSpace& space = m.add_program();
    space.improve(site_at(m, guest_site_done));
    const auto call_often = [&](uint64_t gs) {
      std::thread([&] {
        GuestThread t(*m.platform, space);
        Registers r = registers_at(guest_site);
        r.gs_base = gs;
        t.cpu.reset(r);
        for (int i = 0; i < 100; i++) REQUIRE(t.run_with(1).why == Why::kSyscall);
      }).join();
    };
    call_often(0);
    CHECK(counted("calls patched") == 100);
    CHECK(counted("calls trapped") == 0);
    call_often(kDataAddress);
    CHECK(counted("calls patched") == 100);
    CHECK(counted("calls trapped") == 100);
    CHECK(counted("call sites patched") == 1);
  });
}

TEST_CASE("a patched call can end in other registers and another place") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    call_and_patch(m, t);
    for (int i = 0; i < 50; i++) {
      REQUIRE(t.run_with(0).why == Why::kSyscall);
      CHECK(t.cpu.syscall_number() == 1010);
      Registers next = registers_at(guest_load);
      next.rbx = kDataAddress;
      m.memory.set_word(kDataOffset, static_cast<uint64_t>(i) + 1);
      t.cpu.reset(next);
      REQUIRE(t.run().why == Why::kSyscall);
      CHECK(t.cpu.syscall_arg(0) == static_cast<uint64_t>(i) + 1);
      t.start(guest_site);
    }
  });
}

TEST_CASE("vector registers are whole at a patched call, and can be replaced there") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    call_and_patch(m, t);
    REQUIRE(t.run_with(0).why == Why::kSyscall);
    const auto xmm3 = [&t](uint64_t* value) {
      std::memcpy(value, &t.cpu.xstate()[160 + 3 * 16], sizeof *value);
    };
    uint64_t value = 0x123456789abcdef0;
    auto state = t.cpu.xstate_for_write();
    std::memcpy(&state[160 + 3 * 16], &value, sizeof value);
    state[512] |= std::byte{3};  // XSTATE_BV: x87, SSE
    for (int i = 0; i < 20; i++) {
      REQUIRE(t.run_with(0).why == Why::kSyscall);
      value = 0;
      if (i % 2 == 1) xmm3(&value);
      if (i % 2 == 1) CHECK(value == 0x123456789abcdef0);
    }
  });
}

TEST_CASE("syscall(3) and read(2) of glibc are sites, too") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    Registers r = distinct_registers(guest_site_six);
    r.rbx = 1013;
    t.cpu.reset(r);
    m.memory.set_word(kDataOffset + 0x808, 4711);
    REQUIRE(t.run().why == Why::kSyscall);
    space.improve(site_at(m, guest_site_six_done));
    space.improve(site_at(m, guest_site_zero_done, 0));
    CHECK(is_patched(m, space, guest_site_six));
    r.r9 = 4711;
    for (int i = 0; i < 100; i++) {
      REQUIRE(t.run_with(5).why == Why::kSyscall);
      CHECK(t.cpu.syscall_number() == 1013);
      CHECK(t.cpu.ip() == end_of(guest_site_six_done));
      check_distinct(t.cpu, r);
    }
    t.cpu.reset(registers_at(guest_site_zero));
    for (uint64_t i = 0; i < 100; i++) {
      REQUIRE(t.run_with(i).why == Why::kSyscall);
      CHECK(t.cpu.syscall_number() == 0);
      CHECK(t.cpu.ip() == end_of(guest_site_zero_done));
    }
    // The short jump stands where `xor` was, the long one where nothing is executed.
    CHECK((guest_word(m, space, end_of(guest_site_zero_done) - 4) & 0xff) == 0xeb);
  });
}

TEST_CASE("flags survive a patched call") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    t.start(guest_site_flags);
    REQUIRE(t.run().why == Why::kSyscall);
    space.improve(site_at(m, guest_site_flags_done, 1012));
    int reports = 0;
    for (int i = 0; i < 30; i++) {
      REQUIRE(t.run_with(0).why == Why::kSyscall);
      if (t.cpu.syscall_number() != 1011) {
        if (i % 2 == 0) (void)t.cpu.registers();
        continue;
      }
      reports++;
      CHECK(t.cpu.syscall_arg(0) == 0x8d5);
      CHECK(t.cpu.syscall_arg(1) == 0);
    }
    CHECK(reports == 10);
  });
}

TEST_CASE("what only looks like a site is left alone") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    const uint64_t word = guest_word(m, space, end_of(guest_no_site_done) - 8);
    space.improve(site_at(m, guest_no_site_done));
    CHECK(guest_word(m, space, end_of(guest_no_site_done) - 8) == word);
    // Any address at all, however wrong.
    for (uint64_t end = kTextAddress + 1; end <= kTextAddress + kPageSize; end++) {
      if (m.memory.at(end - kTextAddress - 1)[0] == std::byte{0x05}) continue;
      AddressSpace::CallSite site = site_at(m, guest_site_done);
      site.ip = end;
      space.improve(site);
    }
    CHECK_FALSE(is_patched(m, space, guest_site));
    // Another number than the one it was seen with.
    space.improve(site_at(m, guest_site_done, 1011));
    CHECK_FALSE(is_patched(m, space, guest_site));
    // Too far away for a jump.
    AddressSpace::CallSite far = site_at(m, guest_site_done);
    far.spare = {0x200000000, 0x200001000};
    space.improve(far);
    CHECK_FALSE(is_patched(m, space, guest_site));
  });
}

TEST_CASE("a guest that uses gs itself goes on trapping") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    call_and_patch(m, t);
    for (const uint64_t gs : {kDataAddress, uint64_t{0x7ffeffff0000}, uint64_t{0}, kDataAddress}) {
      CAPTURE(gs);
      Registers r = distinct_registers(guest_site);
      r.gs_base = gs;
      t.cpu.reset(r);
      for (int i = 0; i < 20; i++) {
        REQUIRE(t.run_with(1).why == Why::kSyscall);
        CHECK(t.cpu.syscall_number() == 1010);
        CHECK(t.cpu.ip() == end_of(guest_site_done));
        check_distinct(t.cpu, r);
        CHECK(t.cpu.registers().gs_base == gs);
      }
    }
  });
}

TEST_CASE("a forked process keeps what is patched, and patches of its own are its own") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    call_and_patch(m, t);
    auto child = m.platform->new_address_space(&space).take();
    CHECK(is_patched(m, *child, guest_site));
    child->improve(site_at(m, guest_site_six_done));
    CHECK(is_patched(m, *child, guest_site_six));
    CHECK_FALSE(is_patched(m, space, guest_site_six));
    space.improve(site_at(m, guest_site_zero_done, 0));
    for (AddressSpace* each : {child.get(), &space}) {
      std::thread([&] {
        GuestThread u(*m.platform, *each);
        u.start(guest_site);
        for (int i = 0; i < 50; i++) {
          REQUIRE(u.run_with(0).why == Why::kSyscall);
          CHECK(u.cpu.syscall_number() == 1010);
        }
      }).join();
    }
    child.reset();
    REQUIRE(t.run_with(0).why == Why::kSyscall);
  });
}

TEST_CASE("text whose protection changes is the guest's own again") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    call_and_patch(m, t);
    const Range text{kTextAddress, kTextAddress + kPageSize};
    REQUIRE(space.apply(std::array{Op::protect(text, kReadWrite | Prot::kExec)}).ok());
    // The patched version is gone; what was there before is the caller's to install.
    Stop stop = t.run_with(0);
    REQUIRE(stop.why == Why::kFault);
    CHECK(page_down(stop.addr) == kTextAddress);
    REQUIRE(space.apply(std::array{map_page(kTextAddress, m.memory, 0, kReadExec)}).ok());
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK_FALSE(is_patched(m, space, guest_site));
    // It can be patched again.
    space.improve(site_at(m, guest_site_done));
    CHECK(is_patched(m, space, guest_site));
    // To be asked for is enough, or that something is mapped there.
    REQUIRE(space.restore(text).ok());
    REQUIRE(t.run_with(0).why == Why::kFault);
    REQUIRE(space.apply(std::array{map_page(kTextAddress, m.memory, 0, kReadExec)}).ok());
    CHECK_FALSE(is_patched(m, space, guest_site));
    space.improve(site_at(m, guest_site_done));
    CHECK(is_patched(m, space, guest_site));
    REQUIRE(space.apply(std::array{map_page(kTextAddress, m.memory, 0, kReadExec)}).ok());
    CHECK_FALSE(is_patched(m, space, guest_site));
  });
}

TEST_CASE("a guest that maps something over the trampolines goes on trapping") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    call_and_patch(m, t);
    REQUIRE(t.run_with(0).why == Why::kSyscall);
    REQUIRE(
        space.apply(std::array{map_page(kSpare.start, m.memory, kDataOffset, kReadWrite)}).ok());
    m.memory.set_word(kDataOffset, 99);
    REQUIRE(t.run_with(0).why == Why::kFault);
    REQUIRE(space.apply(std::array{map_page(kTextAddress, m.memory, 0, kReadExec)}).ok());
    CHECK(guest_word(m, space, kSpare.start) == 99);
    space.improve(site_at(m, guest_site_done));
    CHECK_FALSE(is_patched(m, space, guest_site));
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 1010);
  });
}

TEST_CASE("other threads run through a site while it is patched") {
  on_systrap([](Machine& m) {
    for (int round = 0; round < 50; round++) {
      AddressSpace& space = m.add_program();
      std::atomic<bool> end{false};
      std::atomic<int> ready{0};
      std::vector<std::thread> threads;
      for (int i = 0; i < 3; i++) {
        threads.emplace_back([&] {
          GuestThread t(*m.platform, space);
          t.start(guest_site);
          uint64_t calls = 0;
          while (!end.load()) {
            REQUIRE(t.run_with(calls).why == Why::kSyscall);
            REQUIRE(t.cpu.syscall_number() == 1010);
            if (++calls == 1) ready++;
          }
        });
      }
      while (ready.load() < 3) std::this_thread::yield();
      space.improve(site_at(m, guest_site_done));
      if (round % 10 == 0) CHECK(is_patched(m, space, guest_site));
      std::this_thread::sleep_for(1ms);
      space.improve(site_at(m, guest_site_six_done));
      std::this_thread::sleep_for(1ms);
      REQUIRE(space.apply(std::array{map_page(kTextAddress, m.memory, 0, kReadExec)}).ok());
      space.improve(site_at(m, guest_site_done));
      std::this_thread::sleep_for(1ms);
      end.store(true);
      for (std::thread& thread : threads) thread.join();
    }
  });
}
