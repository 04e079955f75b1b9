// The table itself. A line is
//   SYSCALL(name, group, support, note)  handled by sys_name; note: what is missing where kPartial
//   REFUSED(name, group, errno, note)    answered on purpose with an errno
//   NONE(name, group)                    not implemented: ENOSYS, and the report says so
#include "sentry/syscalls/table.h"

#include <algorithm>

#include "sentry/syscalls/handlers.h"
#include "src/abi/syscall_numbers.h"

namespace boxrun::syscalls {
namespace {

#define SYSCALL(name, group, support, note)                                                       \
  Syscall {                                                                                       \
    abi::kSys_##name, #name, &Bind<&sys_##name>::call, &Bind<&sys_##name>::print, Group::group,   \
        Support::support, Errno::kOk, note, Bind<&sys_##name>::kArgc, Bind<&sys_##name>::kinds(), \
        false                                                                                     \
  }
#define SYSCALL_SETS_REGISTERS(name, group, support, note) \
  [] {                                                     \
    Syscall row = SYSCALL(name, group, support, note);     \
    row.sets_registers = true;                             \
    return row;                                            \
  }()
#define REFUSED(name, group, errno_value, note)                                 \
  Syscall {                                                                     \
    abi::kSys_##name, #name, nullptr, nullptr, Group::group, Support::kRefused, \
        Errno::errno_value, note, 0, {}, false                                  \
  }
#define NONE(name, group)                                                                          \
  Syscall {                                                                                        \
    abi::kSys_##name, #name, nullptr, nullptr, Group::group, Support::kNone, Errno::kNoSys, "", 0, \
        {}, false                                                                                  \
  }

// clang-format off
constexpr Syscall kRows[] = {
    // Io
    SYSCALL(read, kIo, kFull, ""),
    SYSCALL(write, kIo, kFull, ""),
    SYSCALL(close, kIo, kFull, ""),
    SYSCALL(lseek, kIo, kFull, ""),
    SYSCALL(ioctl, kIo, kFull, ""),
    SYSCALL(pread64, kIo, kFull, ""),
    SYSCALL(pwrite64, kIo, kFull, ""),
    SYSCALL(readv, kIo, kFull, ""),
    SYSCALL(writev, kIo, kFull, ""),
    SYSCALL(pipe, kIo, kFull, ""),
    SYSCALL(dup, kIo, kFull, ""),
    SYSCALL(dup2, kIo, kFull, ""),
    SYSCALL(sendfile, kIo, kFull, ""),
    SYSCALL(fcntl, kIo, kPartial, "no leases, no directory notification"),
    SYSCALL(flock, kIo, kFull, ""),
    SYSCALL(fsync, kIo, kFull, ""),
    SYSCALL(fdatasync, kIo, kFull, ""),
    SYSCALL(ftruncate, kIo, kFull, ""),
    SYSCALL(sync, kIo, kFull, ""),
    SYSCALL(readahead, kIo, kFull, ""),
    SYSCALL(fadvise64, kIo, kFull, ""),
    SYSCALL(splice, kIo, kFull, ""),
    SYSCALL(tee, kIo, kFull, ""),
    SYSCALL(sync_file_range, kIo, kFull, ""),
    SYSCALL(vmsplice, kIo, kFull, ""),
    SYSCALL(eventfd, kIo, kFull, ""),
    SYSCALL(fallocate, kIo, kFull, ""),
    SYSCALL(eventfd2, kIo, kFull, ""),
    SYSCALL(dup3, kIo, kFull, ""),
    SYSCALL(pipe2, kIo, kFull, ""),
    SYSCALL(preadv, kIo, kFull, ""),
    SYSCALL(pwritev, kIo, kFull, ""),
    SYSCALL(syncfs, kIo, kFull, ""),
    SYSCALL(memfd_create, kIo, kFull, ""),
    SYSCALL(copy_file_range, kIo, kFull, ""),
    SYSCALL(preadv2, kIo, kFull, ""),
    SYSCALL(pwritev2, kIo, kFull, ""),
    SYSCALL(close_range, kIo, kFull, ""),
    REFUSED(memfd_secret, kIo, kNoSys, "refused, as by a Linux without the option"),
    NONE(cachestat, kIo),
    // File
    SYSCALL(open, kFile, kFull, ""),
    SYSCALL(access, kFile, kFull, ""),
    SYSCALL(truncate, kFile, kFull, ""),
    SYSCALL(rename, kFile, kFull, ""),
    SYSCALL(creat, kFile, kFull, ""),
    SYSCALL(link, kFile, kFull, ""),
    SYSCALL(unlink, kFile, kFull, ""),
    SYSCALL(symlink, kFile, kFull, ""),
    SYSCALL(readlink, kFile, kFull, ""),
    SYSCALL(chmod, kFile, kFull, ""),
    SYSCALL(fchmod, kFile, kFull, ""),
    SYSCALL(chown, kFile, kFull, ""),
    SYSCALL(fchown, kFile, kFull, ""),
    SYSCALL(lchown, kFile, kFull, ""),
    SYSCALL(umask, kFile, kFull, ""),
    SYSCALL(utime, kFile, kFull, ""),
    SYSCALL(mknod, kFile, kFull, ""),
    SYSCALL(setxattr, kFile, kFull, ""),
    SYSCALL(lsetxattr, kFile, kFull, ""),
    SYSCALL(fsetxattr, kFile, kFull, ""),
    SYSCALL(getxattr, kFile, kFull, ""),
    SYSCALL(lgetxattr, kFile, kFull, ""),
    SYSCALL(fgetxattr, kFile, kFull, ""),
    SYSCALL(listxattr, kFile, kFull, ""),
    SYSCALL(llistxattr, kFile, kFull, ""),
    SYSCALL(flistxattr, kFile, kFull, ""),
    SYSCALL(removexattr, kFile, kFull, ""),
    SYSCALL(lremovexattr, kFile, kFull, ""),
    SYSCALL(fremovexattr, kFile, kFull, ""),
    SYSCALL(utimes, kFile, kFull, ""),
    NONE(inotify_init, kFile),
    NONE(inotify_add_watch, kFile),
    NONE(inotify_rm_watch, kFile),
    SYSCALL(openat, kFile, kFull, ""),
    SYSCALL(mknodat, kFile, kFull, ""),
    SYSCALL(fchownat, kFile, kFull, ""),
    SYSCALL(futimesat, kFile, kFull, ""),
    SYSCALL(unlinkat, kFile, kFull, ""),
    SYSCALL(renameat, kFile, kFull, ""),
    SYSCALL(linkat, kFile, kFull, ""),
    SYSCALL(symlinkat, kFile, kFull, ""),
    SYSCALL(readlinkat, kFile, kFull, ""),
    SYSCALL(fchmodat, kFile, kFull, ""),
    SYSCALL(faccessat, kFile, kFull, ""),
    SYSCALL(utimensat, kFile, kFull, ""),
    NONE(inotify_init1, kFile),
    NONE(fanotify_init, kFile),
    NONE(fanotify_mark, kFile),
    NONE(name_to_handle_at, kFile),
    NONE(open_by_handle_at, kFile),
    SYSCALL(renameat2, kFile, kFull, ""),
    SYSCALL(openat2, kFile, kFull, ""),
    SYSCALL(faccessat2, kFile, kFull, ""),
    SYSCALL(fchmodat2, kFile, kFull, ""),
    NONE(setxattrat, kFile),
    NONE(getxattrat, kFile),
    NONE(listxattrat, kFile),
    NONE(removexattrat, kFile),
    // Dir
    SYSCALL(getdents, kDir, kFull, ""),
    SYSCALL(getcwd, kDir, kFull, ""),
    SYSCALL(chdir, kDir, kFull, ""),
    SYSCALL(fchdir, kDir, kFull, ""),
    SYSCALL(mkdir, kDir, kFull, ""),
    SYSCALL(rmdir, kDir, kFull, ""),
    SYSCALL(chroot, kDir, kFull, ""),
    SYSCALL(getdents64, kDir, kFull, ""),
    SYSCALL(mkdirat, kDir, kFull, ""),
    // Stat
    SYSCALL(stat, kStat, kFull, ""),
    SYSCALL(fstat, kStat, kFull, ""),
    SYSCALL(lstat, kStat, kFull, ""),
    NONE(ustat, kStat),
    SYSCALL(statfs, kStat, kFull, ""),
    SYSCALL(fstatfs, kStat, kFull, ""),
    NONE(sysfs, kStat),
    SYSCALL(newfstatat, kStat, kFull, ""),
    SYSCALL(statx, kStat, kFull, ""),
    // Mm
    SYSCALL(mmap, kMm, kFull, ""),
    SYSCALL(mprotect, kMm, kFull, ""),
    SYSCALL(munmap, kMm, kFull, ""),
    SYSCALL(brk, kMm, kFull, ""),
    SYSCALL(mremap, kMm, kFull, ""),
    SYSCALL(msync, kMm, kFull, ""),
    SYSCALL(mincore, kMm, kFull, ""),
    SYSCALL(madvise, kMm, kFull, ""),
    SYSCALL(mlock, kMm, kFull, ""),
    SYSCALL(munlock, kMm, kFull, ""),
    SYSCALL(mlockall, kMm, kPartial, "limits are checked, nothing is pinned"),
    SYSCALL(munlockall, kMm, kFull, ""),
    NONE(remap_file_pages, kMm),
    SYSCALL(mbind, kMm, kPartial, "one node: checked, without effect"),
    SYSCALL(set_mempolicy, kMm, kPartial, "one node: checked, without effect"),
    SYSCALL(get_mempolicy, kMm, kPartial, "one node"),
    NONE(migrate_pages, kMm),
    NONE(move_pages, kMm),
    SYSCALL(process_vm_readv, kMm, kFull, ""),
    SYSCALL(process_vm_writev, kMm, kFull, ""),
    REFUSED(userfaultfd, kMm, kNoSys, "refused, as by a Linux without the option"),
    SYSCALL(mlock2, kMm, kFull, ""),
    SYSCALL(pkey_mprotect, kMm, kFull, ""),
    NONE(pkey_alloc, kMm),
    NONE(pkey_free, kMm),
    NONE(process_madvise, kMm),
    NONE(process_mrelease, kMm),
    NONE(set_mempolicy_home_node, kMm),
    REFUSED(map_shadow_stack, kMm, kNoSys, "refused, as by a Linux without the option"),
    NONE(mseal, kMm),
    // Process
    SYSCALL(sched_yield, kProcess, kFull, ""),
    SYSCALL(getpid, kProcess, kFull, ""),
    SYSCALL(clone, kProcess, kPartial, "no namespaces"),
    SYSCALL(fork, kProcess, kFull, ""),
    SYSCALL(vfork, kProcess, kFull, ""),
    SYSCALL(exit, kProcess, kFull, ""),
    SYSCALL(wait4, kProcess, kFull, ""),
    SYSCALL(getrlimit, kProcess, kFull, ""),
    SYSCALL(getrusage, kProcess, kFull, ""),
    SYSCALL(times, kProcess, kFull, ""),
    SYSCALL(setpgid, kProcess, kFull, ""),
    SYSCALL(getppid, kProcess, kFull, ""),
    SYSCALL(getpgrp, kProcess, kFull, ""),
    SYSCALL(setsid, kProcess, kFull, ""),
    SYSCALL(getpgid, kProcess, kFull, ""),
    SYSCALL(getsid, kProcess, kFull, ""),
    REFUSED(uselib, kProcess, kNoSys, "not implemented by Linux either"),
    SYSCALL(personality, kProcess, kPartial, "only ADDR_NO_RANDOMIZE has an effect"),
    SYSCALL(getpriority, kProcess, kFull, ""),
    SYSCALL(setpriority, kProcess, kPartial, "kept, without effect"),
    SYSCALL(sched_setparam, kProcess, kFull, ""),
    SYSCALL(sched_getparam, kProcess, kFull, ""),
    SYSCALL(sched_setscheduler, kProcess, kPartial, "SCHED_OTHER, BATCH and IDLE; kept, without effect"),
    SYSCALL(sched_getscheduler, kProcess, kFull, ""),
    SYSCALL(sched_get_priority_max, kProcess, kFull, ""),
    SYSCALL(sched_get_priority_min, kProcess, kFull, ""),
    SYSCALL(sched_rr_get_interval, kProcess, kFull, ""),
    NONE(modify_ldt, kProcess),
    SYSCALL(prctl, kProcess, kPartial, "the options that programs use; others are EINVAL"),
    SYSCALL(arch_prctl, kProcess, kPartial, "FS and GS bases"),
    SYSCALL(setrlimit, kProcess, kFull, ""),
    REFUSED(acct, kProcess, kPerm, "the guest has no rights over the machine"),
    REFUSED(iopl, kProcess, kPerm, "the guest has no rights over the machine"),
    REFUSED(ioperm, kProcess, kPerm, "the guest has no rights over the machine"),
    SYSCALL(gettid, kProcess, kFull, ""),
    SYSCALL(sched_setaffinity, kProcess, kPartial, "kept, without effect"),
    SYSCALL(sched_getaffinity, kProcess, kFull, ""),
    REFUSED(set_thread_area, kProcess, kNoSys, "not implemented by Linux either"),
    REFUSED(get_thread_area, kProcess, kNoSys, "not implemented by Linux either"),
    SYSCALL(set_tid_address, kProcess, kFull, ""),
    SYSCALL(exit_group, kProcess, kFull, ""),
    SYSCALL(waitid, kProcess, kFull, ""),
    SYSCALL(ioprio_set, kProcess, kPartial, "kept for one task, without effect"),
    SYSCALL(ioprio_get, kProcess, kFull, ""),
    SYSCALL(unshare, kProcess, kPartial, "no namespaces"),
    SYSCALL(prlimit64, kProcess, kFull, ""),
    NONE(setns, kProcess),
    NONE(kcmp, kProcess),
    NONE(sched_setattr, kProcess),
    NONE(sched_getattr, kProcess),
    NONE(seccomp, kProcess),
    SYSCALL(membarrier, kProcess, kPartial, "answers that no command is supported"),
    REFUSED(rseq, kProcess, kNoSys, "refused: libraries ask the kernel for the CPU instead"),
    SYSCALL(pidfd_send_signal, kProcess, kFull, ""),
    SYSCALL(pidfd_open, kProcess, kFull, ""),
    SYSCALL(clone3, kProcess, kPartial, "no namespaces"),
    SYSCALL(pidfd_getfd, kProcess, kFull, ""),
    // Exec
    SYSCALL_SETS_REGISTERS(execve, kExec, kFull, ""),
    SYSCALL_SETS_REGISTERS(execveat, kExec, kFull, ""),
    // Signal
    SYSCALL(rt_sigaction, kSignal, kFull, ""),
    SYSCALL(rt_sigprocmask, kSignal, kFull, ""),
    SYSCALL_SETS_REGISTERS(rt_sigreturn, kSignal, kFull, ""),
    SYSCALL(pause, kSignal, kFull, ""),
    SYSCALL(kill, kSignal, kFull, ""),
    SYSCALL(rt_sigpending, kSignal, kFull, ""),
    SYSCALL(rt_sigtimedwait, kSignal, kFull, ""),
    SYSCALL(rt_sigqueueinfo, kSignal, kFull, ""),
    SYSCALL(rt_sigsuspend, kSignal, kFull, ""),
    SYSCALL(sigaltstack, kSignal, kFull, ""),
    SYSCALL(tkill, kSignal, kFull, ""),
    SYSCALL(restart_syscall, kSignal, kFull, ""),
    SYSCALL(tgkill, kSignal, kFull, ""),
    SYSCALL(signalfd, kSignal, kFull, ""),
    SYSCALL(signalfd4, kSignal, kFull, ""),
    SYSCALL(rt_tgsigqueueinfo, kSignal, kFull, ""),
    // Time
    SYSCALL(nanosleep, kTime, kFull, ""),
    SYSCALL(getitimer, kTime, kFull, ""),
    SYSCALL(alarm, kTime, kFull, ""),
    SYSCALL(setitimer, kTime, kFull, ""),
    SYSCALL(gettimeofday, kTime, kFull, ""),
    SYSCALL(adjtimex, kTime, kPartial, "reads: the clock is the host's affair"),
    REFUSED(settimeofday, kTime, kPerm, "the guest has no rights over the machine"),
    SYSCALL(time, kTime, kFull, ""),
    SYSCALL(timer_create, kTime, kFull, ""),
    SYSCALL(timer_settime, kTime, kFull, ""),
    SYSCALL(timer_gettime, kTime, kFull, ""),
    SYSCALL(timer_getoverrun, kTime, kFull, ""),
    SYSCALL(timer_delete, kTime, kFull, ""),
    SYSCALL(clock_settime, kTime, kPartial, "checked, then EPERM: the guest has no rights over the machine"),
    SYSCALL(clock_gettime, kTime, kFull, ""),
    SYSCALL(clock_getres, kTime, kFull, ""),
    SYSCALL(clock_nanosleep, kTime, kFull, ""),
    SYSCALL(timerfd_create, kTime, kFull, ""),
    SYSCALL(timerfd_settime, kTime, kFull, ""),
    SYSCALL(timerfd_gettime, kTime, kFull, ""),
    SYSCALL(clock_adjtime, kTime, kPartial, "reads: the clock is the host's affair"),
    // Futex
    SYSCALL(futex, kFutex, kPartial, "no priority inheritance"),
    SYSCALL(set_robust_list, kFutex, kFull, ""),
    SYSCALL(get_robust_list, kFutex, kPartial, "the caller's own"),
    NONE(futex_waitv, kFutex),
    NONE(futex_wake, kFutex),
    NONE(futex_wait, kFutex),
    NONE(futex_requeue, kFutex),
    // Poll
    SYSCALL(poll, kPoll, kFull, ""),
    SYSCALL(select, kPoll, kFull, ""),
    SYSCALL(epoll_create, kPoll, kFull, ""),
    REFUSED(epoll_ctl_old, kPoll, kNoSys, "not implemented by Linux either"),
    REFUSED(epoll_wait_old, kPoll, kNoSys, "not implemented by Linux either"),
    SYSCALL(epoll_wait, kPoll, kFull, ""),
    SYSCALL(epoll_ctl, kPoll, kFull, ""),
    SYSCALL(pselect6, kPoll, kFull, ""),
    SYSCALL(ppoll, kPoll, kFull, ""),
    SYSCALL(epoll_pwait, kPoll, kFull, ""),
    SYSCALL(epoll_create1, kPoll, kFull, ""),
    SYSCALL(epoll_pwait2, kPoll, kFull, ""),
    // Socket
    SYSCALL(socket, kSocket, kPartial, "AF_UNIX; AF_INET and AF_INET6 without loopback"),
    SYSCALL(connect, kSocket, kFull, ""),
    SYSCALL(accept, kSocket, kFull, ""),
    SYSCALL(sendto, kSocket, kFull, ""),
    SYSCALL(recvfrom, kSocket, kFull, ""),
    SYSCALL(sendmsg, kSocket, kFull, ""),
    SYSCALL(recvmsg, kSocket, kFull, ""),
    SYSCALL(shutdown, kSocket, kFull, ""),
    SYSCALL(bind, kSocket, kFull, ""),
    SYSCALL(listen, kSocket, kFull, ""),
    SYSCALL(getsockname, kSocket, kFull, ""),
    SYSCALL(getpeername, kSocket, kFull, ""),
    SYSCALL(socketpair, kSocket, kFull, ""),
    SYSCALL(setsockopt, kSocket, kFull, ""),
    SYSCALL(getsockopt, kSocket, kFull, ""),
    SYSCALL(accept4, kSocket, kFull, ""),
    SYSCALL(recvmmsg, kSocket, kFull, ""),
    SYSCALL(sendmmsg, kSocket, kFull, ""),
    // Cred
    SYSCALL(getuid, kCred, kFull, ""),
    SYSCALL(getgid, kCred, kFull, ""),
    SYSCALL(setuid, kCred, kFull, ""),
    SYSCALL(setgid, kCred, kFull, ""),
    SYSCALL(geteuid, kCred, kFull, ""),
    SYSCALL(getegid, kCred, kFull, ""),
    SYSCALL(setreuid, kCred, kFull, ""),
    SYSCALL(setregid, kCred, kFull, ""),
    SYSCALL(getgroups, kCred, kFull, ""),
    SYSCALL(setgroups, kCred, kFull, ""),
    SYSCALL(setresuid, kCred, kFull, ""),
    SYSCALL(getresuid, kCred, kFull, ""),
    SYSCALL(setresgid, kCred, kFull, ""),
    SYSCALL(getresgid, kCred, kFull, ""),
    SYSCALL(setfsuid, kCred, kFull, ""),
    SYSCALL(setfsgid, kCred, kFull, ""),
    SYSCALL(capget, kCred, kFull, ""),
    SYSCALL(capset, kCred, kFull, ""),
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
    SYSCALL(uname, kSystem, kFull, ""),
    SYSCALL(sysinfo, kSystem, kFull, ""),
    SYSCALL(syslog, kSystem, kPartial, "an empty log"),
    REFUSED(vhangup, kSystem, kPerm, "the guest has no rights over the machine"),
    REFUSED(_sysctl, kSystem, kNoSys, "not implemented by Linux either"),
    REFUSED(swapon, kSystem, kPerm, "the guest has no rights over the machine"),
    REFUSED(swapoff, kSystem, kPerm, "the guest has no rights over the machine"),
    REFUSED(reboot, kSystem, kPerm, "the guest has no rights over the machine"),
    SYSCALL(sethostname, kSystem, kFull, ""),
    SYSCALL(setdomainname, kSystem, kFull, ""),
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
    SYSCALL(getcpu, kSystem, kFull, ""),
    SYSCALL(getrandom, kSystem, kFull, ""),
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

std::bitset<64> groups_named(std::string_view name) {
  std::bitset<64> groups;
  for (const Syscall& row : kRows) {
    if (name.empty() || name == group_name(row.group)) groups.set(static_cast<size_t>(row.group));
  }
  return groups;
}

std::string_view group_name(Group group) {
  static constexpr std::string_view kNames[] = {
      "io",     "file",  "dir",    "stat", "mm",     "process", "exec",
      "signal", "time",  "futex",  "poll", "socket", "cred",    "ipc",
      "system", "mount", "module", "bpf",  "key",    "ptrace",  "aio"};
  return kNames[static_cast<size_t>(group)];
}

}  // namespace boxrun::syscalls
