// Interrupts, single-stepping and hostile threads at call sites that systrap replaced by jumps.
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "tests/unit/platform_call_sites.h"

using namespace boxrun;
using namespace boxrun::platform;
using namespace std::chrono_literals;

TEST_CASE("no interrupt is lost in patched calls") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    call_and_patch(m, t);
    std::atomic<int> seen{0};
    std::thread interrupter([&] {
      for (int i = 0; i < 3000; i++) {
        t.context->interrupt();
        // Each is answered before the next, wherever it struck.
        while (seen.load() <= i) std::this_thread::yield();
      }
    });
    uint64_t calls = 0;
    t.cpu.set_result(0);
    while (seen.load() < 3000) {
      const Stop stop = t.run();
      if (stop.why == Why::kInterrupted) {
        if (seen.load() % 2 == 0) CHECK(t.cpu.registers().rip >= kTextAddress);
        seen++;
      } else {
        REQUIRE(stop.why == Why::kSyscall);
        REQUIRE(t.cpu.syscall_number() == 1010);
        t.cpu.set_result(0);
        calls++;
      }
    }
    interrupter.join();
    CHECK(calls > 0);
  });
}

TEST_CASE("a guest that steps through a patched site makes its calls once") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    GuestThread t(*m.platform, space);
    t.start(guest_site_steps);
    const auto next_call = [&t] {
      int steps = 0;
      Stop stop = t.run();
      for (; stop.why == Why::kTrap && steps < 10'000; steps++) {
        CHECK(stop.signo == SIGTRAP);
        // As a signal handler would, by other patched calls and stops.
        if (steps % 2 == 0) (void)t.cpu.registers();
        stop = t.run();
      }
      CHECK(steps > 0);
      return stop.why;
    };
    REQUIRE(next_call() == Why::kSyscall);
    space.improve(site_at(m, guest_site_steps_done, 1014));
    for (int i = 0; i < 20; i++) {
      t.cpu.set_result(0);
      REQUIRE(next_call() == Why::kSyscall);
      CHECK(t.cpu.syscall_number() == 1014);
      CHECK(t.cpu.ip() == end_of(guest_site_steps_done));
      if (i % 2 == 0) CHECK(t.cpu.registers().rax == 1014);
    }
  });
}

TEST_CASE("a forged patched call costs the guest process, in bounded time") {
  on_systrap([](Machine& m) {
    AddressSpace& space = m.add_program();
    const auto& layout = static_cast<SystrapAddressSpace&>(space).process()->layout();
    GuestThread t(*m.platform, space);
    uint64_t slot = 0;
    for (uint64_t i = 0; i < 64 && slot == 0; i++) {
      t.start(guest_load, layout.slots().start + i * ThreadSlot::kSize);
      if (t.run().why == Why::kSyscall) slot = layout.slots().start + i * ThreadSlot::kSize;
    }
    REQUIRE(slot != 0);
    t.start(guest_forge_call, slot);
    const Stop stop = t.run();
    REQUIRE(stop.why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 57);
    // What fork(2) needs, and nobody interrupts.
    const auto start = std::chrono::steady_clock::now();
    (void)t.cpu.registers();
    CHECK(std::chrono::steady_clock::now() - start < 60s);
    CHECK(t.run_with(0).why == Why::kLost);
    auto other = m.platform->new_address_space(nullptr).take();
    REQUIRE(map_program(*other, m.memory).ok());
    std::thread([&] {
      GuestThread u(*m.platform, *other);
      u.start(guest_site);
      CHECK(u.run().why == Why::kSyscall);
    }).join();
  });
}

namespace {

// The thread of a stub that runs guest code, where there is one.
pid_t guest_thread_of(const Machine& m, AddressSpace& space) {
  const pid_t leader = leader_of(m, space);
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(leader) + "/task")) {
    const pid_t thread = std::stoi(entry.path().filename());
    if (thread != leader) return thread;
  }
  return -1;
}

// Steps a stub thread, which somebody lets go on meanwhile, through stub text and interrupts its
// context at the `count`th instruction there. False if guest code came first.
bool interrupt_at_instruction(pid_t thread, const SystrapLayout& layout, Context& context,
                              int count, const std::function<void()>& go) {
  int status = 0;
  REQUIRE(::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) == 0);
  REQUIRE(::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) == 0);
  REQUIRE(::waitpid(thread, &status, __WALL) == thread);
  go();
  bool inside = true;
  for (int seen = 0; inside && seen < count;) {
    REQUIRE(::ptrace(PTRACE_SINGLESTEP, thread, nullptr, nullptr) == 0);
    REQUIRE(::waitpid(thread, &status, __WALL) == thread);
    user_regs_struct registers;
    REQUIRE(::ptrace(PTRACE_GETREGS, thread, nullptr, &registers) == 0);
    inside = registers.rip >= layout.text() && registers.rip < layout.text() + kPageSize;
    seen++;
  }
  context.interrupt();
  REQUIRE(::ptrace(PTRACE_DETACH, thread, nullptr, nullptr) == 0);
  return inside;
}

}  // namespace

TEST_CASE("an interrupt is seen at once, whichever instruction of stub text it strikes") {
  on_systrap([](Machine& m) {
    // Stops with a frame, then those without.
    for (const bool patched : {false, true}) {
      CAPTURE(patched);
      AddressSpace& space = m.add_program();
      GuestThread t(*m.platform, space);
      t.start(guest_site);
      REQUIRE(t.run().why == Why::kSyscall);
      if (patched) space.improve(site_at(m, guest_site_done));
      const pid_t thread = guest_thread_of(m, space);
      if (::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0) {
        MESSAGE("SKIPPED: this host does not let us trace stubs");
        return;
      }
      ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
      ::waitpid(thread, nullptr, __WALL);
      ::ptrace(PTRACE_DETACH, thread, nullptr, nullptr);
      bool inside = true;
      int slow = 0;
      int instructions = 0;
      while (inside && instructions < 200) {
        CAPTURE(instructions);
        // From a call to code without stops.
        t.start(guest_jump, guest_address(guest_site));
        REQUIRE(t.run().why == Why::kSyscall);
        std::atomic<bool> running{false};
        std::atomic<bool> stepped{false};
        std::thread stepper([&] {
          inside = interrupt_at_instruction(
              thread, static_cast<SystrapAddressSpace&>(space).process()->layout(), *t.context,
              instructions + 1, [&] { running.store(true); });
          stepped.store(true);
        });
        while (!running.load()) std::this_thread::yield();
        Stop stop;
        const auto start = std::chrono::steady_clock::now();
        if (!patched) t.cpu.reset(registers_at(guest_spin));
        do {
          stop = t.run_with(0);
        } while (stop.why == Why::kSyscall && !stepped.load());
        const auto took = std::chrono::steady_clock::now() - start;
        stepper.join();
        if (stop.why == Why::kSyscall) stop = t.run_with(0);
        CHECK(stop.why == Why::kInterrupted);
        // Whoever misses it looks again after 100 ms. Something else can take as long on a busy
        // host, but not every time.
        slow = took < 90ms ? 0 : slow + 1;
        CHECK(slow < 4);
        if (slow == 0 || slow == 4) instructions++;
      }
      CHECK(instructions > 20);
    }
  });
}
