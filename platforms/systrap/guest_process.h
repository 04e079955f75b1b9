#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "platforms/platform.h"
#include "platforms/stub/mapping_calls.h"
#include "platforms/systrap/call_patches.h"
#include "platforms/systrap/mapper.h"
#include "platforms/systrap/stop_counts.h"
#include "src/base/ref.h"

namespace boxrun::platform {

// What all guest processes of one systrap platform share. Outlives them.
struct Systrap {
  Systrap(Stubs& s, std::unique_ptr<ControlFile> file)
      : stubs(s), layout{s.seed->layout()}, control(std::move(file)), answers(*s.seed) {}
  Stubs& stubs;
  const SystrapLayout layout;
  const std::unique_ptr<ControlFile> control;
  AnswerFds answers;
  StopTotals stops;
  std::atomic<uint64_t> mapping_requests = 0;
  std::atomic<uint64_t> patched_sites = 0;
  // Of mapper pages that may have an owner we know nothing of, see GuestProcess::fork(): how many,
  // and what else that owner may have mapped.
  std::atomic<int> abandoned = 0;
  Mutex mutex{Rank::kStubFiles};
  std::vector<CallPatches> abandoned_code GUARDED_BY(mutex);
};

// A thread of a stub process for guest code, and the slot through which it is served.
struct SystrapThread {
  uint32_t slot = 0;     // in the control file
  uint64_t address = 0;  // of the slot in the stub
  pid_t thread = 0;
};

// One stub process: the host side of an address space. Its first thread is the mapper, every other
// serves one Context, or is parked and free for the next one. Shared by the AddressSpace and the
// Contexts bound to it; thread-safe.
class GuestProcess final : public RefCounted {
 public:
  static Result<Ref<GuestProcess>> create(Systrap& systrap);
  ~GuestProcess() override;

  Result<void> apply(std::span<const Op> ops);
  void improve(const AddressSpace::CallSite& site);
  Result<void> restore(Range guest);
  // A copy with the same mappings.
  Result<Ref<GuestProcess>> fork();

  // A thread that runs no guest code and waits for registers.
  Result<SystrapThread> attach();
  // A thread that stopped: kept for the next attach(), or ended.
  void detach(const SystrapThread& thread);

  // Whether the process has ended by itself; then everybody who waits for one of its threads wakes.
  bool lost();
  void kill();
  pid_t process() const { return process_; }
  ThreadSlot& slot(const SystrapThread& thread) const {
    return systrap_.control->slot(thread.slot);
  }
  std::byte* slot_bytes(const SystrapThread& thread) const {
    return systrap_.control->slot_bytes(thread.slot);
  }
  const SystrapLayout& layout() const { return systrap_.layout; }

 private:
  GuestProcess(Systrap& systrap, uint32_t page, AnswerFd answer, RangeSet mapped,
               CallPatches patches)
      : systrap_(systrap),
        page_(page),
        mapper_(*systrap.control, page, std::move(answer)),
        mapped_(std::move(mapped)),
        patches_(std::move(patches)) {}
  static Result<Ref<GuestProcess>> prepare(Systrap& systrap, RangeSet mapped, CallPatches patches);
  Mapper::Answer run_mapping_calls(std::span<const StubCall> calls) REQUIRES(mutex_);
  Result<void> make_way(std::span<const Op> ops) REQUIRES(mutex_);
  Result<SystrapThread> new_thread() REQUIRES(mutex_);

  // Of an object that nobody else has.
  void abandon() NO_THREAD_SAFETY_ANALYSIS;

  static constexpr size_t kMaxParked = 8;
  static constexpr size_t kMaxEnding = 4096;
  static constexpr int kMaxAbandoned = 64;

  Systrap& systrap_;
  const uint32_t page_;  // of the mapper
  pid_t process_ = 0;    // constant once it was made
  bool abandoned_ = false;
  Mutex mutex_{Rank::kAddressSpace};
  Mapper mapper_ GUARDED_BY(mutex_);
  RangeSet mapped_ GUARDED_BY(mutex_);
  CallPatches patches_ GUARDED_BY(mutex_);
  bool lost_ GUARDED_BY(mutex_) = false;
  std::vector<SystrapThread> parked_ GUARDED_BY(mutex_);
  std::vector<SystrapThread> ending_ GUARDED_BY(mutex_);  // told to end; their slots are used again
  std::vector<uint32_t> slots_ GUARDED_BY(mutex_);        // all that the process maps
};

class SystrapAddressSpace final : public AddressSpace {
 public:
  explicit SystrapAddressSpace(Ref<GuestProcess> process) : process_(std::move(process)) {}
  // No guest thread runs here any more, so nothing can use a translation from now on.
  ~SystrapAddressSpace() override { process_->kill(); }

  Result<void> apply(std::span<const Op> ops) override { return process_->apply(ops); }
  void improve(const CallSite& site) override { process_->improve(site); }
  Result<void> restore(Range guest) override { return process_->restore(guest); }
  const Ref<GuestProcess>& process() const { return process_; }

 private:
  const Ref<GuestProcess> process_;
};

}  // namespace boxrun::platform
