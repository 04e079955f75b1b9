#include "platforms/stub/filter.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

#include <csignal>

#include "platforms/stub/filter_assembler.h"

namespace boxrun::platform {

std::vector<sock_filter> stub_filter(const StubLayout& layout) {
  const uint64_t message = layout.seed_page() + offsetof(SeedPage, message);
  const uint64_t reply = layout.seed_page() + offsetof(SeedPage, reply);
  FilterAssembler a;
  a.begin(SECCOMP_RET_KILL_PROCESS);
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
