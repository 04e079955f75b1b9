#include "platforms/systrap/signal_frame.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace boxrun::platform {
namespace {

// struct sigcontext_64 (arch/x86/include/uapi/asm/sigcontext.h).
struct HostContext {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2, fpstate;
  uint64_t reserved[8];
};
static_assert(sizeof(HostContext) == 256);

// struct ucontext, and the siginfo that follows it in struct rt_sigframe.
struct HostFrame {
  uint64_t flags, link;
  uint64_t stack[3];
  HostContext context;
  uint64_t mask;
  siginfo_t info;
};
static_assert(offsetof(HostFrame, context) == 40 && offsetof(HostFrame, info) == 304);

constexpr uint64_t kUserCode = 0x33;
constexpr uint64_t kUserData = 0x2b;
// CF PF AF ZF SF TF DF OF RF AC: what a sigreturn(2) can set (FIX_EFLAGS of the host).
constexpr uint64_t kUserFlags = 0x50dd5;
constexpr uint64_t kFixedFlags = 0x202;  // IF and the bit that is always set

// Intel SDM volume 1, 13.4.
constexpr size_t kLegacySize = 512;
constexpr size_t kSmallest = kLegacySize + 64;  // with the header
constexpr size_t kMxcsr = 24;
constexpr size_t kSoftware = 464;  // to the end of the legacy region: struct _fpx_sw_bytes
constexpr size_t kFeatures = kSoftware + 8;
constexpr size_t kSize = kSoftware + 16;

// Bits of MXCSR that this CPU has: Intel SDM volume 1, 11.6.6.
uint32_t host_mxcsr_mask() {
  static const uint32_t mask = [] {
    alignas(16) std::array<std::byte, kLegacySize> area{};
    asm volatile("fxsave64 (%0)" : : "r"(area.data()) : "memory");
    uint32_t value;
    std::memcpy(&value, &area[28], sizeof value);
    return value != 0 ? value : 0xffbf;
  }();
  return mask;
}

}  // namespace

Result<SignalFrame> SignalFrame::at(uint64_t address, std::byte* slot, uint64_t slot_address) {
  const uint64_t offset = address - slot_address;
  if (address % 8 != 0 || offset < ThreadSlot::kStackOffset ||
      offset > ThreadSlot::kSize - sizeof(HostFrame)) {
    return Errno::kFault;
  }
  return SignalFrame(slot + offset, slot, slot_address);
}

StopInfo SignalFrame::read(int signo) const {
  HostFrame frame;
  std::memcpy(&frame, frame_, sizeof frame);
  const HostContext& c = frame.context;
  StopInfo stop{.signo = signo, .info = frame.info, .error_code = c.err};
  Registers& r = stop.registers;
  r.r8 = c.r8, r.r9 = c.r9, r.r10 = c.r10, r.r11 = c.r11;
  r.r12 = c.r12, r.r13 = c.r13, r.r14 = c.r14, r.r15 = c.r15;
  r.rdi = c.rdi, r.rsi = c.rsi, r.rbp = c.rbp, r.rbx = c.rbx;
  r.rdx = c.rdx, r.rax = c.rax, r.rcx = c.rcx, r.rsp = c.rsp;
  r.rip = c.rip, r.eflags = c.eflags;
  r.cs = kUserCode, r.ss = kUserData;
  r.orig_rax = UINT64_MAX;
  return stop;
}

void SignalFrame::set_result(uint64_t rax) const {
  std::memcpy(frame_ + offsetof(HostFrame, context.rax), &rax, sizeof rax);
}

void SignalFrame::set_ip(uint64_t rip) const {
  std::memcpy(frame_ + offsetof(HostFrame, context.rip), &rip, sizeof rip);
}

void SignalFrame::write(const Registers& r) const {
  HostContext c;
  std::byte* at = frame_ + offsetof(HostFrame, context);
  std::memcpy(&c, at, sizeof c);
  c.r8 = r.r8, c.r9 = r.r9, c.r10 = r.r10, c.r11 = r.r11;
  c.r12 = r.r12, c.r13 = r.r13, c.r14 = r.r14, c.r15 = r.r15;
  c.rdi = r.rdi, c.rsi = r.rsi, c.rbp = r.rbp, c.rbx = r.rbx;
  c.rdx = r.rdx, c.rax = r.rax, c.rcx = r.rcx, c.rsp = r.rsp;
  c.rip = r.rip, c.eflags = (r.eflags & kUserFlags) | kFixedFlags;
  std::memcpy(at, &c, sizeof c);
}

Result<std::span<std::byte>> SignalFrame::xstate(size_t most) const {
  uint64_t address;
  std::memcpy(&address, frame_ + offsetof(HostFrame, context.fpstate), sizeof address);
  const uint64_t offset = address - slot_address_;
  if (address % 64 != 0 || offset < ThreadSlot::kStackOffset ||
      offset > ThreadSlot::kSize - kSmallest) {
    return Errno::kFault;
  }
  // Smaller than the host's XCR0 makes it where a feature needs leave (AMX).
  uint32_t size;
  std::memcpy(&size, slot_ + offset + kSize, sizeof size);
  const size_t inside = std::min<size_t>(most, ThreadSlot::kSize - offset);
  return std::span(slot_ + offset, std::clamp<size_t>(size, kSmallest, inside));
}

Result<void> SignalFrame::read_xstate(std::span<std::byte> out) const {
  const std::span<const std::byte> area = TRY(xstate(out.size()));
  std::fill(std::ranges::copy(area, out.begin()).out, out.end(), std::byte{0});
  // The software's bytes are the host's own.
  std::fill_n(out.begin() + kSoftware, kLegacySize - kSoftware, std::byte{0});
  return {};
}

Result<void> SignalFrame::write_xstate(std::span<const std::byte> from) const {
  const std::span<std::byte> area = TRY(xstate(from.size()));
  uint64_t features;
  uint32_t mxcsr;
  uint64_t header[(kSmallest - kLegacySize) / 8]{};
  std::memcpy(&features, &area[kFeatures], sizeof features);
  std::memcpy(&mxcsr, &from[kMxcsr], sizeof mxcsr);
  std::memcpy(&header[0], &from[kLegacySize], sizeof header[0]);
  mxcsr &= host_mxcsr_mask();
  header[0] &= features & host_xcr0();
  std::ranges::copy(from.first(kSoftware), area.begin());
  std::memcpy(&area[kMxcsr], &mxcsr, sizeof mxcsr);
  std::memcpy(&area[kLegacySize], header, sizeof header);
  std::ranges::copy(from.subspan(kSmallest, area.size() - kSmallest), area.begin() + kSmallest);
  return {};
}

}  // namespace boxrun::platform
