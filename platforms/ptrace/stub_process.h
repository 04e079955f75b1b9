#pragma once
#include <sys/types.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <unordered_map>
#include <vector>

#include "platforms/platform.h"
#include "platforms/ptrace/stub_thread.h"
#include "platforms/stub/mapping_calls.h"
#include "platforms/stub/range_set.h"
#include "platforms/stub/stubs.h"
#include "src/base/ref.h"
#include "src/base/sync.h"

namespace boxrun::platform {

// One stub process: the host side of an address space. Its first thread, the leader, never runs
// guest code: it is parked and untraced, and any Sentry thread can trace it for a moment to change
// the address space or to make a new thread. Every other thread serves one Context, or is parked
// and free for the next one. Shared by the AddressSpace and the Contexts bound to it; thread-safe.
class StubProcess final : public RefCounted {
 public:
  using ListPage = std::array<StubCall, kStubListCapacity>;

  // An empty process, or one that was forked from a process with these mappings and list page.
  StubProcess(Stubs& stubs, pid_t leader, RangeSet mapped = {}, const ListPage& list = {})
      : stubs_(stubs), leader_(leader), mapped_(std::move(mapped)), list_(list) {}
  ~StubProcess() override;

  Result<void> apply(std::span<const Op> ops);
  // A copy with the same mappings.
  Result<Ref<StubProcess>> fork();

  // A thread for guest code, traced by the calling host thread and stopped. The process keeps a
  // pointer to it until detach(), for apply() on the same host thread.
  Result<std::unique_ptr<StubThread>> attach();
  void detach(std::unique_ptr<StubThread> thread);

  // Whether it ended by itself while threads are attached. They do not end all at once, but each
  // end is told of (watch_losses): asked after the last one, it says yes.
  bool lost();
  void kill();
  pid_t leader() const { return leader_; }

 private:
  // Gives `leader` a traced leader unless the calling host thread has a thread of its own here.
  Result<StubThread*> executor(std::optional<StubThread>& leader) REQUIRES(mutex_);
  Result<pid_t> new_thread() REQUIRES(mutex_);
  Result<void> run_calls(StubThread& thread, std::span<const StubCall> calls, size_t& done)
      REQUIRES(mutex_);

  static constexpr size_t kMaxParked = 8;

  Stubs& stubs_;
  const pid_t leader_;
  // Also held while the leader is traced: only one thread can be its tracer.
  Mutex mutex_{Rank::kAddressSpace};
  RangeSet mapped_ GUARDED_BY(mutex_);
  // What the list page of the process holds.
  ListPage list_ GUARDED_BY(mutex_);
  std::vector<pid_t> parked_ GUARDED_BY(mutex_);
  std::unordered_map<std::thread::id, StubThread*> attached_ GUARDED_BY(mutex_);
};

class PtraceAddressSpace final : public AddressSpace {
 public:
  explicit PtraceAddressSpace(Ref<StubProcess> process) : process_(std::move(process)) {}
  // No guest thread runs here any more, so nothing can use a translation from now on.
  ~PtraceAddressSpace() override { process_->kill(); }

  Result<void> apply(std::span<const Op> ops) override { return process_->apply(ops); }
  const Ref<StubProcess>& process() const { return process_; }

 private:
  const Ref<StubProcess> process_;
};

}  // namespace boxrun::platform
