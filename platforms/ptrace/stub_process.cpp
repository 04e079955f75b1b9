#include "platforms/ptrace/stub_process.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>

namespace boxrun::platform {
namespace {

void wait_for_end(pid_t process) {
  while (::wait4(process, nullptr, __WALL, nullptr) < 0 && errno == EINTR) {
  }
}

uint64_t host_prot(Prot prot) {
  static_assert(static_cast<int>(Prot::kRead) == PROT_READ &&
                static_cast<int>(Prot::kWrite) == PROT_WRITE &&
                static_cast<int>(Prot::kExec) == PROT_EXEC);
  return static_cast<uint64_t>(prot);
}

}  // namespace

Stubs::~Stubs() {
  for (const pid_t process : dying_) wait_for_end(process);
}

void Stubs::bury(pid_t process) {
  Lock lock(mutex_);
  dying_.push_back(process);
  std::erase_if(dying_,
                [](pid_t p) { return ::wait4(p, nullptr, __WALL | WNOHANG, nullptr) != 0; });
}

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
  // Before the lock: the files stay open in the stubs' table until the end of this function.
  std::vector<FileTable::Use> files;
  Lock lock(mutex_);
  std::vector<StubCall> calls;
  calls.reserve(ops.size());
  // What will be mapped once the calls before are done; for kProtect only.
  std::optional<RangeSet> planned;
  if (std::ranges::any_of(ops, [](const Op& op) { return op.kind == Op::Kind::kProtect; }) &&
      ops.size() > 1) {
    planned = mapped_;
  }
  Errno planning = Errno::kOk;
  for (const Op& op : ops) {
    if (planning != Errno::kOk) break;
    const uint64_t start = op.guest.start;
    switch (op.kind) {
      case Op::Kind::kMap: {
        Result<FileTable::Use> file = stubs_.files.use(op.host_fd);
        if (!file.ok()) {
          planning = file.error();
          break;
        }
        calls.push_back({SYS_mmap,
                         {start, op.guest.size(), host_prot(op.prot), kGuestMapFlags,
                          static_cast<uint64_t>(file->number()), op.offset}});
        files.push_back(std::move(file).take());
        if (planned) planned->add(op.guest);
        break;
      }
      case Op::Kind::kProtect:
        // mprotect(2) stops at the first hole; the contract is to skip them.
        for (const Range part : (planned ? *planned : mapped_).parts(op.guest)) {
          calls.push_back({SYS_mprotect, {part.start, part.size(), host_prot(op.prot)}});
        }
        break;
      case Op::Kind::kUnmap:
        calls.push_back({SYS_munmap, {start, op.guest.size()}});
        if (planned) planned->remove(op.guest);
        break;
    }
  }
  std::optional<StubThread> leader;
  Result<StubThread*> thread = executor(leader);
  if (!thread.ok()) return Errno::kSrch;
  size_t done = 0;
  const Result<void> result = run_calls(**thread, calls, done);
  note_done(std::span(calls).first(done));
  if (leader) (void)leader->release();
  if (result.ok() && planning != Errno::kOk) return planning;
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

void StubProcess::note_done(std::span<const StubCall> done) {
  for (const StubCall& call : done) {
    const Range range{call.args[0], call.args[0] + call.args[1]};
    if (call.number == SYS_mmap) mapped_.add(range);
    if (call.number == SYS_munmap) mapped_.remove(range);
  }
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
