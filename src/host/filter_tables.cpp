// The seccomp tables. Every row names its user: a row without one can go. What must never be added
// is the forbidden set of tests/unit/host_filter_test.cpp.
#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vector>

#include "src/host/filter.h"

namespace boxrun::host {
namespace {

// What glibc's pthread_create passes to clone, and nothing else: no new process, no namespace.
constexpr uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM |
                                  CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS |
                                  CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;

// The C++ run time: locks, memory, threads, time, the way out.
constexpr FilterRow kRuntime[] = {
    {SYS_futex, "locks, sleepers, thread joins"},
    {SYS_mmap, "malloc, thread stacks, file mappings", {arg_lacks(2, PROT_EXEC)}},
    {SYS_mprotect, "malloc, thread stacks", {arg_lacks(2, PROT_EXEC)}},
    {SYS_munmap, "malloc, thread stacks, file mappings"},
    {SYS_mremap, "realloc"},
    {SYS_madvise, "malloc, ended threads"},
    {SYS_brk, "malloc"},
    {SYS_clone, "pthread_create", {arg_is(0, kThreadFlags)}},
    {SYS_set_robust_list, "new threads"},
    {SYS_rseq, "new threads"},
    {SYS_gettid, "thread ids in logs, abort"},
    {SYS_getpid, "abort"},
    {SYS_exit, "end of a thread"},
    {SYS_exit_group, "end of the process"},
    {SYS_rt_sigaction, "abort"},
    {SYS_rt_sigprocmask, "abort, new threads"},
    {SYS_rt_sigreturn, "fault handlers of safe_copy"},
    {SYS_sigaltstack, "ended threads"},
    {SYS_restart_syscall, "sleeps after a stop and continue"},
    {SYS_sched_yield, "short spins"},
    {SYS_sched_getaffinity, "number of CPUs, malloc arenas"},
    {SYS_clock_gettime, "clocks where the vDSO has none, CPU-time clocks"},
    {SYS_clock_getres, "clocks"},
    {SYS_clock_nanosleep, "bounded waits"},
    {SYS_getrandom, "random seeds"},
    {SYS_prctl, "thread names", {arg32_is(0, PR_SET_NAME)}},
    {SYS_close, "descriptors"},
    {SYS_read, "descriptors"},
    {SYS_write, "descriptors, the log"},
    {SYS_readv, "descriptors"},
    {SYS_writev, "descriptors, the log"},
    {SYS_fstat, "descriptors"},
    {SYS_lseek, "descriptors"},
    {SYS_poll, "waits on descriptors"},
    {SYS_ppoll, "waits on descriptors"},
    {SYS_sendmsg, "messages between our processes"},
    {SYS_recvmsg, "messages between our processes"},
    {SYS_sendto, "messages without an address", {arg_is(4, 0)}},
    {SYS_recvfrom, "messages without an address", {arg_is(4, 0)}},
    {SYS_shutdown, "end of a channel"},
    {SYS_eventfd2, "wake-ups of epoll"},
    {SYS_epoll_create1, "waits on many descriptors"},
    {SYS_epoll_ctl, "waits on many descriptors"},
    {SYS_epoll_wait, "waits on many descriptors"},
    {SYS_epoll_pwait, "waits on many descriptors"},
};

constexpr uint32_t command(unsigned long value) { return static_cast<uint32_t>(value); }

// The Sentry: host files it was handed, the caller's standard streams, its own memory.
constexpr FilterRow kSentry[] = {
    {SYS_pread64, "read of donated files and the memory file"},
    {SYS_pwrite64, "write of donated files and the memory file"},
    {SYS_preadv, "read of donated files"},
    {SYS_pwritev, "write of donated files"},
    {SYS_preadv2, "read of donated files with flags"},
    {SYS_pwritev2, "append to donated files"},
    {SYS_ftruncate, "memory file, truncate of donated files"},
    {SYS_fallocate, "memory file: give pages back; fallocate of donated files"},
    {SYS_fsync, "fsync of donated files"},
    {SYS_fdatasync, "fdatasync of donated files"},
    {SYS_sync_file_range, "sync_file_range of donated files"},
    {SYS_msync, "msync of shared mappings"},
    {SYS_copy_file_range, "copy between donated files"},
    {SYS_memfd_create, "the memory file"},
    {SYS_fcntl, "descriptor flags", {arg32_is(1, F_GETFL)}},
    {SYS_fcntl, "descriptor flags", {arg32_is(1, F_GETFD)}},
    {SYS_fcntl, "descriptor flags", {arg32_is(1, F_SETFD)}},
    {SYS_fcntl, "duplicates of descriptors", {arg32_is(1, F_DUPFD_CLOEXEC)}},
    {SYS_fcntl, "file locks on donated files", {arg32_is(1, F_OFD_SETLK)}},
    {SYS_fcntl, "file locks on donated files", {arg32_is(1, F_OFD_GETLK)}},
    {SYS_fcntl, "seals of the memory file", {arg32_is(1, F_ADD_SEALS)}},
    {SYS_flock, "file locks on donated files"},
    {SYS_timerfd_create, "timers of the kernel"},
    {SYS_timerfd_settime, "timers of the kernel"},
    {SYS_getrusage, "CPU time of guest threads"},
    {SYS_sysinfo, "load of the host"},
    // The caller's terminal. Never TIOCSTI, TIOCLINUX or TIOCSCTTY: they reach beyond the sandbox.
    {SYS_ioctl, "terminal: attributes", {arg32_is(1, command(TCGETS))}},
    {SYS_ioctl, "terminal: attributes", {arg32_is(1, command(TCSETS))}},
    {SYS_ioctl, "terminal: attributes", {arg32_is(1, command(TCSETSW))}},
    {SYS_ioctl, "terminal: attributes", {arg32_is(1, command(TCSETSF))}},
    {SYS_ioctl, "terminal: attributes", {arg32_is(1, command(TCGETS2))}},
    {SYS_ioctl, "terminal: attributes", {arg32_is(1, command(TCSETS2))}},
    {SYS_ioctl, "terminal: attributes", {arg32_is(1, command(TCSETSW2))}},
    {SYS_ioctl, "terminal: attributes", {arg32_is(1, command(TCSETSF2))}},
    {SYS_ioctl, "terminal: drain", {arg32_is(1, command(TCSBRK))}},
    {SYS_ioctl, "terminal: flow", {arg32_is(1, command(TCXONC))}},
    {SYS_ioctl, "terminal: flush", {arg32_is(1, command(TCFLSH))}},
    {SYS_ioctl, "terminal: size", {arg32_is(1, command(TIOCGWINSZ))}},
    {SYS_ioctl, "terminal: size", {arg32_is(1, command(TIOCSWINSZ))}},
    {SYS_ioctl, "terminal: queues", {arg32_is(1, command(TIOCOUTQ))}},
    {SYS_ioctl, "terminal: process group", {arg32_is(1, command(TIOCGPGRP))}},
    {SYS_ioctl, "bytes waiting in a stream", {arg32_is(1, command(FIONREAD))}},
};

// The monitor: report files, its children. It decodes what the Sentry says, so it gets a table,
// too.
constexpr FilterRow kMonitor[] = {
    {SYS_openat, "report files, /etc/localtime"},
    {SYS_newfstatat, "report files, fstat of glibc"},
    {SYS_statx, "report files, is an unmounted path there at all"},
    {SYS_pread64, "report files"},
    {SYS_pwrite64, "report files"},
    {SYS_ftruncate, "report files"},
    {SYS_fsync, "report files"},
    {SYS_fcntl, "descriptor flags"},
    {SYS_ioctl, "is stderr a terminal, its width", {arg32_is(1, command(TCGETS))}},
    {SYS_ioctl, "is stderr a terminal, its width", {arg32_is(1, command(TIOCGWINSZ))}},
    {SYS_getcwd, "short paths in the report"},
    {SYS_wait4, "children"},
    {SYS_waitid, "children"},
    {SYS_kill, "children, stopping with the target"},
    {SYS_pidfd_send_signal, "children"},
    {SYS_tgkill, "dying of the target's signal"},
    {SYS_rt_sigpending, "was it continued after stopping with the target"},
    {SYS_signalfd4, "signals to forward"},
    {SYS_timerfd_create, "--timeout"},
    {SYS_timerfd_settime, "--timeout"},
};

std::vector<FilterRow> joined(std::span<const FilterRow> own) {
  std::vector<FilterRow> rows(std::begin(kRuntime), std::end(kRuntime));
  rows.insert(rows.end(), own.begin(), own.end());
  return rows;
}

}  // namespace

std::vector<FilterRow> rows_of(ProcessKind kind) {
  switch (kind) {
    case ProcessKind::kMonitor:
      return joined(kMonitor);
    case ProcessKind::kGofer:
      return joined({});
    case ProcessKind::kSentry:
      return joined(kSentry);
  }
  return {};
}

}  // namespace boxrun::host
