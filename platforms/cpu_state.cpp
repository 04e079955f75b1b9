#include "platforms/cpu_state.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>

#include "src/base/check.h"

namespace boxrun::platform {

void CpuState::stopped(RegisterSource& source) {
  source_ = &source;
  result_dirty_ = registers_dirty_ = xstate_dirty_ = false;
  registers_valid_ = xstate_valid_ = location_known_ = false;
}

void CpuState::stopped_in_syscall(RegisterSource& source, uint64_t number,
                                  const std::array<uint64_t, 6>& args, uint64_t ip, uint64_t sp) {
  stopped(source);
  syscall_number_ = number;
  syscall_args_ = args;
  ip_ = ip;
  sp_ = sp;
  location_known_ = true;
}

Registers& CpuState::fetch() {
  if (!registers_valid_) {
    CHECK(source_ != nullptr);  // a new state begins with reset() or copy_from()
    source_->fetch_registers(registers_);
    if (result_dirty_) registers_.rax = result_;
    registers_valid_ = true;
  }
  return registers_;
}

std::vector<std::byte>& CpuState::fetch_xstate() {
  if (!xstate_valid_) {
    CHECK(source_ != nullptr);
    xstate_.resize(xstate_size_);
    source_->fetch_xstate(xstate_);
    xstate_valid_ = true;
  }
  return xstate_;
}

void CpuState::set_result(uint64_t rax) {
  result_ = rax;
  result_dirty_ = true;
  if (registers_valid_) registers_.rax = rax;
}

Registers& CpuState::registers_for_write() {
  Registers& registers = fetch();
  registers_dirty_ = true;
  location_known_ = false;
  return registers;
}

std::span<std::byte> CpuState::xstate_for_write() {
  std::vector<std::byte>& xstate = fetch_xstate();
  xstate_dirty_ = true;
  return xstate;
}

void CpuState::reset(const Registers& initial) {
  registers_ = initial;
  registers_valid_ = registers_dirty_ = true;
  result_dirty_ = location_known_ = false;
  xstate_.resize(xstate_size_);
  initial_xstate(xstate_);
  xstate_valid_ = xstate_dirty_ = true;
}

void CpuState::copy_from(CpuState& parent) {
  CHECK(xstate_size_ == parent.xstate_size_);
  registers_ = parent.fetch();
  registers_valid_ = registers_dirty_ = true;
  result_dirty_ = location_known_ = false;
  xstate_ = parent.fetch_xstate();
  xstate_valid_ = xstate_dirty_ = true;
}

namespace {

// Intel SDM volume 1, 13.4: the legacy region and the XSAVE header.
constexpr size_t kLegacyRegionSize = 512;
constexpr size_t kXsaveHeaderSize = 64;
constexpr size_t kFcwOffset = 0;
constexpr size_t kMxcsrOffset = 24;
constexpr size_t kXstateBvOffset = kLegacyRegionSize;
constexpr uint64_t kX87AndSse = 3;

}  // namespace

size_t host_xstate_size() {
  unsigned eax, ebx, ecx, edx;
  if (__get_cpuid_count(0xd, 0, &eax, &ebx, &ecx, &edx) == 0 || ebx == 0) {
    return kLegacyRegionSize + kXsaveHeaderSize;
  }
  return ebx;
}

uint64_t host_xcr0() {
  unsigned eax, ebx, ecx, edx;
  constexpr unsigned kOsxsave = 1u << 27;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & kOsxsave) == 0) return kX87AndSse;
  asm volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  return eax | static_cast<uint64_t>(edx) << 32;
}

void initial_xstate(std::span<std::byte> out) {
  CHECK(out.size() >= kLegacyRegionSize + kXsaveHeaderSize);
  std::fill(out.begin(), out.end(), std::byte{0});
  const uint16_t fcw = 0x37f;
  const uint32_t mxcsr = 0x1f80;
  // Linux marks x87 and SSE as in use so that the two control words count (init_fpstate).
  const uint64_t xstate_bv = kX87AndSse;
  std::memcpy(&out[kFcwOffset], &fcw, sizeof fcw);
  std::memcpy(&out[kMxcsrOffset], &mxcsr, sizeof mxcsr);
  std::memcpy(&out[kXstateBvOffset], &xstate_bv, sizeof xstate_bv);
}

}  // namespace boxrun::platform
