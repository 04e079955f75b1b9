// The table itself. A line is
//   SYSCALL(name, group, support, note)  handled by sys_name; note: what is missing where kPartial
//   REFUSED(name, group, errno, note)    answered on purpose with an errno
//   NONE(name, group)                    not implemented: ENOSYS, and the report says so
#include "sentry/syscalls/table.h"

#include <algorithm>

#include "src/abi/syscall_numbers.h"

namespace boxrun::syscalls {
namespace {

#define SYSCALL(name, group, support, note)                                                  \
  Syscall {                                                                                  \
    abi::kSys_##name, #name, &Bind<&sys_##name>::call, &Bind<&sys_##name>::print,            \
        Group::group, Support::support, Errno::kOk, note, Bind<&sys_##name>::kArgc,          \
        Bind<&sys_##name>::kinds(), false                                                    \
  }
#define SYSCALL_SETS_REGISTERS(name, group, support, note)                                   \
  [] {                                                                                       \
    Syscall row = SYSCALL(name, group, support, note);                                       \
    row.sets_registers = true;                                                               \
    return row;                                                                              \
  }()
#define REFUSED(name, group, errno_value, note)                                              \
  Syscall {                                                                                  \
    abi::kSys_##name, #name, nullptr, nullptr, Group::group, Support::kRefused,              \
        Errno::errno_value, note, 0, {}, false                                               \
  }
#define NONE(name, group)                                                                    \
  Syscall {                                                                                  \
    abi::kSys_##name, #name, nullptr, nullptr, Group::group, Support::kNone, Errno::kNoSys,  \
        "", 0, {}, false                                                                     \
  }

// clang-format off
constexpr Syscall kRows[] = {
    // Io
    NONE(read, kIo),
    NONE(write, kIo),
    NONE(close, kIo),
    NONE(lseek, kIo),
    NONE(ioctl, kIo),
    NONE(pread64, kIo),
    NONE(pwrite64, kIo),
    NONE(readv, kIo),
    NONE(writev, kIo),
    NONE(pipe, kIo),
    NONE(dup, kIo),
    NONE(dup2, kIo),
    NONE(sendfile, kIo),
    NONE(fcntl, kIo),
    NONE(flock, kIo),
    NONE(fsync, kIo),
    NONE(fdatasync, kIo),
    NONE(ftruncate, kIo),
    NONE(sync, kIo),
    NONE(readahead, kIo),
    NONE(fadvise64, kIo),
    NONE(splice, kIo),
    NONE(tee, kIo),
    NONE(sync_file_range, kIo),
    NONE(vmsplice, kIo),
    NONE(eventfd, kIo),
    NONE(fallocate, kIo),
    NONE(eventfd2, kIo),
    NONE(dup3, kIo),
    NONE(pipe2, kIo),
    NONE(preadv, kIo),
    NONE(pwritev, kIo),
    NONE(syncfs, kIo),
    NONE(memfd_create, kIo),
    NONE(copy_file_range, kIo),
    NONE(preadv2, kIo),
    NONE(pwritev2, kIo),
    NONE(close_range, kIo),
    REFUSED(memfd_secret, kIo, kNoSys, "refused, as by a Linux without the option"),
    NONE(cachestat, kIo),
    // File
    NONE(open, kFile),
    NONE(access, kFile),
    NONE(truncate, kFile),
    NONE(rename, kFile),
    NONE(creat, kFile),
    NONE(link, kFile),
    NONE(unlink, kFile),
    NONE(symlink, kFile),
    NONE(readlink, kFile),
    NONE(chmod, kFile),
    NONE(fchmod, kFile),
    NONE(chown, kFile),
    NONE(fchown, kFile),
    NONE(lchown, kFile),
    NONE(umask, kFile),
    NONE(utime, kFile),
    NONE(mknod, kFile),
    NONE(setxattr, kFile),
    NONE(lsetxattr, kFile),
    NONE(fsetxattr, kFile),
    NONE(getxattr, kFile),
    NONE(lgetxattr, kFile),
    NONE(fgetxattr, kFile),
    NONE(listxattr, kFile),
    NONE(llistxattr, kFile),
    NONE(flistxattr, kFile),
    NONE(removexattr, kFile),
    NONE(lremovexattr, kFile),
    NONE(fremovexattr, kFile),
    NONE(utimes, kFile),
    NONE(inotify_init, kFile),
    NONE(inotify_add_watch, kFile),
    NONE(inotify_rm_watch, kFile),
    NONE(openat, kFile),
    NONE(mknodat, kFile),
    NONE(fchownat, kFile),
    NONE(futimesat, kFile),
    NONE(unlinkat, kFile),
    NONE(renameat, kFile),
    NONE(linkat, kFile),
    NONE(symlinkat, kFile),
    NONE(readlinkat, kFile),
    NONE(fchmodat, kFile),
    NONE(faccessat, kFile),
    NONE(utimensat, kFile),
    NONE(inotify_init1, kFile),
    NONE(fanotify_init, kFile),
    NONE(fanotify_mark, kFile),
    NONE(name_to_handle_at, kFile),
    NONE(open_by_handle_at, kFile),
    NONE(renameat2, kFile),
    NONE(openat2, kFile),
    NONE(faccessat2, kFile),
    NONE(fchmodat2, kFile),
    NONE(setxattrat, kFile),
    NONE(getxattrat, kFile),
    NONE(listxattrat, kFile),
    NONE(removexattrat, kFile),
    // Dir
    NONE(getdents, kDir),
    NONE(getcwd, kDir),
    NONE(chdir, kDir),
    NONE(fchdir, kDir),
    NONE(mkdir, kDir),
    NONE(rmdir, kDir),
    NONE(chroot, kDir),
    NONE(getdents64, kDir),
    NONE(mkdirat, kDir),
    // Stat
    NONE(stat, kStat),
    NONE(fstat, kStat),
    NONE(lstat, kStat),
    NONE(ustat, kStat),
    NONE(statfs, kStat),
    NONE(fstatfs, kStat),
    NONE(sysfs, kStat),
    NONE(newfstatat, kStat),
    NONE(statx, kStat),
    // Mm
    NONE(mmap, kMm),
    NONE(mprotect, kMm),
    NONE(munmap, kMm),
    NONE(brk, kMm),
    NONE(mremap, kMm),
    NONE(msync, kMm),
    NONE(mincore, kMm),
    NONE(madvise, kMm),
    NONE(mlock, kMm),
    NONE(munlock, kMm),
    NONE(mlockall, kMm),
    NONE(munlockall, kMm),
    NONE(remap_file_pages, kMm),
    NONE(mbind, kMm),
    NONE(set_mempolicy, kMm),
    NONE(get_mempolicy, kMm),
    NONE(migrate_pages, kMm),
    NONE(move_pages, kMm),
    NONE(process_vm_readv, kMm),
    NONE(process_vm_writev, kMm),
    REFUSED(userfaultfd, kMm, kNoSys, "refused, as by a Linux without the option"),
    NONE(mlock2, kMm),
    NONE(pkey_mprotect, kMm),
    NONE(pkey_alloc, kMm),
    NONE(pkey_free, kMm),
    NONE(process_madvise, kMm),
    NONE(process_mrelease, kMm),
    NONE(set_mempolicy_home_node, kMm),
    REFUSED(map_shadow_stack, kMm, kNoSys, "refused, as by a Linux without the option"),
    NONE(mseal, kMm),
    // Process
    NONE(sched_yield, kProcess),
    NONE(getpid, kProcess),
    NONE(clone, kProcess),
    NONE(fork, kProcess),
    NONE(vfork, kProcess),
    NONE(exit, kProcess),
    NONE(wait4, kProcess),
    NONE(getrlimit, kProcess),
    NONE(getrusage, kProcess),
    NONE(times, kProcess),
    NONE(setpgid, kProcess),
    NONE(getppid, kProcess),
    NONE(getpgrp, kProcess),
    NONE(setsid, kProcess),
    NONE(getpgid, kProcess),
    NONE(getsid, kProcess),
    REFUSED(uselib, kProcess, kNoSys, "not implemented by Linux either"),
    NONE(personality, kProcess),
    NONE(getpriority, kProcess),
    NONE(setpriority, kProcess),
    NONE(sched_setparam, kProcess),
    NONE(sched_getparam, kProcess),
    NONE(sched_setscheduler, kProcess),
    NONE(sched_getscheduler, kProcess),
    NONE(sched_get_priority_max, kProcess),
    NONE(sched_get_priority_min, kProcess),
    NONE(sched_rr_get_interval, kProcess),
    NONE(modify_ldt, kProcess),
    NONE(prctl, kProcess),
    NONE(arch_prctl, kProcess),
    NONE(setrlimit, kProcess),
    REFUSED(acct, kProcess, kPerm, "the guest has no rights over the machine"),
    REFUSED(iopl, kProcess, kPerm, "the guest has no rights over the machine"),
    REFUSED(ioperm, kProcess, kPerm, "the guest has no rights over the machine"),
    NONE(gettid, kProcess),
    NONE(sched_setaffinity, kProcess),
    NONE(sched_getaffinity, kProcess),
    REFUSED(set_thread_area, kProcess, kNoSys, "not implemented by Linux either"),
    REFUSED(get_thread_area, kProcess, kNoSys, "not implemented by Linux either"),
    NONE(set_tid_address, kProcess),
    NONE(exit_group, kProcess),
    NONE(waitid, kProcess),
    NONE(ioprio_set, kProcess),
    NONE(ioprio_get, kProcess),
    NONE(unshare, kProcess),
    NONE(prlimit64, kProcess),
    NONE(setns, kProcess),
    NONE(kcmp, kProcess),
    NONE(sched_setattr, kProcess),
    NONE(sched_getattr, kProcess),
    NONE(seccomp, kProcess),
    NONE(membarrier, kProcess),
    NONE(rseq, kProcess),
    NONE(pidfd_send_signal, kProcess),
    NONE(pidfd_open, kProcess),
    NONE(clone3, kProcess),
    NONE(pidfd_getfd, kProcess),
    // Exec
    NONE(execve, kExec),
    NONE(execveat, kExec),
    // Signal
    NONE(rt_sigaction, kSignal),
    NONE(rt_sigprocmask, kSignal),
    NONE(rt_sigreturn, kSignal),
    NONE(pause, kSignal),
    NONE(kill, kSignal),
    NONE(rt_sigpending, kSignal),
    NONE(rt_sigtimedwait, kSignal),
    NONE(rt_sigqueueinfo, kSignal),
    NONE(rt_sigsuspend, kSignal),
    NONE(sigaltstack, kSignal),
    NONE(tkill, kSignal),
    NONE(restart_syscall, kSignal),
    NONE(tgkill, kSignal),
    NONE(signalfd, kSignal),
    NONE(signalfd4, kSignal),
    NONE(rt_tgsigqueueinfo, kSignal),
    // Time
    NONE(nanosleep, kTime),
    NONE(getitimer, kTime),
    NONE(alarm, kTime),
    NONE(setitimer, kTime),
    NONE(gettimeofday, kTime),
    NONE(adjtimex, kTime),
    REFUSED(settimeofday, kTime, kPerm, "the guest has no rights over the machine"),
    NONE(time, kTime),
    NONE(timer_create, kTime),
    NONE(timer_settime, kTime),
    NONE(timer_gettime, kTime),
    NONE(timer_getoverrun, kTime),
    NONE(timer_delete, kTime),
    REFUSED(clock_settime, kTime, kPerm, "the guest has no rights over the machine"),
    NONE(clock_gettime, kTime),
    NONE(clock_getres, kTime),
    NONE(clock_nanosleep, kTime),
    NONE(timerfd_create, kTime),
    NONE(timerfd_settime, kTime),
    NONE(timerfd_gettime, kTime),
    NONE(clock_adjtime, kTime),
    // Futex
    NONE(futex, kFutex),
    NONE(set_robust_list, kFutex),
    NONE(get_robust_list, kFutex),
    NONE(futex_waitv, kFutex),
    NONE(futex_wake, kFutex),
    NONE(futex_wait, kFutex),
    NONE(futex_requeue, kFutex),
    // Poll
    NONE(poll, kPoll),
    NONE(select, kPoll),
    NONE(epoll_create, kPoll),
    REFUSED(epoll_ctl_old, kPoll, kNoSys, "not implemented by Linux either"),
    REFUSED(epoll_wait_old, kPoll, kNoSys, "not implemented by Linux either"),
    NONE(epoll_wait, kPoll),
    NONE(epoll_ctl, kPoll),
    NONE(pselect6, kPoll),
    NONE(ppoll, kPoll),
    NONE(epoll_pwait, kPoll),
    NONE(epoll_create1, kPoll),
    NONE(epoll_pwait2, kPoll),
    // Socket
    NONE(socket, kSocket),
    NONE(connect, kSocket),
    NONE(accept, kSocket),
    NONE(sendto, kSocket),
    NONE(recvfrom, kSocket),
    NONE(sendmsg, kSocket),
    NONE(recvmsg, kSocket),
    NONE(shutdown, kSocket),
    NONE(bind, kSocket),
    NONE(listen, kSocket),
    NONE(getsockname, kSocket),
    NONE(getpeername, kSocket),
    NONE(socketpair, kSocket),
    NONE(setsockopt, kSocket),
    NONE(getsockopt, kSocket),
    NONE(accept4, kSocket),
    NONE(recvmmsg, kSocket),
    NONE(sendmmsg, kSocket),
    // Cred
    NONE(getuid, kCred),
    NONE(getgid, kCred),
    NONE(setuid, kCred),
    NONE(setgid, kCred),
    NONE(geteuid, kCred),
    NONE(getegid, kCred),
    NONE(setreuid, kCred),
    NONE(setregid, kCred),
    NONE(getgroups, kCred),
    NONE(setgroups, kCred),
    NONE(setresuid, kCred),
    NONE(getresuid, kCred),
    NONE(setresgid, kCred),
    NONE(getresgid, kCred),
    NONE(setfsuid, kCred),
    NONE(setfsgid, kCred),
    NONE(capget, kCred),
    NONE(capset, kCred),
    NONE(landlock_create_ruleset, kCred),
    NONE(landlock_add_rule, kCred),
    NONE(landlock_restrict_self, kCred),
    NONE(lsm_get_self_attr, kCred),
    NONE(lsm_set_self_attr, kCred),
    NONE(lsm_list_modules, kCred),
    // Ipc
    NONE(shmget, kIpc),
    NONE(shmat, kIpc),
    NONE(shmctl, kIpc),
    NONE(semget, kIpc),
    NONE(semop, kIpc),
    NONE(semctl, kIpc),
    NONE(shmdt, kIpc),
    NONE(msgget, kIpc),
    NONE(msgsnd, kIpc),
    NONE(msgrcv, kIpc),
    NONE(msgctl, kIpc),
    NONE(semtimedop, kIpc),
    NONE(mq_open, kIpc),
    NONE(mq_unlink, kIpc),
    NONE(mq_timedsend, kIpc),
    NONE(mq_timedreceive, kIpc),
    NONE(mq_notify, kIpc),
    NONE(mq_getsetattr, kIpc),
    // System
    NONE(uname, kSystem),
    NONE(sysinfo, kSystem),
    NONE(syslog, kSystem),
    REFUSED(vhangup, kSystem, kPerm, "the guest has no rights over the machine"),
    REFUSED(_sysctl, kSystem, kNoSys, "not implemented by Linux either"),
    REFUSED(swapon, kSystem, kPerm, "the guest has no rights over the machine"),
    REFUSED(swapoff, kSystem, kPerm, "the guest has no rights over the machine"),
    REFUSED(reboot, kSystem, kPerm, "the guest has no rights over the machine"),
    NONE(sethostname, kSystem),
    NONE(setdomainname, kSystem),
    REFUSED(quotactl, kSystem, kPerm, "the guest has no rights over the machine"),
    REFUSED(nfsservctl, kSystem, kNoSys, "not implemented by Linux either"),
    REFUSED(getpmsg, kSystem, kNoSys, "not implemented by Linux either"),
    REFUSED(putpmsg, kSystem, kNoSys, "not implemented by Linux either"),
    REFUSED(afs_syscall, kSystem, kNoSys, "not implemented by Linux either"),
    REFUSED(tuxcall, kSystem, kNoSys, "not implemented by Linux either"),
    REFUSED(security, kSystem, kNoSys, "not implemented by Linux either"),
    REFUSED(lookup_dcookie, kSystem, kNoSys, "not implemented by Linux either"),
    REFUSED(vserver, kSystem, kNoSys, "not implemented by Linux either"),
    REFUSED(kexec_load, kSystem, kPerm, "the guest has no rights over the machine"),
    REFUSED(perf_event_open, kSystem, kPerm, "the guest has no rights over the machine"),
    NONE(getcpu, kSystem),
    NONE(getrandom, kSystem),
    REFUSED(kexec_file_load, kSystem, kPerm, "the guest has no rights over the machine"),
    REFUSED(quotactl_fd, kSystem, kPerm, "the guest has no rights over the machine"),
    // Mount
    REFUSED(pivot_root, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    REFUSED(mount, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    REFUSED(umount2, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    REFUSED(open_tree, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    REFUSED(move_mount, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    REFUSED(fsopen, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    REFUSED(fsconfig, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    REFUSED(fsmount, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    REFUSED(fspick, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    REFUSED(mount_setattr, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    NONE(statmount, kMount),
    NONE(listmount, kMount),
    REFUSED(open_tree_attr, kMount, kPerm, "mounting inside the sandbox comes with issue 4"),
    // Module
    REFUSED(create_module, kModule, kNoSys, "not implemented by Linux either"),
    REFUSED(init_module, kModule, kPerm, "the guest has no rights over the machine"),
    REFUSED(delete_module, kModule, kPerm, "the guest has no rights over the machine"),
    REFUSED(get_kernel_syms, kModule, kNoSys, "not implemented by Linux either"),
    REFUSED(query_module, kModule, kNoSys, "not implemented by Linux either"),
    REFUSED(finit_module, kModule, kPerm, "the guest has no rights over the machine"),
    // Bpf
    REFUSED(bpf, kBpf, kPerm, "the guest has no rights over the machine"),
    // Key
    NONE(add_key, kKey),
    NONE(request_key, kKey),
    NONE(keyctl, kKey),
    // Ptrace
    NONE(ptrace, kPtrace),
    // Aio
    NONE(io_setup, kAio),
    NONE(io_destroy, kAio),
    NONE(io_getevents, kAio),
    NONE(io_submit, kAio),
    NONE(io_cancel, kAio),
    NONE(io_pgetevents, kAio),
    REFUSED(io_uring_setup, kAio, kNoSys, "refused: programs fall back to read and write"),
    REFUSED(io_uring_enter, kAio, kNoSys, "refused: programs fall back to read and write"),
    REFUSED(io_uring_register, kAio, kNoSys, "refused: programs fall back to read and write"),
};
// clang-format on

constexpr size_t kRowCount = std::size(kRows);

constexpr auto kByNumber = [] {
  std::array<uint16_t, kTableSize> index{};  // row + 1; 0 where there is none
  for (size_t i = 0; i < kRowCount; i++) index[static_cast<size_t>(kRows[i].number)] = i + 1;
  return index;
}();

static_assert(
    [] {
      for (size_t i = 0; i < kRowCount; i++) {
        if (kByNumber[static_cast<size_t>(kRows[i].number)] != i + 1) return false;
      }
      return true;
    }(),
    "a number has two rows");
static_assert(kRowCount == std::size(abi::kSyscallNames), "a system call has no row");

}  // namespace

const Syscall* find(uint64_t number) {
  if (number >= kTableSize || kByNumber[number] == 0) return nullptr;
  return &kRows[kByNumber[number] - 1];
}

const Syscall* find(std::string_view name) {
  const auto* row =
      std::find_if(std::begin(kRows), std::end(kRows), [&](auto& r) { return r.name == name; });
  return row == std::end(kRows) ? nullptr : row;
}

std::span<const Syscall> rows() { return kRows; }

std::string_view group_name(Group group) {
  static constexpr std::string_view kNames[] = {
      "io", "file", "dir", "stat", "mm", "process", "exec", "signal", "time", "futex", "poll",
      "socket", "cred", "ipc", "system", "mount", "module",  "bpf",    "key",    "ptrace", "aio"};
  return kNames[static_cast<size_t>(group)];
}

}  // namespace boxrun::syscalls
