// The platforms that the conformance suite runs on.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "platforms/fake/fake_platform.h"
#include "platforms/ptrace/ptrace_platform.h"
#include "platforms/systrap/systrap_platform.h"
#include "tests/unit/platform_machine.h"

namespace boxrun::platform {

// One instance of a platform with a memory file and an address space that holds the program.
struct Machine {
  std::string kind;
  TestMemory memory;
  std::unique_ptr<Platform> platform;
  std::unique_ptr<AddressSpace> space;

  AddressSpace& add_program() {
    space = std::move(platform->new_address_space(nullptr)).take();
    (void)map_program(*space, memory);
    return *space;
  }
};

// The machine code of platform_guest.S, told again for the fake platform.
inline void add_fake_programs(FakePlatform& platform) {
  const auto add = [&platform](const char* label, FakePlatform::Program program) {
    platform.add_program(guest_address(label), std::move(program));
  };
  add(guest_syscall, [](FakeGuest& guest) {
    for (;;) {
      const Registers r = guest.registers();
      guest.syscall(r.rax, r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9);
    }
  });
  add(guest_load, [](FakeGuest& guest) {
    for (;;) guest.syscall(1000, guest.read<uint64_t>(guest.registers().rbx));
  });
  add(guest_store, [](FakeGuest& guest) {
    for (;;) {
      guest.write(guest.registers().rbx, guest.registers().rcx);
      guest.syscall(1001);
    }
  });
  add(guest_spin, [](FakeGuest& guest) {
    for (;;) guest.spin();
  });
  add(guest_hammer, [](FakeGuest& guest) {
    const uint64_t at = guest.registers().rbx;
    for (;;) guest.fetch_add_u32(at, 1);
  });
}

// Null with a reason when this host cannot run the platform.
inline std::unique_ptr<Platform> make_platform(const std::string& kind, int memory_file,
                                               std::string& reason) {
  if (kind == "fake") {
    auto fake = std::make_unique<FakePlatform>();
    add_fake_programs(*fake);
    return fake;
  }
  StubError error;
  std::unique_ptr<Platform> platform;
  if (kind == "ptrace") platform = PtracePlatform::create(memory_file, error);
  if (kind == "systrap") platform = SystrapPlatform::create(memory_file, error);
  if (platform == nullptr)
    reason = std::string(error.step) + ": " + std::string(errno_name(error.error));
  return platform;
}

// The first process of a stub.
inline pid_t leader_of(const Machine& machine, AddressSpace& space) {
  if (machine.kind == "systrap") {
    return static_cast<SystrapAddressSpace&>(space).process()->process();
  }
  return static_cast<PtraceAddressSpace&>(space).process()->leader();
}

}  // namespace boxrun::platform

#include "tests/unit/test.h"

namespace boxrun::platform {

enum class Which : uint8_t { kAll, kRealCode };

// Runs `body` once on every platform of this host, or on those that run machine code.
inline void on_platforms(Which which, const std::function<void(Machine&)>& body) {
  for (const char* kind : {"fake", "ptrace", "systrap"}) {
    if (which == Which::kRealCode && std::string(kind) == "fake") continue;
    CAPTURE(kind);
    Machine machine{.kind = kind};
    std::string reason;
    machine.platform = make_platform(kind, machine.memory.fd(), reason);
    if (machine.platform == nullptr) {
      MESSAGE("SKIPPED: this host cannot run the platform ", kind, ": ", reason);
      continue;
    }
    body(machine);
  }
}

inline void on_systrap(const std::function<void(Machine&)>& body) {
  on_platforms(Which::kRealCode, [&body](Machine& m) {
    if (m.kind == "systrap") body(m);
  });
}

// What guest code of `space` reads at `address`.
inline uint64_t guest_word(Machine& m, AddressSpace& space, uint64_t address) {
  uint64_t value = 0;
  std::thread([&] {
    GuestThread t(*m.platform, space);
    t.start(guest_load, address);
    REQUIRE(t.run().why == Why::kSyscall);
    value = t.cpu.syscall_arg(0);
  }).join();
  return value;
}

}  // namespace boxrun::platform
