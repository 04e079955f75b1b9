#include "platforms/ptrace/stub_process.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>

namespace boxrun::platform {
StubProcess::~StubProcess() {
  kill();
  stubs_.bury(leader_);
}

// The leader stays a zombie at least until ~StubProcess, so its id cannot be anybody else's.
void StubProcess::kill() { ::kill(leader_, SIGKILL); }

Result<StubThread*> StubProcess::executor(std::optional<StubThread>& leader) {
  if (auto it = attached_.find(std::this_thread::get_id()); it != attached_.end())
    return it->second;
  leader.emplace(stubs_.seed->layout(), leader_, leader_);
  TRY(leader->seize());
  return &*leader;
}

// Any one thread tells: none ends alone while it is attached.
bool StubProcess::lost() {
  Lock lock(mutex_);
  return !attached_.empty() && attached_.begin()->second->ended();
}

Result<void> StubProcess::apply(std::span<const Op> ops) {
  if (ops.empty()) return lost() ? Errno::kSrch : Errno::kOk;
  // Outlives the lock: the files are given back after it.
  MappingCalls plan;
  Lock lock(mutex_);
  plan = plan_mapping_calls(ops, mapped_, stubs_.files);
  std::optional<StubThread> leader;
  Result<StubThread*> thread = executor(leader);
  if (!thread.ok()) return Errno::kSrch;
  size_t done = 0;
  const Result<void> result = run_calls(**thread, plan.calls, done);
  note_mapping_calls(std::span(plan.calls).first(done), mapped_);
  if (leader) (void)leader->release();
  if (result.ok() && plan.error != Errno::kOk) return plan.error;
  return result;
}

Result<void> StubProcess::run_calls(StubThread& thread, std::span<const StubCall> calls,
                                    size_t& done) {
  if (calls.size() == 1) {
    TRY(thread.call(calls[0]));
    done = 1;
    return {};
  }
  while (done < calls.size()) {
    const size_t count = std::min(kStubListCapacity, calls.size() - done);
    const StubThread::ListResult result = thread.call_list(calls.subspan(done, count), list_);
    done += result.done;
    if (result.error != Errno::kOk) return result.error;
  }
  return {};
}

Result<Ref<StubProcess>> StubProcess::fork() {
  Lock lock(mutex_);
  std::optional<StubThread> leader;
  StubThread* thread = TRY(executor(leader));
  Result<pid_t> child = thread->clone(kCloneProcess, stubs_.sentry);
  if (leader) (void)leader->release();
  return make_ref<StubProcess>(stubs_, TRY(std::move(child)), mapped_, list_);
}

Result<pid_t> StubProcess::new_thread() {
  std::optional<StubThread> leader;
  StubThread* thread = TRY(executor(leader));
  Result<pid_t> child = thread->clone(kCloneThread, 0);
  if (leader) (void)leader->release();
  return child;
}

Result<std::unique_ptr<StubThread>> StubProcess::attach() {
  Lock lock(mutex_);
  pid_t id = 0;
  if (parked_.empty()) {
    id = TRY(new_thread());
  } else {
    id = parked_.back();
    parked_.pop_back();
  }
  auto thread = std::make_unique<StubThread>(stubs_.seed->layout(), leader_, id);
  TRY(thread->seize());
  attached_[std::this_thread::get_id()] = thread.get();
  return thread;
}

void StubProcess::detach(std::unique_ptr<StubThread> thread) {
  Lock lock(mutex_);
  attached_.erase(std::this_thread::get_id());
  if (!thread->dead()) {
    if (parked_.size() < kMaxParked) {
      if (thread->park().ok()) parked_.push_back(thread->thread());
    } else {
      (void)thread->exit();
    }
  }
  // Whatever went wrong went wrong because the process is dying.
  thread->reap();
}

}  // namespace boxrun::platform
