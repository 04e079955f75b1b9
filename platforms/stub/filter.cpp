#include "platforms/stub/filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <csignal>
#include <cstddef>
#include <initializer_list>
#include <utility>

namespace boxrun::platform {
namespace {

constexpr uint64_t kVsyscallPage = 0xffffffffff600000;

// One argument that must have this value, all 64 bits of it.
struct Exactly {
  unsigned arg;
  uint64_t value;
};

class Assembler {
 public:
  void load(size_t offset) { emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<uint32_t>(offset)); }
  void ret(uint32_t action) { emit(BPF_RET | BPF_K, 0, 0, action); }
  void skip_if_equal(uint32_t value, uint8_t count) {
    emit(BPF_JMP | BPF_JEQ | BPF_K, count, 0, value);
  }
  void skip_unless_equal(uint32_t value, uint8_t count) {
    emit(BPF_JMP | BPF_JEQ | BPF_K, 0, count, value);
  }

  // Allows `number` when every argument matches. Expects the number in the accumulator and leaves
  // it there for the next row.
  void allow(int number, std::initializer_list<Exactly> args = {}) {
    // Per argument: load, compare, load, compare; then the verdict, and a reload of the number.
    const size_t size = args.size() * 4 + 1 + (args.size() == 0 ? 0 : 1);
    size_t left = size;
    skip_unless_equal(static_cast<uint32_t>(number), static_cast<uint8_t>(left));
    for (const Exactly& a : args) {
      for (const size_t half : {size_t{0}, size_t{4}}) {
        load(offsetof(seccomp_data, args) + size_t{a.arg} * 8 + half);
        left -= 2;
        // To the reload behind the verdict.
        skip_unless_equal(static_cast<uint32_t>(a.value >> (half * 8)),
                          static_cast<uint8_t>(left - 1));
      }
    }
    ret(SECCOMP_RET_ALLOW);
    if (args.size() != 0) load(offsetof(seccomp_data, nr));
  }

  std::vector<sock_filter> take() { return std::move(program_); }

 private:
  void emit(uint16_t code, uint8_t if_true, uint8_t if_false, uint32_t k) {
    program_.push_back({code, if_true, if_false, k});
  }
  std::vector<sock_filter> program_;
};

}  // namespace

std::vector<sock_filter> stub_filter(const StubLayout& layout) {
  const uint64_t message = layout.seed_page() + offsetof(SeedPage, message);
  const uint64_t reply = layout.seed_page() + offsetof(SeedPage, reply);
  Assembler a;
  a.load(offsetof(seccomp_data, arch));
  a.skip_if_equal(AUDIT_ARCH_X86_64, 1);
  a.ret(SECCOMP_RET_KILL_PROCESS);
  // In the top 4 GiB of addresses there is nothing but the vsyscall page that user code can call.
  a.load(offsetof(seccomp_data, instruction_pointer) + 4);
  a.skip_unless_equal(static_cast<uint32_t>(kVsyscallPage >> 32), 1);
  a.ret(SECCOMP_RET_TRAP);
  a.load(offsetof(seccomp_data, nr));
  a.allow(SYS_mmap, {{3, kGuestMapFlags}});
  a.allow(SYS_munmap);
  a.allow(SYS_mprotect);
  a.allow(SYS_pause);
  a.allow(SYS_clone, {{0, kCloneProcess}, {1, 0}});
  a.allow(SYS_clone, {{0, kCloneThread}, {1, 0}});
  a.allow(SYS_prctl, {{0, PR_SET_PDEATHSIG}, {1, SIGKILL}});
  a.allow(SYS_getppid);
  a.allow(SYS_exit);
  a.allow(SYS_exit_group);
  // The seed's. The two pages named exist in the seed alone.
  a.allow(SYS_recvmsg, {{0, kStubSocketFd}, {1, message}});
  a.allow(SYS_sendto, {{0, kStubSocketFd}, {1, reply}, {2, 8}});
  a.allow(SYS_close);
  a.ret(SECCOMP_RET_KILL_PROCESS);
  return a.take();
}

}  // namespace boxrun::platform
