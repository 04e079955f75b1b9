// What the platform tests share: a memory file with guest code in it, and one guest thread.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <span>

#include "platforms/platform.h"
#include "src/base/fd.h"

#define GUEST_LABEL(name) extern "C" const char name[]
GUEST_LABEL(guest_text);
GUEST_LABEL(guest_text_end);
GUEST_LABEL(guest_syscall);
GUEST_LABEL(guest_syscall_done);
GUEST_LABEL(guest_site);
GUEST_LABEL(guest_site_done);
GUEST_LABEL(guest_site_six);
GUEST_LABEL(guest_site_six_done);
GUEST_LABEL(guest_site_zero);
GUEST_LABEL(guest_site_zero_done);
GUEST_LABEL(guest_no_site_done);
GUEST_LABEL(guest_site_steps);
GUEST_LABEL(guest_site_steps_done);
GUEST_LABEL(guest_forge_call);
GUEST_LABEL(guest_site_flags);
GUEST_LABEL(guest_site_flags_done);
GUEST_LABEL(guest_load);
GUEST_LABEL(guest_store);
GUEST_LABEL(guest_jump);
GUEST_LABEL(guest_spin);
GUEST_LABEL(guest_hammer);
GUEST_LABEL(guest_int3);
GUEST_LABEL(guest_int3_done);
GUEST_LABEL(guest_undefined);
GUEST_LABEL(guest_divide);
GUEST_LABEL(guest_privileged);
GUEST_LABEL(guest_single_step);
GUEST_LABEL(guest_single_step_done);
GUEST_LABEL(guest_misaligned);
GUEST_LABEL(guest_int80);
GUEST_LABEL(guest_x32);
GUEST_LABEL(guest_vsyscall);
GUEST_LABEL(guest_vsyscall_done);
GUEST_LABEL(guest_vector);
GUEST_LABEL(guest_vector512);
GUEST_LABEL(guest_hostile_calls);
#undef GUEST_LABEL

namespace boxrun::platform {

inline constexpr uint64_t kTextAddress = 0x400000;
inline constexpr uint64_t kDataAddress = 0x10000000;
inline constexpr uint64_t kTextSize = 0x1000;
inline constexpr uint64_t kDataOffset = 0x10000;
inline constexpr uint64_t kMemorySize = 64 << 20;

inline uint64_t guest_address(const char* label) {
  return kTextAddress + static_cast<uint64_t>(label - guest_text);
}

// The memory file, with the guest's text at offset 0, mapped here.
class TestMemory {
 public:
  TestMemory() : fd_(::memfd_create("guest", MFD_CLOEXEC)) {
    (void)!::ftruncate(fd_.get(), kMemorySize);
    data_ = static_cast<std::byte*>(
        ::mmap(nullptr, kMemorySize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
    std::memcpy(data_, guest_text, static_cast<size_t>(guest_text_end - guest_text));
  }
  ~TestMemory() { ::munmap(data_, kMemorySize); }
  int fd() const { return fd_.get(); }
  std::byte* at(uint64_t offset) const { return data_ + offset; }
  uint64_t word(uint64_t offset) const {
    return __atomic_load_n(reinterpret_cast<uint64_t*>(at(offset)), __ATOMIC_ACQUIRE);
  }
  void set_word(uint64_t offset, uint64_t value) const {
    __atomic_store_n(reinterpret_cast<uint64_t*>(at(offset)), value, __ATOMIC_RELEASE);
  }

 private:
  UniqueFd fd_;
  std::byte* data_;
};

inline constexpr Prot kReadWrite = Prot::kRead | Prot::kWrite;
inline constexpr Prot kReadExec = Prot::kRead | Prot::kExec;

inline Registers registers_at(const char* label, uint64_t stack = kDataAddress + 0x800) {
  Registers r{};
  r.rip = guest_address(label);
  r.rsp = stack;
  r.cs = 0x33;
  r.ss = 0x2b;
  r.eflags = 0x202;
  return r;
}

// Text at kTextAddress, one page of data at kDataAddress (kDataOffset in the file).
inline Result<void> map_program(AddressSpace& space, const TestMemory& memory) {
  const Op ops[] = {
      Op::map({kTextAddress, kTextAddress + kTextSize}, memory.fd(), 0, kReadExec),
      Op::map({kDataAddress, kDataAddress + kPageSize}, memory.fd(), kDataOffset, kReadWrite),
  };
  return space.apply(ops);
}

inline Op map_page(uint64_t address, const TestMemory& memory, uint64_t offset, Prot prot) {
  return Op::map({address, address + kPageSize}, memory.fd(), offset, prot);
}

// One guest thread, for the host thread that makes it.
struct GuestThread {
  AddressSpace* space;
  std::unique_ptr<Context> context;
  CpuState cpu{host_xstate_size()};

  GuestThread(Platform& platform, AddressSpace& in)
      : space(&in), context(std::move(platform.new_context()).take()) {}
  Stop run() { return context->run(*space, cpu); }
  // Runs on after a system call that returned `result`.
  Stop run_with(uint64_t result) {
    cpu.set_result(result);
    return run();
  }
  void start(const char* label, uint64_t rbx = 0, uint64_t rcx = 0) {
    Registers r = registers_at(label);
    r.rbx = rbx;
    r.rcx = rcx;
    cpu.reset(r);
  }
};

}  // namespace boxrun::platform
