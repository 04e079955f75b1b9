// poll(2) and select(2): both wait for a list of files with one Sleeper.
#include "sentry/syscalls/poll.h"

#include <chrono>
#include <vector>

#include "sentry/syscalls/signal.h"
#include "sentry/syscalls/support.h"
#include "sentry/vfs/poll.h"

namespace boxrun::syscalls {
namespace {

using vfs::PollItem;

// How many items are ready; 0 after the deadline, EINTR.
Result<size_t> wait_ready(Task& task, std::span<PollItem> items, Deadline deadline, bool any_bad) {
  if (const size_t ready = vfs::poll_ready(items); ready > 0 || any_bad) return ready;
  if (deadline && left_until(deadline) == 0) return size_t{0};
  task.sleeper().reset();
  const vfs::PollWait registered(items, task.sleeper());
  for (;;) {
    if (const size_t ready = vfs::poll_ready(items); ready > 0) return ready;
    const auto slept = task.sleep(deadline);
    if (slept.error() == Errno::kTimedOut) return size_t{0};
    if (!slept.ok()) return slept.error();
  }
}

Result<uint64_t> poll(Task& task, UserInOut<pollfd> address, uint32_t count, Deadline deadline) {
  if (count > open_file_limit(task)) return Errno::kInval;
  std::vector<pollfd> fds = TRY(task.mm().read_array(address.in(), count));
  std::vector<PollItem> items(count);
  std::vector<bool> bad(count);
  bool any_bad = false;
  for (size_t i = 0; i < count; i++) {
    if (fds[i].fd < 0) continue;
    auto file = task.fds().get(fds[i].fd);
    if (file.ok()) {
      items[i] = {std::move(*file), static_cast<uint16_t>(fds[i].events), 0};
    } else {
      bad[i] = any_bad = true;
    }
  }
  TRY(wait_ready(task, items, deadline, any_bad));
  uint64_t ready = 0;
  for (size_t i = 0; i < count; i++) {
    fds[i].revents = bad[i] ? short{POLLNVAL} : static_cast<short>(items[i].ready);
    if (fds[i].revents != 0) ready++;
    // Only this field is written: another thread may use the others meanwhile.
    TRY(task.mm().write(
        UserOut<short>{address.addr + i * sizeof(pollfd) + offsetof(pollfd, revents)},
        fds[i].revents));
  }
  return ready;
}

// A poll whose deadline stays the same when a signal interrupts it.
Result<uint64_t> restartable_poll(Task& task, UserInOut<pollfd> fds, uint32_t count,
                                  Deadline deadline) {
  auto ready = poll(task, fds, count, deadline);
  if (ready.error() != Errno::kIntr) return ready;
  task.set_restart([fds, count, deadline](Task& restarted) {
    return restartable_poll(restarted, fds, count, deadline);
  });
  return Errno::kRestartBlock;
}

// The sets of select(2), bit by bit, in the 64-bit words that Linux uses.
class FdSets {
 public:
  static constexpr int kSets = 3;
  FdSets(Task& task, int count, std::array<uint64_t, kSets> addresses)
      : task_(task), words_((static_cast<size_t>(count) + 63) / 64), addresses_(addresses) {}

  Result<void> read() {
    for (size_t s = 0; s < kSets; s++) {
      in_[s].assign(words_, 0);
      out_[s].assign(words_, 0);
      if (addresses_[s] == 0) continue;
      TRY(task_.mm().copy_in(addresses_[s], std::as_writable_bytes(std::span(in_[s]))));
    }
    return {};
  }
  Result<void> write() {
    for (size_t s = 0; s < kSets; s++) {
      if (addresses_[s] == 0) continue;
      TRY(task_.mm().copy_out(addresses_[s], std::as_bytes(std::span(out_[s]))));
    }
    return {};
  }
  bool asked(size_t set, size_t fd) const { return (in_[set][fd / 64] >> (fd % 64) & 1) != 0; }
  void mark(size_t set, size_t fd) { out_[set][fd / 64] |= uint64_t{1} << (fd % 64); }

 private:
  Task& task_;
  const size_t words_;
  const std::array<uint64_t, kSets> addresses_;
  std::array<std::vector<uint64_t>, kSets> in_, out_;
};

// fs/select.c: POLLIN_SET, POLLOUT_SET, POLLEX_SET.
constexpr std::array<Events, FdSets::kSets> kSelectEvents = {
    kReadable | EPOLLRDBAND | kHangup | kError, kWritable | EPOLLWRBAND | kError, kPriority};

Result<uint64_t> select(Task& task, int count, std::array<uint64_t, FdSets::kSets> sets,
                        Deadline deadline) {
  if (count < 0) return Errno::kInval;
  count = static_cast<int>(std::min<size_t>(static_cast<size_t>(count), task.fds().capacity()));
  FdSets fds(task, count, sets);
  TRY(fds.read());
  std::vector<PollItem> items;
  std::vector<size_t> numbers;
  for (size_t fd = 0; fd < static_cast<size_t>(count); fd++) {
    Events wanted = 0;
    for (size_t s = 0; s < FdSets::kSets; s++) wanted |= fds.asked(s, fd) ? kSelectEvents[s] : 0;
    if (wanted == 0) continue;
    items.push_back({TRY(task.fds().get(static_cast<int>(fd))), wanted, 0});
    numbers.push_back(fd);
  }
  TRY(wait_ready(task, items, deadline, false));
  uint64_t bits = 0;
  for (size_t i = 0; i < items.size(); i++) {
    for (size_t s = 0; s < FdSets::kSets; s++) {
      if (!fds.asked(s, numbers[i]) || (items[i].ready & kSelectEvents[s]) == 0) continue;
      fds.mark(s, numbers[i]);
      bits++;
    }
  }
  TRY(fds.write());
  return bits;
}

// select and ppoll write back what is left of the timeout; a failure to do so is not an error
// (fs/select.c: poll_select_finish), and a signal without handler restarts them.
template <class Time, class FromNanos>
Result<uint64_t> finish(Task& task, Result<uint64_t> result, Deadline deadline, UserOut<Time> left,
                        FromNanos from_nanos) {
  if (left && deadline) (void)task.mm().write(left, from_nanos(left_until(deadline)));
  if (result.error() == Errno::kIntr) return Errno::kRestartNoHand;
  return result;
}

timeval to_timeval(Nanos t) {
  const timespec ts = to_timespec(t);
  return {ts.tv_sec, ts.tv_nsec / 1000};
}

}  // namespace

Result<uint64_t> sys_poll(Task& task, UserInOut<pollfd> fds, Unsigned count, Int timeout_ms) {
  Deadline deadline;
  if (timeout_ms.value >= 0) deadline = deadline_in(Nanos{timeout_ms.value} * 1'000'000);
  return restartable_poll(task, fds, count.value, deadline);
}

Result<uint64_t> sys_ppoll(Task& task, UserInOut<pollfd> fds, Unsigned count,
                           UserInOut<timespec> timeout, UserIn<kernel::SignalSet> mask,
                           Size mask_size) {
  const Deadline deadline = TRY(deadline_of(task, timeout.in()));
  TRY(set_temporary_mask(task, mask, mask_size.value));
  return finish(task, poll(task, fds, count.value, deadline), deadline, timeout.out(), to_timespec);
}

Result<uint64_t> sys_select(Task& task, Int count, UserInOut<fd_set> read, UserInOut<fd_set> write,
                            UserInOut<fd_set> except, UserInOut<timeval> timeout) {
  Deadline deadline;
  if (timeout) {
    const timeval t = TRY(task.mm().read(timeout.in()));
    if (t.tv_sec < 0 || t.tv_usec < 0) return Errno::kInval;
    // Microseconds beyond a second count as seconds here, unlike elsewhere.
    time_t seconds = 0;
    if (__builtin_add_overflow(t.tv_sec, t.tv_usec / 1'000'000, &seconds)) return Errno::kInval;
    deadline = deadline_in(from_timespec({seconds, t.tv_usec % 1'000'000 * 1000}));
  }
  auto result = select(task, count.value, {read.addr, write.addr, except.addr}, deadline);
  return finish(task, std::move(result), deadline, timeout.out(), to_timeval);
}

Result<uint64_t> sys_pselect6(Task& task, Int count, UserInOut<fd_set> read,
                              UserInOut<fd_set> write, UserInOut<fd_set> except,
                              UserInOut<timespec> timeout, UserIn<SelectMask> mask) {
  const Deadline deadline = TRY(deadline_of(task, timeout.in()));
  if (mask) {
    const SelectMask pair = TRY(task.mm().read(mask));
    TRY(set_temporary_mask(task, {pair.set}, pair.size));
  }
  auto result = select(task, count.value, {read.addr, write.addr, except.addr}, deadline);
  return finish(task, std::move(result), deadline, timeout.out(), to_timespec);
}

}  // namespace boxrun::syscalls
