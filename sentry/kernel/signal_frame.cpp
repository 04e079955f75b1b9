// The stack frame of a signal handler on x86-64, bit for bit as Linux builds it (arch/x86/kernel/
// signal_64.c, fpu/signal.c), because libgcc, debuggers and language runtimes parse it. From high
// to low addresses: the 128 bytes below the stack pointer that leaf functions use, the XSAVE area
// (64-byte aligned) with its magic words, then rt_sigframe with the return address at its lowest
// word. On the way back nothing in the frame is trusted.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace boxrun::kernel {
namespace {

constexpr uint64_t kRedZone = 128;
constexpr uint64_t kSaRestorer = 0x04000000;

// struct sigcontext_64.
struct Context {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  uint64_t di, si, bp, bx, dx, ax, cx, sp, ip, flags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2;
  uint64_t fpstate;
  uint64_t reserved[8];
};
static_assert(sizeof(Context) == 256);

struct Stack {
  uint64_t sp;
  uint32_t flags, pad;
  uint64_t size;
};

struct UserContext {
  uint64_t flags;
  uint64_t link;
  Stack stack;
  Context context;
  SignalSet mask;
};
static_assert(sizeof(UserContext) == 304);

struct Frame {
  uint64_t return_address;
  UserContext uc;
  SigInfo info;
};
static_assert(sizeof(Frame) == 440);

// uc_flags (uapi/asm/ucontext.h): the frame has XSAVE state, and ss is saved and to be restored.
constexpr uint64_t kUcFlags = 1 | 2 | 4;

// struct _fpx_sw_bytes, in the part of the legacy area that is software's.
struct SoftwareBytes {
  uint32_t magic1;
  uint32_t extended_size;
  uint64_t features;
  uint32_t xstate_size;
  uint32_t padding[7];
};
static_assert(sizeof(SoftwareBytes) == 48);
constexpr size_t kSoftwareBytesOffset = 464;
constexpr size_t kMxcsrOffset = 24;
constexpr size_t kHeaderOffset = 512;
constexpr size_t kHeaderSize = 64;
constexpr size_t kLegacySize = 512;
constexpr uint32_t kMagic1 = 0x46505853;
constexpr uint32_t kMagic2 = 0x46505845;
constexpr uint64_t kX87AndSse = 3;
constexpr uint32_t kMxcsrMask = 0xffff;

// What a handler may change in the flags (FIX_EFLAGS): AC OF DF TF SF ZF AF PF CF RF.
constexpr uint64_t kUserFlags = 0x50dd5;
constexpr uint64_t kDirection = 0x400, kTrapFlag = 0x100, kResume = 0x10000;
constexpr uint64_t kUserCs = 0x33, kUserDs = 0x2b;

template <class T>
T load(std::span<const std::byte> area, size_t offset) {
  T value;
  std::memcpy(&value, area.data() + offset, sizeof value);
  return value;
}
template <class T>
void store(std::span<std::byte> area, size_t offset, const T& value) {
  std::memcpy(area.data() + offset, &value, sizeof value);
}

// The FP part of a frame: the XSAVE area and what Linux adds to it.
std::vector<std::byte> fp_frame(std::span<const std::byte> xstate) {
  std::vector<std::byte> out(xstate.size() + sizeof kMagic2);
  std::copy(xstate.begin(), xstate.end(), out.begin());
  const SoftwareBytes software{.magic1 = kMagic1,
                               .extended_size = static_cast<uint32_t>(out.size()),
                               .features = platform::host_xcr0(),
                               .xstate_size = static_cast<uint32_t>(xstate.size()),
                               .padding = {}};
  store(std::span(out), kSoftwareBytesOffset, software);
  store(std::span(out), kHeaderOffset, load<uint64_t>(xstate, kHeaderOffset) | kX87AndSse);
  store(std::span(out), xstate.size(), kMagic2);
  return out;
}

// True when the area is an extended one as we write them, rather than a bare FXSAVE image.
bool extended(std::span<const std::byte> area, const SoftwareBytes& software) {
  const size_t size = area.size() - sizeof kMagic2;
  return software.magic1 == kMagic1 && software.extended_size == area.size() &&
         software.xstate_size == size && load<uint32_t>(area, size) == kMagic2;
}

// Checks what XRSTOR would check, so that the platform never loads a state the processor refuses.
Result<void> sanitize_header(std::span<std::byte> area, uint64_t wanted) {
  const auto features = load<uint64_t>(area, kHeaderOffset);
  if ((features & ~platform::host_xcr0()) != 0) return Errno::kInval;
  for (size_t i = kHeaderOffset + 8; i < kHeaderOffset + kHeaderSize; i++) {
    if (area[i] != std::byte{0}) return Errno::kInval;
  }
  store(area, kHeaderOffset, features & wanted);
  return {};
}

Context context_of(const platform::Registers& r) {
  Context c{};
  c.r8 = r.r8, c.r9 = r.r9, c.r10 = r.r10, c.r11 = r.r11;
  c.r12 = r.r12, c.r13 = r.r13, c.r14 = r.r14, c.r15 = r.r15;
  c.di = r.rdi, c.si = r.rsi, c.bp = r.rbp, c.bx = r.rbx;
  c.dx = r.rdx, c.ax = r.rax, c.cx = r.rcx;
  c.sp = r.rsp, c.ip = r.rip, c.flags = r.eflags;
  c.cs = static_cast<uint16_t>(r.cs), c.ss = static_cast<uint16_t>(r.ss);
  return c;
}

void restore(platform::Registers& r, const Context& c) {
  r.r8 = c.r8, r.r9 = c.r9, r.r10 = c.r10, r.r11 = c.r11;
  r.r12 = c.r12, r.r13 = c.r13, r.r14 = c.r14, r.r15 = c.r15;
  r.rdi = c.di, r.rsi = c.si, r.rbp = c.bp, r.rbx = c.bx;
  r.rdx = c.dx, r.rax = c.ax, r.rcx = c.cx;
  r.rsp = c.sp, r.rip = c.ip;
  r.eflags = (r.eflags & ~kUserFlags) | (c.flags & kUserFlags);
  // Linux would take any user segment; no 64-bit program has others than these two.
  r.cs = kUserCs;
  r.ss = kUserDs;
  r.orig_rax = UINT64_MAX;  // not in a system call any more: nothing to restart
}

}  // namespace

Result<void> Task::push_signal_frame(const SigInfo& info, const SignalAction& action,
                                     SignalSet mask) {
  if ((action.flags & kSaRestorer) == 0) return Errno::kFault;  // x86-64 has no other way back
  platform::Registers& registers = cpu_.registers_for_write();
  const std::vector<std::byte> fp = fp_frame(cpu_.xstate());

  uint64_t sp = registers.rsp - kRedZone;
  const bool nested = alt_stack_.active(registers.rsp);
  const bool entering =
      (action.flags & SA_ONSTACK) != 0 && (alt_stack_.reported_flags(sp) & ~kAutoDisarm) == 0;
  if (entering) sp = alt_stack_.base + alt_stack_.size;
  const uint64_t fp_address = (sp - fp.size()) & ~uint64_t{63};
  // As if called: the stack pointer is 8 below a multiple of 16 on entry.
  const uint64_t address = ((fp_address - sizeof(Frame)) & ~uint64_t{15}) - 8;
  if ((nested || entering) && !alt_stack_.contains(address)) return Errno::kFault;

  Frame frame{};
  frame.return_address = action.restorer;
  frame.uc.flags = kUcFlags;
  frame.uc.stack = {alt_stack_.base, alt_stack_.flags, 0, alt_stack_.size};
  frame.uc.context = context_of(registers);
  frame.uc.context.err = last_fault_.error;
  frame.uc.context.trapno = last_fault_.trap;
  frame.uc.context.cr2 = last_fault_.address;
  frame.uc.context.oldmask = mask.bits;
  frame.uc.context.fpstate = fp_address;
  frame.uc.mask = mask;
  if ((action.flags & SA_SIGINFO) != 0) frame.info = info;
  TRY(mm().copy_out(fp_address, fp));
  TRY(mm().copy_out(address, bytes_of(frame)));

  registers.rdi = static_cast<uint64_t>(info.si_signo);
  registers.rsi = address + offsetof(Frame, info);
  registers.rdx = address + offsetof(Frame, uc);
  registers.rax = 0;
  registers.rsp = address;
  registers.rip = action.handler;
  registers.cs = kUserCs;
  registers.ss = kUserDs;
  registers.eflags &= ~(kDirection | kTrapFlag | kResume);
  // A handler starts with the initial FPU state, control words included (arch/x86/kernel/signal.c:
  // fpu__clear_user_states).
  platform::initial_xstate(cpu_.xstate_for_write());
  if ((alt_stack_.flags & kAutoDisarm) != 0) alt_stack_ = {};
  return {};
}

Result<void> Task::restore_xstate(uint64_t address) {
  std::vector<std::byte> area(cpu_.xstate_size());
  platform::initial_xstate(area);
  if (address != 0) {
    std::vector<std::byte> user(area.size() + sizeof kMagic2);
    TRY(mm().copy_in(address, std::span(user).first(kLegacySize)));
    const auto software = load<SoftwareBytes>(user, kSoftwareBytesOffset);
    // A frame without the magic words holds FXSAVE state only; the rest becomes initial.
    size_t take = kLegacySize;
    if (software.magic1 == kMagic1 && mm().copy_in(address, user).ok() &&
        extended(user, software)) {
      take = area.size();
      TRY(sanitize_header(std::span(user), software.features));
    }
    std::copy_n(user.begin(), take, area.begin());
    store(std::span(area), kSoftwareBytesOffset, SoftwareBytes{});
    if ((load<uint32_t>(area, kMxcsrOffset) & ~kMxcsrMask) != 0) return Errno::kInval;
  }
  const std::span<std::byte> target = cpu_.xstate_for_write();
  std::copy(area.begin(), area.end(), target.begin());
  return {};
}

Result<void> Task::pop_signal_frame() {
  // The handler's `ret` has taken the return address off.
  const uint64_t address = cpu_.sp() - sizeof(uint64_t);
  UserContext uc;
  TRY(mm().copy_in(address + offsetof(Frame, uc), writable_bytes_of(uc)));
  set_signal_mask(uc.mask);
  restore(cpu_.registers_for_write(), uc.context);
  TRY(restore_xstate(uc.context.fpstate));
  // Like Linux, errors of the saved stack are of no consequence.
  (void)set_alt_stack({uc.stack.sp, uc.stack.size, uc.stack.flags}, cpu_.sp());
  return {};
}

void Task::sigreturn() {
  keep_registers();
  if (!pop_signal_frame().ok()) force_signal(kernel_signal(SIGSEGV));
}

}  // namespace boxrun::kernel
