#include "platforms/systrap/systrap_context.h"

#include <linux/audit.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <utility>

namespace boxrun::platform {
namespace {

using namespace std::chrono_literals;

using Clock = std::chrono::steady_clock;

constexpr uint64_t kX32Bit = 0x40000000;  // __X32_SYSCALL_BIT

// How often to look whether somebody interrupts or the process is gone; how often to ring again,
// and when to give up: a guest thread can block every signal, but then it has broken the protocol.
constexpr auto kLookAgain = 100ms;
constexpr auto kRingAgain = 20ms;
constexpr auto kPatience = 8s;

// Bringing in another version of a page of text costs about as much as this many traps.
constexpr uint32_t kHotCalls = 8;

bool canonical(uint64_t address) {
  return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}

// Of a word that guest code may change at any time: read once.
template <class T>
T copy_of(const T& word) {
  return __atomic_load_n(&word, __ATOMIC_RELAXED);
}

// Of a call by the 64-bit entry; the number loses the bit that says so.
Arch arch_of(uint64_t& number) {
  if ((number & kX32Bit) == 0 || number >> 32 != 0) return Arch::kX86_64;
  number &= ~kX32Bit;
  return Arch::kX32;
}

uint64_t base_or_zero(uint64_t base) { return canonical(base) ? base : 0; }

}  // namespace

SystrapContext::~SystrapContext() { leave(); }

Stop SystrapContext::run(AddressSpace& address_space, CpuState& cpu) {
  const Ref<GuestProcess>& process = static_cast<SystrapAddressSpace&>(address_space).process();
  Result<Stop> stop = Errno::kSrch;
  if (doorbell_.answer()) return {.why = Why::kInterrupted};
  if (process == process_ || move_to(process, cpu).ok()) {
    doorbell_.set_running(true);
    stop = run_until_stop(cpu);
    doorbell_.set_running(false);
  }
  if (stop.ok()) return *stop;
  process->kill();
  cpu.stopped(*this);
  return {.why = Why::kLost};
}

Result<void> SystrapContext::move_to(const Ref<GuestProcess>& process, CpuState& cpu) {
  if (process_) {
    // The state that the caller did not replace moves along.
    cpu.registers_for_write();
    cpu.xstate_for_write();
  }
  leave();
  thread_ = TRY(process->attach());
  process_ = process;
  pair_.enter(thread_.thread);
  doorbell_.attach(process->process(), thread_.thread);
  // The stop in which a new thread asks for registers, or the last one of a parked thread.
  TRY(wait_for_stop());
  if (at_patched_call_) TRY(give_all());
  stop_ = frame_->read(0);
  counts_ = {};
  return {};
}

void SystrapContext::leave() {
  if (!process_) return;
  doorbell_.detach();
  pair_.leave();
  process_->detach(thread_);
  process_ = nullptr;
  frame_.reset();
  at_patched_call_ = broken_ = false;
}

Result<void> SystrapContext::write_back(CpuState& cpu) {
  if (broken_) return Errno::kSrch;
  ThreadSlot& shared = slot();
  if (at_patched_call_ && !cpu.registers_dirty() && !cpu.xstate_dirty()) {
    shared.result = cpu.result_dirty() ? cpu.result() : call_number_;
    cpu.written();
    return {};
  }
  if (at_patched_call_) TRY(give_all());
  if (cpu.registers_dirty()) {
    const Registers& r = cpu.registers();
    frame_->write(r);
    shared.fs_base = base_or_zero(r.fs_base);
    // Where guest code does not use gs, it is ours: see boxrun_systrap_call.
    shared.gs_base = base_or_zero(r.gs_base) != 0 ? r.gs_base : thread_.address;
    shared.set_bases = 1;
  } else if (cpu.result_dirty()) {
    frame_->set_result(cpu.result());
  }
  if (cpu.xstate_dirty()) TRY(frame_->write_xstate(cpu.xstate()));
  cpu.written();
  return {};
}

Result<Stop> SystrapContext::run_until_stop(CpuState& cpu) {
  if (doorbell_.answer()) return Stop{.why = Why::kInterrupted};
  if (cpu.registers_dirty() && !canonical(cpu.registers().rip)) {
    // The host would refuse to go there, as it does after a sigreturn(2) of Linux.
    return Stop{.why = Why::kTrap, .signo = SIGSEGV, .code = SI_KERNEL};
  }
  TRY(write_back(cpu));
  for (;;) {
    pair_.guest_runs();
    resume();
    TRY(wait_for_stop());
    pair_.guest_stopped();
    if (std::optional<Stop> stop = TRY(handle_stop(cpu))) return *stop;
    // Guest code can make stops without meaning for ever.
    if (doorbell_.answer()) {
      cpu.stopped(*this);
      return Stop{.why = Why::kInterrupted};
    }
  }
}

void SystrapContext::resume() {
  ThreadSlot& shared = slot();
  shared.looks = pair_.looks();
  shared.state.store(kSlotRunning);
  if (shared.stub_sleeps.load() == 0) return;
  if (const uint32_t looks = pair_.looks(); looks != 0 && (looks & Placement::Pair::kYield) == 0) {
    counter_.count(StopCount::kStubAsleep);
    pair_.missed();
  }
  futex_wake(&shared.state, 1, FutexScope::kShared);
}

void SystrapContext::look() {
  const ThreadSlot& shared = slot();
  const uint32_t looks = pair_.looks();
  const bool yields = (looks & Placement::Pair::kYield) != 0;
  for (uint32_t left = looks & ~Placement::Pair::kYield; left > 0; left--) {
    if (yields) {
      ::sched_yield();
    } else {
      __builtin_ia32_pause();
    }
    if (shared.state.load(std::memory_order_acquire) != kSlotRunning) {
      if (!yields) counter_.count(StopCount::kAwake);
      return;
    }
    if (pair_.looks() != looks) return;
  }
  if (yields || looks == 0) return;
  counter_.count(StopCount::kHostAsleep);
  pair_.missed();
}

Result<void> SystrapContext::wait_for_stop(Patience patience) {
  ThreadSlot& shared = slot();
  look();
  // By the clock, since guest code can wake this thread as often as it likes; but patience is
  // counted in looks: while the machine or the container was frozen nobody had a turn.
  std::optional<int> looks_left;
  Clock::time_point next_look{};
  for (;;) {
    const uint32_t state = shared.state.load();
    if (state == kSlotStopped) break;
    if (state != kSlotRunning) return Errno::kSrch;
    shared.sentry_sleeps.store(1);
    if (shared.state.load() != kSlotRunning) continue;
    const Clock::time_point now = Clock::now();
    if (!looks_left && (patience == Patience::kLittle || doorbell_.latched())) {
      looks_left = kPatience / kRingAgain;
      next_look = now + kRingAgain;
    } else if (next_look == Clock::time_point{}) {
      next_look = now + kLookAgain;
    } else if (now >= next_look) {
      if (process_->lost()) return Errno::kSrch;
      if (looks_left && (*looks_left)-- == 0) return Errno::kSrch;
      if (looks_left) ::syscall(SYS_tgkill, process_->process(), thread_.thread, kDoorbell);
      next_look = now + (looks_left ? kRingAgain : kLookAgain);
    }
    (void)futex_wait(shared.state, kSlotRunning, next_look, FutexScope::kShared);
  }
  shared.sentry_sleeps.store(0, std::memory_order_relaxed);
  const uint32_t signal = copy_of(shared.signal);
  stop_.signo = static_cast<int>(signal);
  at_patched_call_ = signal == kCallStop;
  if (at_patched_call_) return {};
  const uint64_t frame = copy_of(shared.frame);
  frame_ = TRY(SignalFrame::at(frame, process_->slot_bytes(thread_), thread_.address));
  return {};
}

Result<std::optional<Stop>> SystrapContext::handle_stop(CpuState& cpu) {
  if (at_patched_call_) return std::optional(TRY(patched_call(cpu)));
  read_frame();
  const uint64_t all = process_->layout().address_of(boxrun_systrap_all);
  if (stop_.signo == SIGTRAP && stop_.registers.rip == all) {
    // The doorbell rang when guest code was about to go on after a patched call.
    stop_.signo = kDoorbell;
    if (!canonical(stop_.registers.rcx)) return Errno::kSrch;
    stop_.registers.rip = stop_.registers.rcx;
    frame_->set_ip(stop_.registers.rip);
  }
  switch (stop_.signo) {
    case kDoorbell:
      if (!doorbell_.answer()) return std::optional<Stop>();
      counter_.count(StopCount::kInterrupts);
      cpu.stopped(*this);
      return std::optional<Stop>(Stop{.why = Why::kInterrupted});
    case SIGSYS:
      if (stop_.info.si_code <= 0) return std::optional<Stop>();
      return std::optional<Stop>(system_call(cpu));
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
      return exception(cpu);
    default:
      return Errno::kSrch;
  }
}

Stop SystrapContext::system_call(CpuState& cpu) {
  counter_.count(StopCount::kTrapped);
  Stop stop{.why = Why::kSyscall};
  auto number = static_cast<uint64_t>(int64_t{stop_.info.si_syscall});
  if (stop_.info.si_arch != AUDIT_ARCH_X86_64) {
    stop.arch = Arch::kI386;
  } else {
    stop.arch = arch_of(number);
  }
  const Registers& r = stop_.registers;
  stop_.registers.orig_rax = number;
  cpu.stopped_in_syscall(*this, number, {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9}, r.rip, r.rsp);
  stop.hot = stop.arch == Arch::kX86_64 && is_hot(r.rip);
  return stop;
}

bool SystrapContext::is_hot(uint64_t ip) {
  CallCount& count = counts_[ip / 2 % counts_.size()];
  if (count.ip != ip) count = {ip, 0};
  // Asked again later and later: it may not be a site of the kind that can be improved.
  return ++count.calls >= kHotCalls && std::has_single_bit(count.calls);
}

Result<Stop> SystrapContext::patched_call(CpuState& cpu) {
  counter_.count(StopCount::kPatched);
  const ThreadSlot& shared = slot();
  // The host looks at the lower half of rax (arch/x86/entry/common.c: do_syscall_64).
  auto number = static_cast<uint64_t>(int64_t{static_cast<int32_t>(copy_of(shared.number))});
  call_ip_ = copy_of(shared.ip);
  std::array<uint64_t, 6> args;
  for (size_t i = 0; i < args.size(); i++) args[i] = copy_of(shared.args[i]);
  if (!canonical(call_ip_)) return Errno::kSrch;
  Stop stop{.why = Why::kSyscall, .arch = arch_of(number)};
  call_number_ = number;
  cpu.stopped_in_syscall(*this, number, args, call_ip_, copy_of(shared.sp));
  return stop;
}

Result<void> SystrapContext::give_all() {
  slot().give_all = 1;
  const uint64_t all = process_->layout().address_of(boxrun_systrap_all);
  // A doorbell that was late may come first.
  for (int i = 0; i < 4; i++) {
    resume();
    TRY(wait_for_stop(Patience::kLittle));
    if (at_patched_call_) return Errno::kSrch;
    read_frame();
    if (stop_.signo == SIGTRAP && stop_.registers.rip == all) {
      Registers& r = stop_.registers;
      r.rip = r.rcx = call_ip_;
      r.r11 = r.eflags;
      r.orig_rax = r.rax = call_number_;
      frame_->set_ip(r.rip);
      return {};
    }
    if (stop_.signo != kDoorbell) return Errno::kSrch;
  }
  return Errno::kSrch;
}

void SystrapContext::read_frame() {
  const ThreadSlot& shared = slot();
  stop_ = frame_->read(stop_.signo);
  stop_.registers.fs_base = copy_of(shared.fs_base);
  const uint64_t gs_base = copy_of(shared.gs_base);
  stop_.registers.gs_base = gs_base == thread_.address ? 0 : gs_base;
}

// For fetches, which cannot fail: the thread is lost when it is to go on.
void SystrapContext::take_all() {
  if (!at_patched_call_ || broken_ || give_all().ok()) return;
  broken_ = true;
  process_->kill();
}

std::optional<Stop> SystrapContext::exception(CpuState& cpu) {
  const siginfo_t& info = stop_.info;
  // From another process: the guest has no business with it.
  if (info.si_code <= 0) return std::nullopt;
  Stop stop{.why = Why::kTrap, .signo = stop_.signo, .code = info.si_code};
  // SI_KERNEL is a general protection fault (a non-canonical address, a privileged instruction):
  // Linux gives no address for it.
  if (info.si_code != SI_KERNEL) stop.addr = reinterpret_cast<uint64_t>(info.si_addr);
  if (stop_.signo == SIGSEGV && info.si_code != SI_KERNEL) {
    constexpr uint64_t kWrite = 2;  // arch/x86/include/asm/trap_pf.h
    constexpr uint64_t kInstruction = 16;
    stop.why = Why::kFault;
    stop.access = Access::kRead;
    if ((stop_.error_code & kWrite) != 0) stop.access = Access::kWrite;
    // Without NX the host cannot tell the last from a read.
    if ((stop_.error_code & kInstruction) != 0 || stop_.registers.rip == stop.addr) {
      stop.access = Access::kExecute;
    }
  }
  counter_.count(stop.why == Why::kFault ? StopCount::kFaults : StopCount::kExceptions);
  cpu.stopped(*this);
  return stop;
}

void SystrapContext::fetch_registers(Registers& out) {
  take_all();
  out = stop_.registers;
}

void SystrapContext::fetch_xstate(std::span<std::byte> out) {
  take_all();
  if (broken_ || !frame_ || !frame_->read_xstate(out).ok()) initial_xstate(out);
}

}  // namespace boxrun::platform
