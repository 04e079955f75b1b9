#include "sentry/kernel/thread_group.h"

#include <algorithm>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/file_description.h"

namespace boxrun::kernel {
namespace {

timeval to_timeval(Nanos t) { return {t / kSecond, t % kSecond / 1000}; }

}  // namespace

void Accounting::add(const Accounting& other) {
  cpu = cpu + other.cpu;
  max_rss_bytes = std::max(max_rss_bytes, other.max_rss_bytes);
  minor_faults += other.minor_faults;
  voluntary_switches += other.voluntary_switches;
  involuntary_switches += other.involuntary_switches;
}

rusage Accounting::to_rusage() const {
  rusage out{};
  out.ru_utime = to_timeval(cpu.user);
  out.ru_stime = to_timeval(cpu.system);
  out.ru_maxrss = static_cast<long>(max_rss_bytes / 1024);
  out.ru_minflt = static_cast<long>(minor_faults);
  out.ru_nvcsw = static_cast<long>(voluntary_switches);
  out.ru_nivcsw = static_cast<long>(involuntary_switches);
  return out;
}

ThreadGroup::ThreadGroup(Kernel& kernel, pid_t id, Ref<SignalHandlers> handlers)
    : tgid(id),
      kernel_(kernel),
      start_time_(kernel.clock().boottime()),
      signals_(kernel.queued_signals()),
      handlers_(std::move(handlers)),
      timers_(std::make_unique<ProcessTimers>(*this)) {}

ThreadGroup::~ThreadGroup() = default;

void ThreadGroup::set_handlers(SignalLock&, Ref<SignalHandlers> handlers) {
  handlers_ = std::move(handlers);
}

void ThreadGroup::exit_all(int status) {
  SignalLock lock(*this);
  exit_all(lock, status);
}

void ThreadGroup::exit_all(SignalLock&, int status) {
  if (signals_.exiting) return;
  signals_.exiting = true;
  signals_.exit_status = status;
  signals_.stop_signal = 0;
  signals_.stopped = false;
  for (Task* task : signals_.tasks) task->interrupt();
}

void ThreadGroup::complete_stop(SignalLock& lock) {
  if (signals_.stop_signal == 0 || signals_.stopped || signals_.tasks.empty()) return;
  const bool all = std::all_of(signals_.tasks.begin(), signals_.tasks.end(),
                               [&](Task* task) { return task->signals(lock).stopped; });
  if (!all) return;
  signals_.stopped = true;
  signals_.report_stop = signals_.stop_signal;
  signals_.report_continue = false;
  signals_.parent_notice = CLD_STOPPED;
  signals_.notice_status = signals_.stop_signal;
}

bool ThreadGroup::exited(int& status) {
  TreeLock tree(kernel_.tree());
  if (links_.state == State::kRunning) return false;
  status = links_.exit_status;
  return true;
}

CpuTimes ThreadGroup::cpu_times() {
  SignalLock lock(*this);
  CpuTimes sum = signals_.cpu_of_exited;
  for (const Task* task : signals_.tasks) sum = sum + task->cpu_times();
  return sum;
}

CpuTimes ThreadGroup::running_cpu_times() {
  SignalLock lock(*this);
  CpuTimes sum;
  for (const Task* task : signals_.tasks) sum = sum + task->cpu_times();
  return sum;
}

Accounting ThreadGroup::accounting(TreeLock&) {
  Accounting sum = links_.own;
  SignalLock lock(*this);
  for (const Task* task : signals_.tasks) sum.add(task->accounting());
  return sum;
}

size_t ThreadGroup::task_count() {
  SignalLock lock(*this);
  return signals_.tasks.size();
}

Ref<Task> ThreadGroup::find_task(pid_t tid) {
  SignalLock lock(*this);
  for (Task* task : signals_.tasks) {
    if (task->tid() == tid) return Ref<Task>(task);
  }
  return nullptr;
}

Ref<vfs::FileDescription> ThreadGroup::exe() const {
  Lock lock(mutex_);
  return exe_;
}

void ThreadGroup::set_exe(Ref<vfs::FileDescription> exe) {
  {
    Lock lock(mutex_);
    std::swap(exe_, exe);
  }
  // The old file is closed here, without the lock.
}

}  // namespace boxrun::kernel
