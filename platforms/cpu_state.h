#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace boxrun::platform {

// The architecture a system call was made for: what AUDIT_ARCH_* says on Linux.
enum class Arch : uint8_t { kX86_64, kI386, kX32 };  // NOLINT(readability-identifier-naming)

// x86-64 general registers in the order of struct user_regs_struct (sys/user.h).
struct Registers {
  uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax;
  uint64_t rip, cs, eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs;
};
static_assert(sizeof(Registers) == 27 * sizeof(uint64_t));

// Where registers come from while a guest thread is stopped. Implemented by each Context.
class RegisterSource {
 public:
  virtual void fetch_registers(Registers& out) = 0;
  // The standard-format (non-compacted) XSAVE area of the thread, of xstate_size() bytes.
  virtual void fetch_xstate(std::span<std::byte> out) = 0;

 protected:
  ~RegisterSource() = default;
};

// The registers of one guest thread between two runs, fetched when first asked for and written
// back by the next Context::run only where changed. Owned by the Task, used only by its host
// thread. After a kSyscall stop the number, arguments, rip and rsp are there without a fetch.
class CpuState {
 public:
  explicit CpuState(size_t xstate_size) : xstate_size_(xstate_size) {}
  CpuState(const CpuState&) = delete;
  CpuState& operator=(const CpuState&) = delete;

  // --- used by the Sentry
  uint64_t syscall_number() const { return syscall_number_; }
  uint64_t syscall_arg(size_t i) const { return syscall_args_[i]; }
  uint64_t ip() { return location_known_ ? ip_ : fetch().rip; }
  uint64_t sp() { return location_known_ ? sp_ : fetch().rsp; }
  // Sets rax. The one register a common system call changes (rcx and r11 are the platform's).
  void set_result(uint64_t rax);
  const Registers& registers() { return fetch(); }
  Registers& registers_for_write();
  std::span<const std::byte> xstate() { return fetch_xstate(); }
  std::span<std::byte> xstate_for_write();
  // Replaces all registers and resets the FP state to the one of execve(2).
  void reset(const Registers& initial);
  // For clone(2): the same registers and FP state as `parent`.
  void copy_from(CpuState& parent);
  size_t xstate_size() const { return xstate_size_; }

  // --- used by platforms
  // A new stop: everything cached is stale, `source` serves fetches until the next stop.
  void stopped(RegisterSource& source);
  // The same for a system call, with what the platform already knows.
  void stopped_in_syscall(RegisterSource& source, uint64_t number,
                          const std::array<uint64_t, 6>& args, uint64_t ip, uint64_t sp);
  bool result_dirty() const { return result_dirty_; }        // only rax changed
  bool registers_dirty() const { return registers_dirty_; }  // all of registers() must be written
  bool xstate_dirty() const { return xstate_dirty_; }
  uint64_t result() const { return result_; }
  // Everything was written to the thread.
  void written() { result_dirty_ = registers_dirty_ = xstate_dirty_ = false; }

 private:
  Registers& fetch();
  std::vector<std::byte>& fetch_xstate();

  RegisterSource* source_ = nullptr;
  uint64_t syscall_number_ = 0;
  std::array<uint64_t, 6> syscall_args_{};
  uint64_t ip_ = 0;  // with location_known_: registers_ need not be fetched for these two
  uint64_t sp_ = 0;
  bool location_known_ = false;
  uint64_t result_ = 0;
  bool result_dirty_ = false;
  bool registers_valid_ = false;
  bool registers_dirty_ = false;
  bool xstate_valid_ = false;
  bool xstate_dirty_ = false;
  Registers registers_{};
  std::vector<std::byte> xstate_;
  const size_t xstate_size_;
};

// Size in bytes of the standard-format XSAVE area for the features this host enables in XCR0
// (cpuid leaf 0xd), and that feature mask.
size_t host_xstate_size();
uint64_t host_xcr0();
// Fills an area of `host_xstate_size()` bytes with the state a new program starts with (FCW 0x37f,
// MXCSR 0x1f80, everything else initial).
void initial_xstate(std::span<std::byte> out);

}  // namespace boxrun::platform
