#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "platforms/fake/fake_address_space.h"
#include "platforms/fake/fake_platform.h"

namespace boxrun::platform {

// One fake guest thread. Exactly one of the host thread in run() and the lambdas' threads moves at
// any time, handed over under mutex_; so what both use needs no lock of its own.
class FakeContext final : public Context, private RegisterSource {
 public:
  explicit FakeContext(FakePlatform& platform);
  ~FakeContext() override;

  Stop run(AddressSpace& address_space, CpuState& cpu) override;
  void interrupt() override;

  // --- for FakeGuest, on a lambda's thread
  // Hands `at` to run() and returns when the guest is to go on behind it.
  void stop(const Stop& at, uint64_t suspension);
  // The same with a new place.
  void stop(const Stop& at) { stop(at, platform_.new_suspension()); }
  void take_interrupt();
  void wait_for_interrupt();
  [[noreturn]] void die();
  FakePlatform& platform() { return platform_; }
  FakeAddressSpace& space() { return *space_; }
  Registers& registers() { return registers_; }
  std::span<std::byte> xstate() { return xstate_; }

 private:
  // One lambda and its thread.
  struct Strand {
    std::thread thread;
    uint64_t suspension = 0;    // where it is suspended
    bool in_syscall = false;    // by a system call: it can be issued again
    Arch arch = Arch::kX86_64;  // of that call
    bool runs = false;          // its turn
    bool unwinding = false;
    bool returned = false;
    CondVar turn;
  };
  struct Unwind {};

  void write_back(CpuState& cpu);
  Stop report(const Stop& stop, CpuState& cpu);
  // The stop that follows when guest code goes on at registers_.rip.
  Stop go_on();
  size_t strand_count();
  // The one suspended `distance` bytes behind ip; strand_count() if none.
  size_t strand_at(uint64_t ip, uint64_t distance);
  void start(FakePlatform::Program program);
  // Lets the youngest run: its stop, or nothing if it returned.
  std::optional<Stop> continue_last();
  void strand_main(Strand& strand, const FakePlatform::Program& program);
  void wait_for_turn(Strand& strand) REQUIRES(mutex_);
  void unwind_from(size_t first);
  void fetch_registers(Registers& out) override;
  void fetch_xstate(std::span<std::byte> out) override;

  FakePlatform& platform_;
  FakeAddressSpace* space_ = nullptr;
  Registers registers_{};
  std::vector<std::byte> xstate_;

  Mutex mutex_{Rank::kSleeper};
  CondVar stopped_;
  CondVar interrupted_;
  std::vector<std::unique_ptr<Strand>> strands_ GUARDED_BY(mutex_);  // in the order they began
  Strand* current_ GUARDED_BY(mutex_) = nullptr;                     // the one that runs
  Stop stop_ GUARDED_BY(mutex_);
  bool latched_ GUARDED_BY(mutex_) = false;
  bool lost_ GUARDED_BY(mutex_) = false;
};

}  // namespace boxrun::platform
