#include "sentry/vfs/epoll.h"

#include <vector>

#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/poll.h"
#include "sentry/syscalls/signal.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

// What fits in memory that a guest may ask for at once; Linux allows INT_MAX / 12.
constexpr int kMaxEvents = INT32_MAX / static_cast<int>(sizeof(epoll_event));
constexpr size_t kMaxAtOnce = 4096;

Result<uint64_t> wait(Task& task, Fd epoll, UserOut<epoll_event> out, int max, Deadline deadline) {
  if (max <= 0 || max > kMaxEvents) return Errno::kInval;
  const auto file = TRY(task.fds().get(epoll.value));
  vfs::Epoll* watched = vfs::Epoll::of(*file);
  if (watched == nullptr) return Errno::kInval;
  const size_t at_once = std::min<size_t>(static_cast<size_t>(max), kMaxAtOnce);
  auto found = task.block_on(
      *watched->queue(), kReadable, deadline, [&] { return watched->collect(at_once); },
      Errno::kIntr);
  if (found.error() == Errno::kTimedOut) return uint64_t{0};
  if (!found.ok()) return found.error();
  std::vector<epoll_event> events(found->size());
  for (size_t i = 0; i < events.size(); i++) {
    events[i].events = (*found)[i].events;
    events[i].data.u64 = (*found)[i].data;
  }
  TRY(task.mm().copy_out(out.addr, std::as_bytes(std::span(events))));
  return events.size();
}

Deadline milliseconds(int timeout) {
  if (timeout < 0) return {};
  return deadline_in(Nanos{timeout} * 1'000'000);
}

}  // namespace

Result<uint64_t> sys_epoll_create1(Task& task, Int flags) {
  if ((flags.value & ~EPOLL_CLOEXEC) != 0) return Errno::kInval;
  auto epoll = vfs::Epoll::create(task.kernel().anonymous_files(), task.cred_ref());
  return install(task, std::move(epoll), flags.value);
}
Result<uint64_t> sys_epoll_create(Task& task, Int size) {
  if (size.value <= 0) return Errno::kInval;
  return sys_epoll_create1(task, Int{0});
}

Result<uint64_t> sys_epoll_ctl(Task& task, Fd epoll, Int operation, Fd fd,
                               UserIn<epoll_event> event) {
  vfs::Epoll::Interest interest;
  if (operation.value != EPOLL_CTL_DEL) {
    const epoll_event raw = TRY(task.mm().read(event));
    interest = {raw.events, raw.data.u64};
  }
  const auto file = TRY(task.fds().get(epoll.value));
  const auto target = TRY(task.fds().get(fd.value));
  if (target->queue() == nullptr) return Errno::kPerm;
  vfs::Epoll* watcher = vfs::Epoll::of(*file);
  if (watcher == nullptr || file == target) return Errno::kInval;
  switch (operation.value) {
    case EPOLL_CTL_ADD:
      return zero(watcher->add(fd.value, target, interest));
    case EPOLL_CTL_MOD:
      return zero(watcher->modify(fd.value, target, interest));
    case EPOLL_CTL_DEL:
      return zero(watcher->remove(fd.value, target));
    default:
      return Errno::kInval;
  }
}

Result<uint64_t> sys_epoll_wait(Task& task, Fd epoll, UserOut<epoll_event> events, Int max,
                                Int timeout_ms) {
  return wait(task, epoll, events, max.value, milliseconds(timeout_ms.value));
}

Result<uint64_t> sys_epoll_pwait(Task& task, Fd epoll, UserOut<epoll_event> events, Int max,
                                 Int timeout_ms, UserIn<kernel::SignalSet> mask, Size mask_size) {
  TRY(set_temporary_mask(task, mask, mask_size.value));
  return wait(task, epoll, events, max.value, milliseconds(timeout_ms.value));
}

Result<uint64_t> sys_epoll_pwait2(Task& task, Fd epoll, UserOut<epoll_event> events, Int max,
                                  UserIn<timespec> timeout, UserIn<kernel::SignalSet> mask,
                                  Size mask_size) {
  const Deadline deadline = TRY(deadline_of(task, timeout));
  TRY(set_temporary_mask(task, mask, mask_size.value));
  return wait(task, epoll, events, max.value, deadline);
}

}  // namespace boxrun::syscalls
