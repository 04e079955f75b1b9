// A platform whose guest code is C++ lambdas, so that everything above the seam can be tested
// without a host mechanism, thousands of system calls a second, and under sanitizers.
//
// A lambda is "the code at an address": the ELF entry point, a signal handler, a restorer. It runs
// on a host thread of its own that takes turns with the host thread in Context::run, so there is
// no concurrency that a real guest would not have. Where rip points decides what runs:
//   - where a suspended lambda stopped: that one goes on (two bytes before a system call's return
//     address is the `syscall` instruction, so the kernel's restart of a call works);
//   - where a clone, fork or vfork of another Context returns: the lambda given for the child;
//   - an address given to add_program: that lambda starts (exec, signal handler);
//   - anywhere else: kFault with kExecute, as on hardware.
// A lambda that returns does what `ret` does: it pops the return address from the guest's stack.
//
//   FakePlatform platform;
//   platform.add_program(kEntry, FakePlatform::main([](FakeGuest& guest) {
//     guest.write<uint32_t>(kData, 7);                          // kFault until it is mapped
//     int64_t child = guest.syscall_for_child(
//         [](FakeGuest& in_child) { in_child.syscall(SYS_exit_group, 3); }, SYS_fork);
//     guest.syscall(SYS_wait4, child, kData, 0, 0);
//     return 0;                                                 // exit_group(0)
//   }));
//
// Interrupts arrive where a lambda calls its FakeGuest; one that computes in between cannot be
// interrupted. Lambdas that are suspended when their Context is destroyed are unwound by an
// exception, so they must not swallow what they did not throw.
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <type_traits>

#include "platforms/platform.h"
#include "src/base/sync.h"

namespace boxrun::platform {

class FakeContext;

// What a lambda can do: all that machine code could. Valid while the lambda runs.
class FakeGuest {
 public:
  // The value of rax afterwards. Arguments are integers (pointers are guest addresses).
  template <class... Args>
  int64_t syscall(uint64_t number, Args... args) {
    return issue(Arch::kX86_64, number, {register_value(args)...}, nullptr);
  }
  // As syscall(), for calls that return a second time in another Context, which then runs `child`.
  template <class... Args>
  int64_t syscall_for_child(const std::function<void(FakeGuest&)>& child, uint64_t number,
                            Args... args) {
    return issue(Arch::kX86_64, number, {register_value(args)...}, child);
  }
  int64_t syscall_as(Arch arch, uint64_t number, std::array<uint64_t, 6> args) {
    return issue(arch, number, args, nullptr);
  }

  // Guest memory. Faults until the access is allowed, like an instruction that is restarted.
  template <class T>
  T read(uint64_t addr) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::array<std::byte, sizeof(T)> bytes;
    copy_from(addr, bytes);
    return std::bit_cast<T>(bytes);
  }
  template <class T>
  void write(uint64_t addr, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    copy_to(addr, std::as_bytes(std::span(&value, 1)));
  }
  void copy_from(uint64_t addr, std::span<std::byte> out);
  void copy_to(uint64_t addr, std::span<const std::byte> from);
  // Atomics on aligned words, as `lock` instructions and plain loads and stores of x86.
  uint32_t load_u32(uint64_t addr);
  void store_u32(uint64_t addr, uint32_t value);
  bool compare_exchange_u32(uint64_t addr, uint32_t expected, uint32_t desired);
  uint32_t fetch_add_u32(uint64_t addr, uint32_t value);

  // An exception: SIGFPE, SIGILL, SIGTRAP ... Returns when the kernel goes on behind it.
  void trap(int signo, int code, uint64_t addr);
  // A point where a pending interrupt is taken.
  void checkpoint();
  // An endless loop, left once it was interrupted and the kernel went on here.
  void spin();
  // The host side dies: this Context and every later run of it is kLost.
  [[noreturn]] void die();

  // The registers as they are; at the start of a handler rdi, rsi and rdx are its arguments.
  // Changes other than of rip are kept.
  Registers& registers();
  std::span<std::byte> xstate();

 private:
  friend class FakeContext;
  explicit FakeGuest(FakeContext& context) : context_(context) {}

  template <class T>
  static uint64_t register_value(T value) {
    static_assert(std::is_integral_v<T> || std::is_enum_v<T>);
    return static_cast<uint64_t>(value);
  }
  int64_t issue(Arch arch, uint64_t number, std::array<uint64_t, 6> args,
                const std::function<void(FakeGuest&)>& child);
  // `use` touches one piece of host memory and says how much of it was there.
  void access(uint64_t addr, size_t size, Access access,
              const std::function<size_t(std::byte*, size_t)>& use);

  FakeContext& context_;
};

class FakePlatform final : public Platform {
 public:
  using Program = std::function<void(FakeGuest&)>;

  FakePlatform();
  // `program` is the code at `address` in every address space; replaces what was there.
  void add_program(uint64_t address, Program program);
  // A program that ends with exit_group(2) of what `body` returns.
  static Program main(std::function<int(FakeGuest&)> body);

  std::string_view name() const override { return "fake"; }
  // Above it is the code where lambdas are suspended.
  Range user_addresses() const override { return {64 << 10, kSuspended}; }
  Result<std::unique_ptr<AddressSpace>> new_address_space(AddressSpace* like) override;
  Result<std::unique_ptr<Context>> new_context() override;
  std::span<const HostSyscall> host_syscalls() const override { return {}; }

 private:
  friend class FakeContext;
  friend class FakeGuest;
  static constexpr uint64_t kSuspended = 0x7f0000000000;

  // An address at which one stop of one lambda is suspended, never given twice.
  uint64_t new_suspension();
  void add_child(uint64_t suspension, Program child);
  // The lambda that starts at `ip` in a Context where none is suspended there; empty if none.
  Program program_at(uint64_t ip);

  Mutex mutex_{Rank::kAddressSpace};
  uint64_t next_suspension_ GUARDED_BY(mutex_) = kSuspended + 16;
  std::map<uint64_t, Program> programs_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::platform
