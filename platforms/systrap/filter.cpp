#include "platforms/systrap/filter.h"

#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <array>
#include <csignal>

#include "platforms/stub/filter_assembler.h"
#include "src/base/check.h"

namespace boxrun::platform {
namespace {

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59  // linux/prctl.h since 5.11
#endif

uint64_t upper_half(uint64_t value) { return value >> 32; }

// Traps unless the 64-bit word at `offset` is inside `range`, which crosses no border of 4 GiB.
void trap_outside(FilterAssembler& a, size_t offset, const Range& range) {
  CHECK(upper_half(range.start) == upper_half(range.end - 1));
  a.load(offset + 4);
  a.skip_if_equal(static_cast<uint32_t>(upper_half(range.start)), 1);
  a.ret(SECCOMP_RET_TRAP);
  a.load(offset);
  a.skip_if_at_least(static_cast<uint32_t>(range.start), 1);
  a.ret(SECCOMP_RET_TRAP);
  a.skip_if_at_least(static_cast<uint32_t>(range.end - 1) + 1, 0, 1);
  a.ret(SECCOMP_RET_TRAP);
}

// rt_sigprocmask(2) to the one mask that guest threads have, which is read-only.
std::array<Exactly, 3> guest_mask_row(const SystrapLayout& layout) {
  return {
      {{0, SIG_SETMASK}, {1, layout.constants() + offsetof(StubConstants, guest_mask)}, {2, 0}}};
}

constexpr uint64_t argument(unsigned i) { return offsetof(seccomp_data, args) + uint64_t{i} * 8; }

}  // namespace

std::vector<sock_filter> process_filter(const SystrapLayout& layout) {
  const StubLayout& stub = layout.stub;
  const uint64_t constants = layout.constants();
  FilterAssembler a;
  a.begin(SECCOMP_RET_TRAP);
  // The mapper's.
  a.allow(SYS_mmap, {{3, kGuestMapFlags}});
  a.allow(SYS_munmap);
  a.allow(SYS_mprotect);
  a.allow(SYS_clone, {{0, kCloneProcess}, {1, 0}});
  a.allow(SYS_clone, {{0, kCloneThread}, {1, 0}});
  a.allow(SYS_prctl, {{0, PR_SET_PDEATHSIG}, {1, SIGKILL}});
  a.allow(SYS_getppid);
  a.allow(SYS_exit_group);
  // Its answers. Guest threads lose this call with their own filter.
  a.allow(SYS_write, {{2, 8}});
  // Of mappers and guest threads.
  a.allow(SYS_futex);
  a.allow(SYS_sched_yield);
  a.allow(SYS_exit);
  a.allow(SYS_rt_sigreturn);
  // Of a guest thread before it runs guest code.
  a.allow(SYS_sigaltstack, {{1, 0}});
  a.allow(SYS_set_tid_address);
  a.allow(SYS_rt_sigprocmask, guest_mask_row(layout));
  a.allow(SYS_prctl, {{0, PR_SET_SYSCALL_USER_DISPATCH}, {2, layout.text()}, {3, kPageSize}});
  a.allow(SYS_seccomp, {{0, SECCOMP_SET_MODE_FILTER},
                        {1, SECCOMP_FILTER_FLAG_SPEC_ALLOW},
                        {2, constants + offsetof(StubConstants, thread_filter)}});
  // The seed's. The two pages named exist in the seed alone.
  a.allow(SYS_recvmsg, {{0, kStubSocketFd}, {1, stub.seed_page() + offsetof(SeedPage, message)}});
  a.allow(SYS_sendto,
          {{0, kStubSocketFd}, {1, stub.seed_page() + offsetof(SeedPage, reply)}, {2, 8}});
  a.allow(SYS_close);
  a.ret(SECCOMP_RET_TRAP);
  return a.take();
}

std::vector<sock_filter> thread_filter(const SystrapLayout& layout) {
  FilterAssembler a;
  a.begin(SECCOMP_RET_TRAP);
  trap_outside(a, offsetof(seccomp_data, instruction_pointer),
               {layout.text(), layout.text() + kPageSize});
  a.load(offsetof(seccomp_data, nr));
  a.allow(SYS_sched_yield);
  a.allow(SYS_rt_sigreturn);
  a.allow(SYS_exit);
  // The last call before guest code runs: signals must find the filter in force.
  a.allow(SYS_rt_sigprocmask, guest_mask_row(layout));
  a.skip_if_equal(SYS_futex, 1);
  a.ret(SECCOMP_RET_TRAP);
  a.load(argument(1));
  a.skip_if_equal(FUTEX_WAIT, 2);
  a.skip_if_equal(FUTEX_WAKE, 1);
  a.ret(SECCOMP_RET_TRAP);
  trap_outside(a, argument(0), layout.slots());
  a.ret(SECCOMP_RET_ALLOW);
  return a.take();
}

}  // namespace boxrun::platform
