#include "sentry/syscalls/special_fd.h"

#include <linux/memfd.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "sentry/fs/event_fd.h"
#include "sentry/fs/mem_fd.h"
#include "sentry/fs/pipe.h"
#include "sentry/fs/timer_fd.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/signalfd.h"
#include "sentry/syscalls/dispatcher.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

itimerspec to_itimerspec(const fs::TimerSetting& s) {
  return {to_timespec(s.interval), to_timespec(s.value)};
}

}  // namespace

Result<uint64_t> sys_pipe2(Task& task, UserOut<std::array<int, 2>> fds, OpenFlags flags) {
  if ((flags.value & ~(O_CLOEXEC | O_DIRECT | O_NONBLOCK)) != 0) return Errno::kInval;
  auto pipe =
      TRY(fs::create_pipe(services_of(task).pipes, flags.value & ~O_CLOEXEC, task.cred_ref()));
  return install_pair(task, std::move(pipe.read), std::move(pipe.write), flags.value, fds);
}
Result<uint64_t> sys_pipe(Task& task, UserOut<std::array<int, 2>> fds) {
  return sys_pipe2(task, fds, OpenFlags{0});
}

Result<uint64_t> sys_eventfd2(Task& task, Unsigned initial, Int flags) {
  auto file = TRY(fs::create_event_fd(task.kernel().anonymous_files(), initial.value, flags.value,
                                      task.cred_ref()));
  return install(task, std::move(file), flags.value);
}
Result<uint64_t> sys_eventfd(Task& task, Unsigned initial) {
  return sys_eventfd2(task, initial, Int{0});
}

Result<uint64_t> sys_memfd_create(Task& task, UserString name, Unsigned flags) {
  constexpr size_t kMaxName = 249;  // NAME_MAX less "memfd:" (mm/memfd.c)
  auto text = task.mm().copy_in_string(name.addr, kMaxName);
  if (!text.ok()) return text.error() == Errno::kNameTooLong ? Errno::kInval : text.error();
  auto file = TRY(fs::create_memfd(services_of(task).memfd_mount, *text,
                                   flags.value & ~uint32_t{MFD_CLOEXEC}, task.cred_ref()));
  return install(task, std::move(file), (flags.value & MFD_CLOEXEC) != 0 ? O_CLOEXEC : 0);
}

Result<uint64_t> sys_signalfd4(Task& task, Int fd, UserIn<kernel::SignalSet> address, Size size,
                               Int flags) {
  if ((flags.value & ~(SFD_CLOEXEC | SFD_NONBLOCK)) != 0 ||
      size.value != sizeof(kernel::SignalSet)) {
    return Errno::kInval;
  }
  const kernel::SignalSet mask = TRY(task.mm().read(address)) & ~kernel::kUnblockable;
  if (fd.value != -1) {
    const auto file = TRY(task.fds().get(fd.value));
    TRY(kernel::set_signalfd_mask(*file, mask));
    return static_cast<uint64_t>(fd.value);
  }
  return install(task, kernel::open_signalfd(task, mask, flags.value & SFD_NONBLOCK), flags.value);
}
Result<uint64_t> sys_signalfd(Task& task, Int fd, UserIn<kernel::SignalSet> mask, Size size) {
  return sys_signalfd4(task, fd, mask, size, Int{0});
}

Result<uint64_t> sys_timerfd_create(Task& task, ClockId clock, Int flags) {
  if ((flags.value & ~(TFD_CLOEXEC | TFD_NONBLOCK)) != 0) return Errno::kInval;
  auto file = TRY(fs::create_timer_fd(task.kernel().anonymous_files(), clock.value,
                                      flags.value & TFD_NONBLOCK, task.kernel().timers(),
                                      task.kernel().clock(), task.cred_ref()));
  return install(task, std::move(file), flags.value);
}

Result<uint64_t> sys_timerfd_settime(Task& task, Fd fd, Int flags, UserIn<itimerspec> in,
                                     UserOut<itimerspec> old) {
  const itimerspec wanted = TRY(task.mm().read(in));
  if ((flags.value & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) != 0 ||
      !valid_timespec(wanted.it_value) || !valid_timespec(wanted.it_interval)) {
    return Errno::kInval;
  }
  const auto file = TRY(task.fds().get(fd.value));
  const auto before = TRY(fs::set_timer_fd(
      *file, flags.value, {from_timespec(wanted.it_value), from_timespec(wanted.it_interval)}));
  if (old) TRY(task.mm().write(old, to_itimerspec(before)));
  return uint64_t{0};
}

Result<uint64_t> sys_timerfd_gettime(Task& task, Fd fd, UserOut<itimerspec> out) {
  const auto file = TRY(task.fds().get(fd.value));
  return zero(task.mm().write(out, to_itimerspec(TRY(fs::get_timer_fd(*file)))));
}

}  // namespace boxrun::syscalls
