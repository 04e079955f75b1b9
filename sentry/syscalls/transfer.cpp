#include "sentry/syscalls/transfer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "sentry/kernel/job_control.h"
#include "sentry/kernel/signals.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/socket.h"
#include "sentry/syscalls/support.h"
#include "sentry/vfs/terminal.h"

namespace boxrun::syscalls {
namespace {

bool may_wait(FileDescription& file, Wait wait) {
  return wait == Wait::kByFile && !file.nonblocking() && file.queue() != nullptr;
}

template <class Op>
Result<size_t> run(Task& task, FileDescription& file, Events events, Wait wait, Op op) {
  if (!may_wait(file, wait)) return op();
  return task.block_on(*file.queue(), events, std::nullopt, op);
}

Result<void> check_foreground_read(Task& task, FileDescription& file) {
  const Ref<vfs::Terminal> terminal = file.terminal();
  if (!terminal) return {};
  return kernel::check_background(task, *terminal, SIGTTIN);
}

Result<void> check_foreground_write(Task& task, FileDescription& file) {
  const Ref<vfs::Terminal> terminal = file.terminal();
  if (!terminal || !terminal->stops_background_output()) return {};
  return kernel::check_background(task, *terminal, SIGTTOU);
}

}  // namespace

Errno file_too_big(Task& task) {
  (void)kernel::send_to_task(task, kernel::kernel_signal(SIGXFSZ));
  return Errno::kFBig;
}

Errno broken_pipe(Task& task) {
  (void)kernel::send_to_task(task, kernel::kernel_signal(SIGPIPE));
  return Errno::kPipe;
}

Result<void> check_area(std::optional<int64_t> offset, uint64_t size) {
  if (size > INT64_MAX) return Errno::kInval;
  return offset && static_cast<int64_t>(size) > INT64_MAX - *offset ? Result<void>(Errno::kInval)
                                                                    : Result<void>();
}

Result<std::optional<int64_t>> read_offset(Task& task, UserInOut<int64_t> at) {
  if (!at) return std::optional<int64_t>{};
  const int64_t offset = TRY(task.mm().read(at.in()));
  if (offset < 0) return Errno::kInval;
  return std::optional<int64_t>{offset};
}

Result<void> write_offset(Task& task, UserInOut<int64_t> at, std::optional<int64_t> before,
                          uint64_t moved) {
  if (!before) return {};
  return task.mm().write(at.out(), *before + static_cast<int64_t>(moved));
}

Result<uint64_t> read_file(Task& task, FileDescription& file, IoBuffers to, At at, Wait wait) {
  if (net::Socket* socket = net::Socket::of(file); socket != nullptr && at.at_position()) {
    if (to.empty()) return uint64_t{0};  // net/socket.c: sock_read_iter, "Match SYS5 behaviour"
    net::Incoming message{.data = to, .flags = wait == Wait::kNo ? MSG_DONTWAIT : 0};
    return receive_from(task, *socket, message);
  }
  TRY(check_foreground_read(task, file));
  return run(task, file, kReadable, wait,
             [&] { return at.at_position() ? file.read(to) : file.pread(to, at.value()); });
}

Result<uint64_t> write_file(Task& task, FileDescription& file, IoBuffers from, At at,
                            WriteHow how) {
  if (net::Socket* socket = net::Socket::of(file); socket != nullptr && at.at_position()) {
    net::Outgoing message{.data = from, .flags = how.wait == Wait::kNo ? MSG_DONTWAIT : 0};
    return send_to(task, *socket, message);
  }
  TRY(check_foreground_write(task, file));
  vfs::WriteOptions options;
  options.append = how.append || (file.flags() & O_APPEND) != 0;
  options.data_sync = how.data_sync || (file.flags() & O_DSYNC) != 0;
  options.size_limit = task.group().limits().soft(RLIMIT_FSIZE);

  uint64_t done = 0;
  for (;;) {
    const auto written = run(task, file, kWritable, how.wait, [&] {
      return at.at_position() ? file.write(from, options)
                              : file.pwrite(from, at.value() + static_cast<int64_t>(done), options);
    });
    if (!written.ok()) {
      // SIGPIPE comes even when part of the data went out before (fs/pipe.c: pipe_write).
      if (written.error() == Errno::kPipe) broken_pipe(task);
      if (done > 0) return done;
      return written.error() == Errno::kFBig ? file_too_big(task) : written.error();
    }
    done += *written;
    const bool stream = file.positioning() == FileDescription::Positioning::kStream;
    if (*written == 0 || from.empty() || !stream || !may_wait(file, how.wait)) return done;
  }
}

}  // namespace boxrun::syscalls
