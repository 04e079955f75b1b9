#include "sentry/syscalls/process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>

#include <cstring>

#include "sentry/kernel/clone.h"
#include "sentry/kernel/inspect.h"
#include "sentry/kernel/job_control.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/signals.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/kernel/wait_child.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

Result<uint64_t> clone_with(Task& task, const kernel::CloneArgs& args) {
  return static_cast<uint64_t>(TRY(kernel::clone_task(task, args)));
}

constexpr int kWaitOptions = WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL;
constexpr int kWaitidOptions =
    WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL;

using Kind = kernel::WaitSelector::Kind;

Result<kernel::WaitSelector> waitid_selector(Task& task, int id_type, pid_t id) {
  switch (id_type) {
    case P_ALL:
      return kernel::WaitSelector{Kind::kAny, 0};
    case P_PID:
      if (id <= 0) return Errno::kInval;
      return kernel::WaitSelector{Kind::kProcess, id};
    case P_PGID:
      if (id < 0) return Errno::kInval;
      return kernel::WaitSelector{Kind::kProcessGroup, id};
    case P_PIDFD: {
      if (id < 0) return Errno::kInval;
      const auto file = TRY(task.fds().get(id));
      const auto target = TRY(kernel::process_of(*file));
      return kernel::WaitSelector{Kind::kProcess, target->tgid};
    }
    default:
      return Errno::kInval;
  }
}

// The strings of an argument vector (fs/exec.c: copy_strings). Bounded before it is copied: no
// program gets more than 6 MiB, so no more pointers than bytes.
Result<std::vector<std::string>> copy_strings(Task& task, uint64_t vector) {
  constexpr size_t kMaxTotal = 6 << 20;
  constexpr size_t kMaxString = 131072;
  std::vector<std::string> strings;
  size_t total = 0;
  if (vector == 0) return strings;
  for (uint64_t at = vector;; at += 8) {
    const uint64_t pointer = TRY(task.mm().read(UserIn<uint64_t>{at}));
    if (pointer == 0) return strings;
    auto text = task.mm().copy_in_string(pointer, kMaxString - 1);
    if (!text.ok()) return text.error() == Errno::kNameTooLong ? Errno::k2Big : text.error();
    total += text->size() + 1 + sizeof(uint64_t);
    if (total > kMaxTotal) return Errno::k2Big;
    strings.push_back(std::move(*text));
  }
}

}  // namespace

Result<uint64_t> sys_clone(Task& task, CloneFlags flags, Address stack, UserOut<int> parent_tid,
                           UserOut<int> child_tid, ULong tls) {
  kernel::CloneArgs args;
  args.flags = flags.value & 0xffffffff & ~uint64_t{CSIGNAL};
  // clone(2) reports the pidfd where clone3 has a field of its own.
  if ((args.flags & CLONE_PIDFD) != 0) {
    if ((args.flags & CLONE_PARENT_SETTID) != 0) return Errno::kInval;
    args.pidfd = parent_tid.addr;
  }
  args.child_tid = child_tid.addr;
  args.parent_tid = parent_tid.addr;
  args.exit_signal = flags.value & CSIGNAL;
  args.stack = stack.value;
  args.tls = tls.value;
  return clone_with(task, args);
}

Result<uint64_t> sys_clone3(Task& task, UserIn<clone_args> from, Size size) {
  if (size.value < CLONE_ARGS_SIZE_VER0) return Errno::kInval;
  if (size.value > kPageSize) return Errno::k2Big;
  std::vector<std::byte> bytes(std::max<size_t>(size.value, sizeof(clone_args)));
  TRY(task.mm().copy_in(from.addr, std::span(bytes).first(size.value)));
  for (size_t i = sizeof(clone_args); i < bytes.size(); i++) {
    if (bytes[i] != std::byte{0}) return Errno::k2Big;
  }
  clone_args raw{};
  memcpy(&raw, bytes.data(), sizeof raw);
  // kernel/fork.c: copy_clone_args_from_user and clone3_args_valid.
  constexpr uint64_t kMaxNestedNamespaces = 32;
  if (raw.set_tid_size > kMaxNestedNamespaces || (raw.set_tid == 0) != (raw.set_tid_size == 0) ||
      raw.exit_signal > kernel::kSignalCount) {
    return Errno::kInval;
  }
  if ((raw.stack == 0) != (raw.stack_size == 0)) return Errno::kInval;
  if ((raw.flags & (CLONE_DETACHED | (CSIGNAL & ~uint64_t{CLONE_NEWTIME}))) != 0) {
    return Errno::kInval;
  }
  kernel::CloneArgs args;
  args.flags = raw.flags;
  args.pidfd = raw.pidfd;
  args.child_tid = raw.child_tid;
  args.parent_tid = raw.parent_tid;
  args.exit_signal = raw.exit_signal;
  args.stack = raw.stack == 0 ? 0 : raw.stack + raw.stack_size;
  args.tls = raw.tls;
  args.set_tid = TRY(task.mm().read_array(UserIn<pid_t>{raw.set_tid}, raw.set_tid_size));
  return clone_with(task, args);
}

Result<uint64_t> sys_fork(Task& task) { return clone_with(task, {}); }

Result<uint64_t> sys_vfork(Task& task) {
  kernel::CloneArgs args;
  args.flags = CLONE_VFORK | CLONE_VM;
  return clone_with(task, args);
}

Result<uint64_t> sys_execveat(Task& task, DirFd dirfd, UserPath path, UserIn<uint64_t> argv,
                              UserIn<uint64_t> envp, AtFlags flags) {
  if ((flags.value & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Errno::kInval;
  kernel::ExecRequest request;
  request.dirfd = dirfd.value;
  request.flags = flags.value;
  request.path = TRY(task.mm().copy_in_path(path));
  request.argv = TRY(copy_strings(task, argv.addr));
  request.envp = TRY(copy_strings(task, envp.addr));
  return zero(task.exec(request));
}
Result<uint64_t> sys_execve(Task& task, UserPath path, UserIn<uint64_t> argv,
                            UserIn<uint64_t> envp) {
  return sys_execveat(task, DirFd{AT_FDCWD}, path, argv, envp, AtFlags{0});
}

Result<uint64_t> sys_exit(Task& task, Int status) {
  task.exit(status.value);
  return uint64_t{0};
}
Result<uint64_t> sys_exit_group(Task& task, Int status) {
  task.exit_group(status.value);
  return uint64_t{0};
}

Result<uint64_t> sys_wait4(Task& task, Pid pid, UserOut<int> status, Int options,
                           UserOut<rusage> usage) {
  if ((options.value & ~kWaitOptions) != 0) return Errno::kInval;
  if (pid.value == INT32_MIN) return Errno::kSrch;
  kernel::WaitSelector selector;
  if (pid.value > 0) selector = {Kind::kProcess, pid.value};
  if (pid.value == 0) selector = {Kind::kProcessGroup, 0};
  if (pid.value < -1) selector = {Kind::kProcessGroup, -pid.value};
  const auto result = TRY(kernel::wait_child(task, selector, options.value | WEXITED));
  if (result.pid == 0) return uint64_t{0};
  if (status) TRY(task.mm().write(status, result.wait_status));
  if (usage) TRY(task.mm().write(usage, result.usage));
  return static_cast<uint64_t>(result.pid);
}

Result<uint64_t> sys_waitid(Task& task, Int id_type, Pid id, UserOut<siginfo_t> info, Int options,
                            UserOut<rusage> usage) {
  if ((options.value & ~kWaitidOptions) != 0 ||
      (options.value & (WEXITED | WSTOPPED | WCONTINUED)) == 0) {
    return Errno::kInval;
  }
  const auto selector = TRY(waitid_selector(task, id_type.value, id.value));
  const auto result = TRY(kernel::wait_child(task, selector, options.value));
  if (usage && result.pid != 0) TRY(task.mm().write(usage, result.usage));
  if (!info) return uint64_t{0};
  // Nothing to report leaves si_pid and si_signo 0 (waitid(2)).
  siginfo_t out{};
  if (result.pid != 0) {
    out.si_signo = SIGCHLD;
    out.si_code = result.code;
    out.si_pid = result.pid;
    out.si_uid = result.uid;
    out.si_status = result.status;
  }
  return zero(task.mm().write(info, out));
}

Result<uint64_t> sys_unshare(Task& task, CloneFlags flags) {
  return zero(kernel::unshare(task, flags.value));
}

Result<uint64_t> sys_pidfd_open(Task& task, Pid pid, Unsigned flags) {
  constexpr uint32_t kNonblock = O_NONBLOCK;  // PIDFD_NONBLOCK
  if ((flags.value & ~kNonblock) != 0 || pid.value <= 0) return Errno::kInval;
  return install(task, TRY(kernel::open_pidfd(task, pid.value, static_cast<int>(flags.value))),
                 O_CLOEXEC);
}

Result<uint64_t> sys_pidfd_send_signal(Task& task, Fd pidfd, Signal signo, UserIn<siginfo_t> info,
                                       Unsigned flags) {
  if (flags.value != 0) return Errno::kInval;
  const auto file = TRY(task.fds().get(pidfd.value));
  const auto process = TRY(kernel::process_of(*file));
  if (!info) return zero(kernel::pidfd_send_signal(task, *process, signo.value, nullptr));
  const siginfo_t sent = TRY(task.mm().read(info));
  if (sent.si_signo != signo.value) return Errno::kInval;
  return zero(kernel::pidfd_send_signal(task, *process, signo.value, &sent));
}

// kernel/pid.c: pidfd_getfd.
Result<uint64_t> sys_pidfd_getfd(Task& task, Fd pidfd, Int fd, Unsigned flags) {
  if (flags.value != 0) return Errno::kInval;
  const auto file = TRY(task.fds().get(pidfd.value));
  const auto process = TRY(kernel::process_of(*file));
  const Ref<Task> target = task.kernel().find_task(process->tgid);
  if (!target || &target->group() != process.get()) return Errno::kSrch;
  if (!kernel::may_inspect(*target, kernel::InspectAs::kReal).ok()) return Errno::kPerm;
  const Ref<vfs::FdTable> theirs = target->resources().fds;
  if (!theirs) return Errno::kBadF;
  return install(task, TRY(theirs->get_raw(fd.value)), O_CLOEXEC);
}

Result<uint64_t> sys_set_tid_address(Task& task, Address address) {
  task.clear_child_tid = address.value;
  return static_cast<uint64_t>(task.tid());
}

Result<uint64_t> sys_getpid(Task& task) { return static_cast<uint64_t>(task.tgid()); }
Result<uint64_t> sys_gettid(Task& task) { return static_cast<uint64_t>(task.tid()); }
Result<uint64_t> sys_getppid(Task& task) {
  kernel::TreeLock tree(task.kernel().tree());
  const kernel::ThreadGroup* parent = task.group().links(tree).parent;
  return parent != nullptr ? static_cast<uint64_t>(parent->tgid) : uint64_t{0};
}

Result<uint64_t> sys_getpgid(Task& task, Pid pid) {
  return static_cast<uint64_t>(TRY(kernel::get_process_group(task, pid.value)));
}
Result<uint64_t> sys_getpgrp(Task& task) { return sys_getpgid(task, Pid{0}); }
Result<uint64_t> sys_setpgid(Task& task, Pid pid, Pid pgid) {
  return zero(kernel::set_process_group(task, pid.value, pgid.value));
}
Result<uint64_t> sys_getsid(Task& task, Pid pid) {
  return static_cast<uint64_t>(TRY(kernel::get_session(task, pid.value)));
}
Result<uint64_t> sys_setsid(Task& task) {
  return static_cast<uint64_t>(TRY(kernel::create_session(task)));
}

}  // namespace boxrun::syscalls
