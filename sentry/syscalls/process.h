#pragma once
#include <linux/sched.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

// --- process.cpp: making processes, waiting for them, ending them
Result<uint64_t> sys_clone(Task& task, CloneFlags flags, Address stack, UserOut<int> parent_tid,
                           UserOut<int> child_tid, ULong tls);
Result<uint64_t> sys_clone3(Task& task, UserIn<clone_args> args, Size size);
Result<uint64_t> sys_fork(Task& task);
Result<uint64_t> sys_vfork(Task& task);
Result<uint64_t> sys_execve(Task& task, UserPath path, UserIn<uint64_t> argv,
                            UserIn<uint64_t> envp);
Result<uint64_t> sys_execveat(Task& task, DirFd dirfd, UserPath path, UserIn<uint64_t> argv,
                              UserIn<uint64_t> envp, AtFlags flags);
Result<uint64_t> sys_exit(Task& task, Int status);
Result<uint64_t> sys_exit_group(Task& task, Int status);
Result<uint64_t> sys_wait4(Task& task, Pid pid, UserOut<int> status, Int options,
                           UserOut<rusage> usage);
Result<uint64_t> sys_waitid(Task& task, Int id_type, Pid id, UserOut<siginfo_t> info, Int options,
                            UserOut<rusage> usage);
Result<uint64_t> sys_pidfd_open(Task& task, Pid pid, Unsigned flags);
Result<uint64_t> sys_pidfd_send_signal(Task& task, Fd pidfd, Signal signo, UserIn<siginfo_t> info,
                                       Unsigned flags);
Result<uint64_t> sys_pidfd_getfd(Task& task, Fd pidfd, Int fd, Unsigned flags);
Result<uint64_t> sys_unshare(Task& task, CloneFlags flags);
Result<uint64_t> sys_set_tid_address(Task& task, Address address);
Result<uint64_t> sys_getpid(Task& task);
Result<uint64_t> sys_getppid(Task& task);
Result<uint64_t> sys_gettid(Task& task);
Result<uint64_t> sys_getpgrp(Task& task);
Result<uint64_t> sys_getpgid(Task& task, Pid pid);
Result<uint64_t> sys_setpgid(Task& task, Pid pid, Pid pgid);
Result<uint64_t> sys_getsid(Task& task, Pid pid);
Result<uint64_t> sys_setsid(Task& task);

// --- process_vm.cpp: another process's memory
Result<uint64_t> sys_process_vm_readv(Task& task, Pid pid, UserIn<iovec> local, ULong local_count,
                                      UserIn<iovec> remote, ULong remote_count, ULong flags);
Result<uint64_t> sys_process_vm_writev(Task& task, Pid pid, UserIn<iovec> local, ULong local_count,
                                       UserIn<iovec> remote, ULong remote_count, ULong flags);

// --- prctl.cpp
Result<uint64_t> sys_prctl(Task& task, Command option, ULong arg2, ULong arg3, ULong arg4,
                           ULong arg5);
Result<uint64_t> sys_arch_prctl(Task& task, Command code, ULong addr);
Result<uint64_t> sys_personality(Task& task, Unsigned persona);

// --- resource.cpp: limits, usage, priorities
Result<uint64_t> sys_getrlimit(Task& task, Int resource, UserOut<rlimit> out);
Result<uint64_t> sys_setrlimit(Task& task, Int resource, UserIn<rlimit> in);
Result<uint64_t> sys_prlimit64(Task& task, Pid pid, Int resource, UserIn<rlimit> in,
                               UserOut<rlimit> out);
Result<uint64_t> sys_getrusage(Task& task, Int who, UserOut<rusage> out);
Result<uint64_t> sys_times(Task& task, UserOut<tms> out);
Result<uint64_t> sys_getpriority(Task& task, Int which, Pid who);
Result<uint64_t> sys_setpriority(Task& task, Int which, Pid who, Int value);

// --- sched.cpp
Result<uint64_t> sys_sched_yield(Task& task);
Result<uint64_t> sys_sched_getparam(Task& task, Pid pid, UserOut<int> param);
Result<uint64_t> sys_sched_setparam(Task& task, Pid pid, UserIn<int> param);
Result<uint64_t> sys_sched_getscheduler(Task& task, Pid pid);
Result<uint64_t> sys_sched_setscheduler(Task& task, Pid pid, Int policy, UserIn<int> param);
Result<uint64_t> sys_sched_get_priority_max(Task& task, Int policy);
Result<uint64_t> sys_sched_get_priority_min(Task& task, Int policy);
Result<uint64_t> sys_sched_rr_get_interval(Task& task, Pid pid, UserOut<timespec> out);
Result<uint64_t> sys_sched_getaffinity(Task& task, Pid pid, Unsigned size, UserOut<Bytes> mask);
Result<uint64_t> sys_sched_setaffinity(Task& task, Pid pid, Unsigned size, UserIn<Bytes> mask);
Result<uint64_t> sys_ioprio_get(Task& task, Int which, Pid who);
Result<uint64_t> sys_ioprio_set(Task& task, Int which, Pid who, Int value);

}  // namespace boxrun::syscalls
