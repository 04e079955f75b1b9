#include "platforms/fake/fake_context.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace boxrun::platform {
namespace {

constexpr uint64_t kSyscallSize = 2;  // bytes of the `syscall` instruction

}  // namespace

FakeContext::FakeContext(FakePlatform& platform)
    : platform_(platform), xstate_(host_xstate_size()) {
  initial_xstate(xstate_);
}

FakeContext::~FakeContext() { unwind_from(0); }

Stop FakeContext::run(AddressSpace& address_space, CpuState& cpu) {
  space_ = static_cast<FakeAddressSpace*>(&address_space);
  {
    Lock lock(mutex_);
    if (lost_ || space_->lost()) return {.why = Why::kLost};
    if (std::exchange(latched_, false)) return {.why = Why::kInterrupted};
  }
  write_back(cpu);
  return report(go_on(), cpu);
}

void FakeContext::interrupt() {
  Lock lock(mutex_);
  latched_ = true;
  interrupted_.notify_all();
}

void FakeContext::write_back(CpuState& cpu) {
  if (cpu.registers_dirty()) {
    registers_ = cpu.registers();
  } else if (cpu.result_dirty()) {
    registers_.rax = cpu.result();
  }
  if (cpu.xstate_dirty()) std::ranges::copy(cpu.xstate(), xstate_.begin());
  cpu.written();
}

Stop FakeContext::report(const Stop& stop, CpuState& cpu) {
  if (stop.why == Why::kSyscall) {
    const Registers& r = registers_;
    cpu.stopped_in_syscall(*this, r.orig_rax, {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9}, r.rip,
                           r.rsp);
  } else {
    cpu.stopped(*this);
  }
  return stop;
}

Stop FakeContext::go_on() {
  for (;;) {
    const uint64_t ip = registers_.rip;
    if (const size_t i = strand_at(ip, 0); i < strand_count()) {
      // What began later was a signal handler that has returned.
      unwind_from(i + 1);
      if (const std::optional<Stop> stop = continue_last()) return *stop;
    } else if (const size_t again = strand_at(ip, kSyscallSize); again < strand_count()) {
      unwind_from(again + 1);
      registers_.rip += kSyscallSize;
      registers_.orig_rax = registers_.rax;
      Lock lock(mutex_);
      return {.why = Why::kSyscall, .arch = strands_[again]->arch};
    } else if (FakePlatform::Program program = platform_.program_at(ip)) {
      start(std::move(program));
      if (const std::optional<Stop> stop = continue_last()) return *stop;
    } else {
      return {.why = Why::kFault, .addr = ip, .access = Access::kExecute};
    }
  }
}

size_t FakeContext::strand_count() {
  Lock lock(mutex_);
  return strands_.size();
}

size_t FakeContext::strand_at(uint64_t ip, uint64_t distance) {
  Lock lock(mutex_);
  for (size_t i = 0; i < strands_.size(); i++) {
    if (strands_[i]->suspension - distance == ip && (distance == 0 || strands_[i]->in_syscall))
      return i;
  }
  return strands_.size();
}

void FakeContext::start(FakePlatform::Program program) {
  auto strand = std::make_unique<Strand>();
  Strand& s = *strand;
  s.thread = std::thread([this, &s, code = std::move(program)] { strand_main(s, code); });
  Lock lock(mutex_);
  strands_.push_back(std::move(strand));
}

std::optional<Stop> FakeContext::continue_last() {
  Strand* strand;
  {
    Lock lock(mutex_);
    strand = current_ = strands_.back().get();
    strand->runs = true;
    strand->turn.notify_one();
    while (strand->runs) stopped_.wait(mutex_);
    if (!strand->returned) return stop_;
  }
  unwind_from(strand_count() - 1);
  return std::nullopt;
}

void FakeContext::strand_main(Strand& strand, const FakePlatform::Program& program) {
  try {
    {
      Lock lock(mutex_);
      wait_for_turn(strand);
    }
    FakeGuest guest(*this);
    program(guest);
    const auto return_address = guest.read<uint64_t>(registers_.rsp);
    registers_.rsp += sizeof return_address;
    registers_.rip = return_address;
  } catch (const Unwind&) {
  }
  Lock lock(mutex_);
  strand.returned = true;
  strand.runs = false;
  stopped_.notify_one();
}

void FakeContext::wait_for_turn(Strand& strand) {
  while (!strand.runs) strand.turn.wait(mutex_);
  // A destructor that calls its guest while the lambda is unwound gets through without effect.
  if (strand.unwinding && std::uncaught_exceptions() == 0) throw Unwind{};
}

void FakeContext::stop(const Stop& at, uint64_t suspension) {
  Lock lock(mutex_);
  Strand& strand = *current_;
  if (!strand.unwinding) {
    registers_.rip = suspension;
    strand.suspension = suspension;
    strand.in_syscall = at.why == Why::kSyscall;
    strand.arch = at.arch;
    stop_ = at;
    strand.runs = false;
    stopped_.notify_one();
  }
  wait_for_turn(strand);
}

void FakeContext::take_interrupt() {
  {
    Lock lock(mutex_);
    if (!std::exchange(latched_, false)) return;
  }
  stop({.why = Why::kInterrupted});
}

void FakeContext::wait_for_interrupt() {
  {
    Lock lock(mutex_);
    while (!latched_) interrupted_.wait(mutex_);
  }
  take_interrupt();
}

void FakeContext::die() {
  {
    Lock lock(mutex_);
    lost_ = true;
  }
  stop({.why = Why::kLost});
  throw Unwind{};
}

// Ends the lambdas from `first` on, youngest first, as a stack of calls would be left.
void FakeContext::unwind_from(size_t first) {
  for (;;) {
    std::unique_ptr<Strand> last;
    {
      Lock lock(mutex_);
      if (strands_.size() <= first) return;
      last = std::move(strands_.back());
      strands_.pop_back();
      current_ = last.get();
      last->unwinding = true;
      last->runs = true;
      last->turn.notify_one();
    }
    last->thread.join();
  }
}

void FakeContext::fetch_registers(Registers& out) { out = registers_; }
void FakeContext::fetch_xstate(std::span<std::byte> out) {
  std::ranges::copy(xstate_, out.begin());
}

}  // namespace boxrun::platform
