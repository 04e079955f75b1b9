#include "sentry/syscalls/fd.h"

#include <linux/close_range.h>
#include <linux/memfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <climits>

#include "sentry/fs/mem_fd.h"
#include "sentry/fs/pipe.h"
#include "sentry/kernel/clone.h"
#include "sentry/kernel/job_control.h"
#include "sentry/kernel/signal_state.h"
#include "sentry/syscalls/support.h"
#include "sentry/vfs/terminal.h"

namespace boxrun::syscalls {
namespace {

using OnExec = vfs::FdTable::OnExec;

Result<uint64_t> duplicate(Task& task, int fd, uint64_t lowest, OnExec on_exec) {
  if (lowest > INT32_MAX) return Errno::kInval;
  Ref<FileDescription> file = TRY(task.fds().get_raw(fd));
  return static_cast<uint64_t>(TRY(task.fds().install(
      std::move(file), on_exec, open_file_limit(task), static_cast<int>(lowest))));
}

Result<uint64_t> set_owner(FileDescription& file, int type, pid_t id) {
  if (id == INT32_MIN) return Errno::kInval;
  auto owner = file.async_owner();
  owner.type = static_cast<int16_t>(type);
  owner.id = id;
  file.set_async_owner(owner);
  return uint64_t{0};
}

Result<uint64_t> set_owner_ex(Task& task, FileDescription& file, uint64_t arg) {
  const auto raw = TRY(task.mm().read(UserIn<f_owner_ex>{arg}));
  if (raw.type < F_OWNER_TID || raw.type > F_OWNER_PGRP) return Errno::kInval;
  return set_owner(file, raw.type, raw.pid);
}

Result<uint64_t> get_owner(FileDescription& file) {
  const auto owner = file.async_owner();
  const int64_t value = owner.type == F_OWNER_PGRP ? -owner.id : owner.id;
  return static_cast<uint64_t>(value);
}

Result<uint64_t> set_signal(FileDescription& file, uint64_t signo) {
  if (signo > kernel::kSignalCount) return Errno::kInval;
  auto owner = file.async_owner();
  owner.signal = static_cast<int16_t>(signo);
  file.set_async_owner(owner);
  return uint64_t{0};
}

// Commands that an O_PATH descriptor knows, too (fs/fcntl.c: check_fcntl_cmd).
std::optional<Result<uint64_t>> descriptor_command(Task& task, int fd, uint32_t command,
                                                   uint64_t arg) {
  vfs::FdTable& fds = task.fds();
  const auto on_exec = [](uint64_t flags) {
    return (flags & FD_CLOEXEC) != 0 ? OnExec::kClose : OnExec::kKeep;
  };
  switch (command) {
    case F_DUPFD:
      return duplicate(task, fd, arg, OnExec::kKeep);
    case F_DUPFD_CLOEXEC:
      return duplicate(task, fd, arg, OnExec::kClose);
    case F_GETFD: {
      const auto flag = fds.on_exec(fd);
      if (!flag.ok()) return Result<uint64_t>(flag.error());
      return Result<uint64_t>(*flag == OnExec::kClose ? FD_CLOEXEC : 0);
    }
    case F_SETFD:
      return zero(fds.set_on_exec(fd, on_exec(arg)));
    case F_GETFL: {
      const auto file = fds.get_raw(fd);
      if (!file.ok()) return Result<uint64_t>(file.error());
      return Result<uint64_t>(static_cast<uint64_t>((*file)->flags()));
    }
    default:
      return std::nullopt;
  }
}

// What terminals ask about the task.
class TerminalCaller final : public vfs::IoctlCaller {
 public:
  explicit TerminalCaller(Task& task) : task_(task) {}
  const Credentials& credentials() const override { return task_.cred(); }
  Result<pid_t> foreground_group(vfs::Terminal& terminal) override {
    return kernel::foreground_group(task_, terminal);
  }
  Result<void> set_foreground_group(vfs::Terminal& terminal, pid_t group) override {
    return kernel::set_foreground_group(task_, terminal, group);
  }
  Result<pid_t> session(vfs::Terminal& terminal) override {
    return kernel::terminal_session(task_, terminal);
  }
  Result<void> acquire(vfs::Terminal& terminal, bool steal) override {
    return kernel::acquire_terminal(task_, terminal, steal);
  }
  Result<void> release(vfs::Terminal& terminal) override {
    return kernel::release_terminal(task_, terminal);
  }
  Result<void> check_change(vfs::Terminal& terminal) override {
    return kernel::check_background(task_, terminal, SIGTTOU);
  }

 private:
  Task& task_;
};

}  // namespace

Result<uint64_t> sys_close(Task& task, Fd fd) { return zero(task.fds().close(fd.value)); }

Result<uint64_t> sys_close_range(Task& task, Unsigned first, Unsigned last, Unsigned flags) {
  if ((flags.value & ~uint32_t{CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC}) != 0 ||
      first.value > last.value) {
    return Errno::kInval;
  }
  if ((flags.value & CLOSE_RANGE_UNSHARE) != 0) TRY(kernel::unshare(task, CLONE_FILES));
  if ((flags.value & CLOSE_RANGE_CLOEXEC) != 0) {
    task.fds().mark_range(first.value, last.value, OnExec::kClose);
  } else {
    task.fds().close_range(first.value, last.value);
  }
  return uint64_t{0};
}

Result<uint64_t> sys_dup(Task& task, Fd fd) { return duplicate(task, fd.value, 0, OnExec::kKeep); }

Result<uint64_t> sys_dup2(Task& task, Fd from, Fd to) {
  if (from.value == to.value) {
    TRY(task.fds().get_raw(from.value));
    return static_cast<uint64_t>(to.value);
  }
  return static_cast<uint64_t>(
      TRY(task.fds().replace(from.value, to.value, OnExec::kKeep, open_file_limit(task))));
}

Result<uint64_t> sys_dup3(Task& task, Fd from, Fd to, OpenFlags flags) {
  if ((flags.value & ~O_CLOEXEC) != 0 || from.value == to.value) return Errno::kInval;
  return static_cast<uint64_t>(TRY(
      task.fds().replace(from.value, to.value, on_exec_of(flags.value), open_file_limit(task))));
}

Result<uint64_t> sys_fcntl(Task& task, Fd fd, Command command, ULong arg) {
  if (auto done = descriptor_command(task, fd.value, command.value, arg.value))
    return std::move(*done);
  const auto file = TRY(task.fds().get(fd.value));
  switch (command.value) {
    case F_SETFL:
      return zero(file->set_flags(static_cast<int>(arg.value), task.cred()));
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      return record_lock(task, fd.value, static_cast<int>(command.value), {arg.value});
    case F_SETOWN: {
      const auto id = static_cast<pid_t>(arg.value);
      if (id == INT_MIN) return Errno::kInval;
      return id < 0 ? set_owner(*file, F_OWNER_PGRP, -id) : set_owner(*file, F_OWNER_PID, id);
    }
    case F_GETOWN:
      return get_owner(*file);
    case F_SETOWN_EX:
      return set_owner_ex(task, *file, arg.value);
    case F_GETOWN_EX: {
      const auto owner = file->async_owner();
      f_owner_ex raw{};
      raw.type = static_cast<decltype(raw.type)>(owner.type);
      raw.pid = owner.id;
      return zero(task.mm().write(UserOut<f_owner_ex>{arg.value}, raw));
    }
    case F_SETSIG:
      return set_signal(*file, arg.value);
    case F_GETSIG:
      return static_cast<uint64_t>(file->async_owner().signal);
    case F_GET_SEALS:
      return uint64_t{TRY(fs::seals_of(*file))};
    case F_ADD_SEALS:
      return zero(fs::add_seals(*file, static_cast<uint32_t>(arg.value)));
    case F_GETPIPE_SZ:
      return uint64_t{TRY(fs::pipe_capacity(*file))};
    case F_SETPIPE_SZ:
      return uint64_t{TRY(fs::set_pipe_capacity(*file, arg.value, task.cred()))};
    // Leases are for file servers: as on a file system without them.
    case F_SETLEASE:
    case F_GETLEASE:
    default:
      return Errno::kInval;
  }
}

Result<uint64_t> sys_ioctl(Task& task, Fd fd, Command command, ULong arg) {
  const auto file = TRY(task.fds().get(fd.value));
  switch (command.value) {
    case FIOCLEX:
      return zero(task.fds().set_on_exec(fd.value, OnExec::kClose));
    case FIONCLEX:
      return zero(task.fds().set_on_exec(fd.value, OnExec::kKeep));
    case FIONBIO:
    case FIOASYNC: {
      const int flag = command.value == FIONBIO ? O_NONBLOCK : O_ASYNC;
      const bool on = TRY(task.mm().read(UserIn<int>{arg.value})) != 0;
      const int flags = file->flags();
      return zero(file->set_flags(on ? flags | flag : flags & ~flag, task.cred()));
    }
    default:
      break;
  }
  TerminalCaller caller(task);
  return file->ioctl(command.value, arg.value, task.mm(), caller);
}

}  // namespace boxrun::syscalls
