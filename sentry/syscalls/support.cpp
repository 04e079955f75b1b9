#include "sentry/syscalls/support.h"

#include <sys/resource.h>

#include <chrono>

#include "sentry/kernel/job_control.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/policy/limit_watch.h"
#include "sentry/policy/violation_log.h"
#include "sentry/syscalls/describe.h"
#include "sentry/syscalls/dispatcher.h"

namespace boxrun::syscalls {

const Services& services_of(Task& task) {
  return static_cast<Dispatcher&>(task.kernel().dispatcher()).services();
}

FileCaller::FileCaller(Task& task)
    : task_(task),
      caller_{task.fs(),
              task.cred_ref(),
              *task.kernel().root(),
              services_of(task).special_files,
              this,
              task.group().limits().soft(RLIMIT_FSIZE),
              this} {}

Ref<vfs::Terminal> FileCaller::controlling_terminal() {
  kernel::TreeLock tree(task_.kernel().tree());
  return Ref<vfs::Terminal>(kernel::controlling_terminal(tree, task_.group()));
}

namespace {

// Adds the call that `task` is in.
void record_here(Task& task, policy::Violation violation) {
  const Frame frame = current_frame(task);
  violation.syscall = syscall_name(frame.number);
  violation.call = describe_call(task, frame);
  services_of(task).violations.record(&task, std::move(violation));
}

policy::Violation violation_of(const vfs::Denial& denial) {
  using report::Kind;
  switch (denial.kind) {
    case vfs::Denial::Kind::kHidden:
      return {.kind = Kind::kFileRead, .detail = "hidden"};
    case vfs::Denial::Kind::kNotGranted:
      return {.kind = denial.directory.empty() ? Kind::kFileRead : Kind::kFileWrite,
              .detail = report::kNotMounted};
    case vfs::Denial::Kind::kReadOnly:
      return {.kind = Kind::kFileWrite, .detail = "read-only"};
    case vfs::Denial::Kind::kNoExec:
      return {.kind = Kind::kFileExec, .detail = "noexec"};
    case vfs::Denial::Kind::kDevice:
      return {.kind = Kind::kFileRead, .detail = "device"};
    case vfs::Denial::Kind::kConnect:
      break;
  }
  return {.kind = Kind::kNetConnect};
}

}  // namespace

void FileCaller::denied(const vfs::Denial& denial) {
  policy::Violation violation = violation_of(denial);
  violation.error = denial.error;
  violation.target = denial.target;
  violation.grant = denial.directory;
  record_here(task_, std::move(violation));
}

void report_limit(Task& task, Errno error) {
  policy::LimitWatch* const limits = services_of(task).limits;
  if (limits == nullptr) return;
  if (auto violation = limits->explain(task, error)) record_here(task, std::move(*violation));
}

Result<vfs::At> at_of(Task& task, DirFd dirfd, std::string_view path, int flags) {
  // Before the descriptor is looked at (fs/namei.c: getname_flags).
  if (path.empty() && (flags & AT_EMPTY_PATH) == 0) return Errno::kNoEnt;
  if (path.starts_with('/')) return vfs::At{task.fs().root(), path};
  if (dirfd.value == AT_FDCWD) return vfs::At{task.fs().cwd(), path};
  const auto file = TRY(task.fds().get_raw(dirfd.value));
  if (!path.empty() && !file->inode().is_directory()) return Errno::kNotDir;
  return vfs::At{file->path(), path};
}

Result<PathArgument> path_argument(Task& task, DirFd dirfd, UserPath path, int flags) {
  PathArgument argument;
  argument.text = TRY(task.mm().copy_in_path(path));
  argument.start = TRY(at_of(task, dirfd, argument.text, flags)).start;
  return argument;
}

Result<vfs::Path> place_of(Task& task, DirFd dirfd, UserPath path, int flags) {
  const PathArgument argument = TRY(path_argument(task, dirfd, path, flags));
  FileCaller caller(task);
  return vfs::find(caller, argument.at(), flags);
}

Result<Ref<Task>> find_task(Task& task, pid_t tid) {
  if (tid == 0 || tid == task.tid()) return Ref<Task>(&task);
  Ref<Task> other = task.kernel().find_task(tid);
  if (!other) return Errno::kSrch;
  return other;
}

uint64_t open_file_limit(Task& task) { return task.group().limits().soft(RLIMIT_NOFILE); }

Result<uint64_t> install(Task& task, Ref<FileDescription> file, int flags) {
  return static_cast<uint64_t>(
      TRY(task.fds().install(std::move(file), on_exec_of(flags), open_file_limit(task))));
}

Result<uint64_t> install_pair(Task& task, Ref<FileDescription> first, Ref<FileDescription> second,
                              int flags, UserOut<std::array<int, 2>> fds) {
  const auto pair = TRY(task.fds().install_pair(std::move(first), std::move(second),
                                                on_exec_of(flags), open_file_limit(task)));
  if (const auto told = task.mm().write(fds, {pair.first, pair.second}); !told.ok()) {
    (void)task.fds().close(pair.first);
    (void)task.fds().close(pair.second);
    return told.error();
  }
  return uint64_t{0};
}

Deadline deadline_in(Nanos duration) {
  using std::chrono::steady_clock;
  const auto now = steady_clock::now();
  const auto left = steady_clock::time_point::max() - now;
  const std::chrono::nanoseconds wanted(std::max<Nanos>(duration, 0));
  return wanted < left ? now + wanted : steady_clock::time_point::max();
}

Nanos left_until(const Deadline& deadline) {
  const auto left = *deadline - std::chrono::steady_clock::now();
  return std::max<Nanos>(std::chrono::duration_cast<std::chrono::nanoseconds>(left).count(), 0);
}

Result<Deadline> deadline_of(Task& task, UserIn<timespec> timeout) {
  if (!timeout) return Deadline{};
  const timespec relative = TRY(task.mm().read(timeout));
  if (!valid_timespec(relative)) return Errno::kInval;
  return deadline_in(from_timespec(relative));
}

}  // namespace boxrun::syscalls
