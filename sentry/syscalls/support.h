// What the handlers of several groups share.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "sentry/kernel/task.h"
#include "sentry/syscalls/args.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/operations.h"
#include "src/base/result.h"
#include "src/report/record.h"

namespace boxrun::syscalls {

using vfs::FileDescription;

// One read or write moves at most this much (MAX_RW_COUNT in include/linux/fs.h).
inline constexpr uint64_t kMaxTransfer = 0x7ffff000;

// Who acts, for the VFS, for the time of one system call: lives on the handler's stack. Reports
// what the profile refuses.
class FileCaller final : public vfs::DenialSink, public vfs::TerminalOwner {
 public:
  explicit FileCaller(Task& task);
  operator vfs::Caller&() { return caller_; }  // NOLINT(google-explicit-constructor)
  vfs::Caller* operator->() { return &caller_; }

  void denied(const vfs::Denial& denial) override;
  Ref<vfs::Terminal> controlling_terminal() override;

 private:
  Task& task_;
  vfs::Caller caller_;
};

// Reports the limit of the sandbox, if one is to blame, for which the call that `task` is in fails
// with `error`. For the dispatcher, and for calls that do not return their error.
void report_limit(Task& task, Errno error);

// The path argument `path` relative to `dirfd`. EBADF, ENOTDIR only where they matter: an absolute
// path ignores dirfd. Of `flags` AT_EMPTY_PATH counts: an empty path, which is ENOENT otherwise,
// may start at any kind of file.
Result<vfs::At> at_of(Task& task, DirFd dirfd, std::string_view path, int flags);

// A copied path and where it starts, kept together because At only borrows the text.
struct PathArgument {
  std::string text;
  vfs::Path start;
  vfs::At at() const { return {start, text}; }
};
Result<PathArgument> path_argument(Task& task, DirFd dirfd, UserPath path, int flags = 0);
inline Result<PathArgument> path_argument(Task& task, UserPath path);

// The place that a path names, following symlinks unless AT_SYMLINK_NOFOLLOW.
Result<vfs::Path> place_of(Task& task, DirFd dirfd, UserPath path, int flags);

// The task with this tid, the caller for 0. ESRCH.
Result<Ref<Task>> find_task(Task& task, pid_t tid);

// RLIMIT_NOFILE of the caller.
uint64_t open_file_limit(Task& task);
// O_CLOEXEC and its namesakes of eventfd, epoll, pipe2 ...
inline vfs::FdTable::OnExec on_exec_of(int flags) {
  return (flags & O_CLOEXEC) != 0 ? vfs::FdTable::OnExec::kClose : vfs::FdTable::OnExec::kKeep;
}
// Gives the file the lowest free descriptor.
Result<uint64_t> install(Task& task, Ref<FileDescription> file, int flags);

// Gives two files a descriptor each and tells the guest: pipe2, socketpair. Both or none.
Result<uint64_t> install_pair(Task& task, Ref<FileDescription> first, Ref<FileDescription> second,
                              int flags, UserOut<std::array<int, 2>> fds);

// Tries `op` once if the file is non-blocking, else until it is not kAgain, waiting for `events`.
template <class Op>
auto wait_for(Task& task, FileDescription& file, Events events, Op op) -> decltype(op()) {
  WaitQueue* queue = file.queue();
  if (file.nonblocking() || queue == nullptr) return op();
  return task.block_on(*queue, events, std::nullopt, op);
}

// An absolute deadline for a relative time; saturates.
Deadline deadline_in(Nanos duration);
// ... for a guest's timespec: EINVAL when senseless, none for a null pointer.
Result<Deadline> deadline_of(Task& task, UserIn<timespec> timeout);

inline Result<PathArgument> path_argument(Task& task, UserPath path) {
  return path_argument(task, DirFd{AT_FDCWD}, path);
}

// What is left until a deadline that there is, at least 0.
Nanos left_until(const Deadline& deadline);

// Turns a Result<void> into a system call's 0.
inline Result<uint64_t> zero(Result<void> result) {
  if (!result.ok()) return result.error();
  return uint64_t{0};
}

}  // namespace boxrun::syscalls
