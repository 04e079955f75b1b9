#include "sentry/kernel/task.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/fs_context.h"

namespace boxrun::kernel {

Task::Task(Kernel& kernel, Ref<ThreadGroup> group, pid_t tid, TaskResources resources)
    : kernel_(kernel),
      group_(std::move(group)),
      tid_(tid),
      resources_(std::move(resources)),
      cpu_(platform::host_xstate_size()),
      signals_(kernel.queued_signals()) {}

Task::~Task() = default;

void Task::set_cred(Ref<Credentials> cred) {
  Lock lock(mutex_);
  std::swap(resources_.cred, cred);
}

void Task::set_fds(Ref<vfs::FdTable> fds) {
  {
    Lock lock(mutex_);
    std::swap(resources_.fds, fds);
  }
  // The old table, and perhaps its files, go here, without the lock. The same below.
}

void Task::set_fs(Ref<vfs::FsContext> fs) {
  {
    Lock lock(mutex_);
    std::swap(resources_.fs, fs);
  }
}

TaskResources Task::resources() const {
  Lock lock(mutex_);
  return resources_;
}

Ref<Credentials> Task::cred_ref() const {
  Lock lock(mutex_);
  return resources_.cred;
}

std::string Task::comm() const {
  Lock lock(mutex_);
  return comm_.data();
}

void Task::set_comm(std::string_view comm) {
  Lock lock(mutex_);
  comm_.fill(0);
  std::copy_n(comm.begin(), std::min(comm.size(), comm_.size() - 1), comm_.begin());
}

Scheduling Task::scheduling() const {
  Lock lock(mutex_);
  return scheduling_;
}

void Task::set_scheduling(const Scheduling& scheduling) {
  Lock lock(mutex_);
  scheduling_ = scheduling;
}

CpuTimes Task::cpu_times() const {
  // System time is what the host thread has used: everything the Sentry did for this task. User
  // time is the time spent inside Context::run, which is exact while the host has a CPU to spare.
  CpuTimes times{.user = user_time_.load(std::memory_order_relaxed), .system = 0};
  if (const Nanos entered = guest_entered_.load(std::memory_order_relaxed); entered != 0) {
    times.user += std::max<Nanos>(0, kernel_.clock().monotonic() - entered);
  }
  timespec used{};
  const clockid_t clock = host_cpu_clock_.load(std::memory_order_relaxed);
  if (clock != -1 && clock_gettime(clock, &used) == 0) times.system = from_timespec(used);
  return times;
}

Accounting Task::accounting() const {
  return {.cpu = cpu_times(),
          .max_rss_bytes = max_rss_bytes_.load(std::memory_order_relaxed),
          .minor_faults = faults_.load(std::memory_order_relaxed),
          .voluntary_switches = sleeps_.load(std::memory_order_relaxed),
          .involuntary_switches = 0};
}

void Task::note_memory_use() {
  const uint64_t now = mm().usage().resident_bytes;
  max_rss_bytes_.store(std::max(now, max_rss_bytes_.load(std::memory_order_relaxed)),
                       std::memory_order_relaxed);
}

char Task::state_letter() {
  SignalLock lock(group());
  if (signals_.exited) return 'Z';
  if (signals_.stopped) return 'T';
  return asleep_.load(std::memory_order_relaxed) ? 'S' : 'R';
}

void Task::interrupt() {
  sleeper_.interrupt();
  // Pairs with run(): in_guest_ is set before the latch is looked at for the last time, so either
  // that look sees the latch or we see in_guest_.
  if (!in_guest_.load()) return;
  Lock lock(mutex_);
  if (context_) context_->interrupt();
}

Result<void> Task::sleep(Deadline deadline) {
  asleep_.store(true, std::memory_order_relaxed);
  sleeps_.fetch_add(1, std::memory_order_relaxed);
  Result<void> slept;
  for (;;) {
    slept = sleeper_.sleep(deadline);
    if (slept.error() != Errno::kIntr) break;
    // The latch may be stale: another thread took the signal, or it was blocked since.
    sleeper_.take_interrupt();
    if (work_pending()) {
      sleeper_.interrupt();
      break;
    }
  }
  asleep_.store(false, std::memory_order_relaxed);
  return slept;
}

Result<void> Task::sleep_until(Deadline deadline) {
  sleeper_.reset();
  for (;;) {
    if (const auto slept = sleep(deadline); !slept.ok()) {
      return slept.error() == Errno::kTimedOut ? Errno::kOk : slept.error();
    }
  }
}

bool Task::wait_killable(Completion& done) {
  sleeper_.reset();
  WaitQueue::Entry entry(done.waiters(), kReadable, sleeper_);
  bool interrupted = false;
  bool alive = true;
  while (!done.done() && alive) {
    if (sleeper_.sleep({}).ok()) continue;
    sleeper_.take_interrupt();
    interrupted = true;
    SignalLock lock(group());
    alive = !must_exit(lock);
  }
  if (interrupted) sleeper_.interrupt();
  return alive;
}

Result<uint64_t> Task::restart() {
  if (!restart_) return Errno::kIntr;
  return std::exchange(restart_, nullptr)(*this);
}

void Task::exit(int code) {
  exiting_ = true;
  exit_status_ = (code & 0xff) << 8;
}

void Task::exit_group(int code) { group().exit_all((code & 0xff) << 8); }

bool Task::work_pending() {
  SignalLock lock(group());
  return work_pending(lock);
}

}  // namespace boxrun::kernel
