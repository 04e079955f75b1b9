#include "platforms/systrap/guest_process.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <optional>

namespace boxrun::platform {
namespace {

// Everything of a stub process that is given back once the host has torn it down.
struct Remains {
  Systrap& systrap;
  uint32_t page;
  std::vector<uint32_t> slots;
  AnswerFd answer;
  std::optional<CallPatches> patches;

  void give_back() {
    patches.reset();
    systrap.control->free_page(page);
    for (const uint32_t slot : slots) systrap.control->free_slot(slot);
    systrap.answers.give_back(std::move(answer));
  }
};

bool thread_ended(pid_t process, pid_t thread) {
  return ::syscall(SYS_tgkill, process, thread, 0) != 0 && errno == ESRCH;
}

}  // namespace

Result<Ref<GuestProcess>> GuestProcess::prepare(Systrap& systrap, RangeSet mapped,
                                                CallPatches patches) {
  AnswerFd answer = TRY(systrap.answers.take());
  Result<uint32_t> page = systrap.control->new_page();
  if (!page.ok()) {
    systrap.answers.give_back(std::move(answer));
    return page.error();
  }
  return adopt_ref(
      new GuestProcess(systrap, *page, std::move(answer), std::move(mapped), std::move(patches)));
}

Result<Ref<GuestProcess>> GuestProcess::create(Systrap& systrap) {
  Ref<GuestProcess> process = TRY(prepare(systrap, {}, CallPatches(systrap.layout)));
  process->process_ = TRY(systrap.stubs.seed->fork_mapper(process->page_));
  return process;
}

Result<Ref<GuestProcess>> GuestProcess::fork() {
  if (systrap_.abandoned.load() >= kMaxAbandoned) return Errno::kAgain;
  Lock lock(mutex_);
  Ref<GuestProcess> child = TRY(prepare(systrap_, mapped_, patches_));
  const StubCall clone{SYS_clone,
                       {kCloneProcess, 0, 0, 0, 0, ControlFile::page_offset(child->page_)}};
  const Mapper::Answer answer = mapper_.run(process_, {&clone, 1});
  if (answer.error == Errno::kSrch) child->abandon();
  if (answer.error != Errno::kOk) return answer.error;
  child->process_ = static_cast<pid_t>(answer.value);
  return child;
}

// The parent was killed while it forked: there may be a child whose process id nobody told us. It
// is asked to end, and what it may have mapped is nobody else's from now on.
void GuestProcess::abandon() {
  abandoned_ = true;
  systrap_.abandoned++;
  const StubCall end{SYS_exit_group, {}};
  mapper_.post({&end, 1});
}

GuestProcess::~GuestProcess() {
  if (abandoned_) {
    // Stays open: its number in the stubs' table must not become another's.
    (void)mapper_.take_answer_fd().fd.release();
    Lock lock(systrap_.mutex);
    systrap_.abandoned_code.push_back(std::move(patches_));
    return;
  }
  auto remains = std::make_shared<Remains>(
      Remains{systrap_, page_, std::move(slots_), mapper_.take_answer_fd(), std::move(patches_)});
  if (process_ == 0) {
    remains->give_back();
    return;
  }
  kill();
  systrap_.stubs.bury(process_, [remains] { remains->give_back(); });
}

// Its first thread stays a zombie at least until ~GuestProcess, so its id cannot be anybody else's.
void GuestProcess::kill() {
  if (process_ > 0) ::kill(process_, SIGKILL);
}

Result<void> GuestProcess::apply(std::span<const Op> ops) {
  if (ops.empty()) return lost() ? Errno::kSrch : Errno::kOk;
  // Outlives the lock: the files are given back after it.
  MappingCalls plan;
  Lock lock(mutex_);
  TRY(make_way(ops));
  plan = plan_mapping_calls(ops, mapped_, systrap_.stubs.files);
  const Mapper::Answer answer = run_mapping_calls(plan.calls);
  if (answer.error != Errno::kOk) return answer.error;
  return plan.error;
}

Mapper::Answer GuestProcess::run_mapping_calls(std::span<const StubCall> calls) {
  systrap_.mapping_requests.fetch_add(1, std::memory_order_relaxed);
  const Mapper::Answer answer = mapper_.run(process_, calls);
  note_mapping_calls(calls.first(answer.done), mapped_);
  patches_.unmapped(calls.first(answer.done));
  return answer;
}

Result<void> GuestProcess::make_way(std::span<const Op> ops) {
  const std::vector<StubCall> calls = patches_.make_way(ops);
  if (calls.empty()) return {};
  return run_mapping_calls(calls).error;
}

Result<void> GuestProcess::restore(Range guest) {
  const Op op = Op::protect(guest, Prot::kNone);
  Lock lock(mutex_);
  return make_way({&op, 1});
}

void GuestProcess::improve(const AddressSpace::CallSite& site) {
  Lock lock(mutex_);
  const std::vector<StubCall> calls = patches_.plan(*systrap_.control, site);
  if (calls.empty()) return;
  const Mapper::Answer answer = mapper_.run(process_, calls);
  note_mapping_calls(std::span(calls).first(answer.done), mapped_);
  patches_.done(std::span(calls).first(answer.done));
  if (answer.error == Errno::kOk) systrap_.patched_sites.fetch_add(1, std::memory_order_relaxed);
}

Result<SystrapThread> GuestProcess::attach() {
  Lock lock(mutex_);
  if (lost_) return Errno::kSrch;
  if (parked_.empty()) return new_thread();
  const SystrapThread thread = parked_.back();
  parked_.pop_back();
  return thread;
}

Result<SystrapThread> GuestProcess::new_thread() {
  SystrapThread thread;
  std::vector<StubCall> calls;
  // Guest code can say so, too: the host has the last word.
  const auto ended = std::ranges::find_if(ending_, [this](const SystrapThread& t) {
    return slot(t).state.load() == kSlotDead && thread_ended(process_, t.thread);
  });
  if (ended != ending_.end()) {
    thread = *ended;
    ending_.erase(ended);
  } else {
    thread.slot = TRY(systrap_.control->new_slot());
    slots_.push_back(thread.slot);
    thread.address = systrap_.layout.slots().start + uint64_t{thread.slot} * ThreadSlot::kSize;
    calls.push_back({SYS_mmap,
                     {thread.address, ThreadSlot::kSize, PROT_READ | PROT_WRITE, kGuestMapFlags,
                      kStubControlFd, ControlFile::slot_offset(thread.slot)}});
  }
  ThreadSlot& shared = slot(thread);
  shared.stack = {thread.address + ThreadSlot::kStackOffset, 0,
                  ThreadSlot::kSize - ThreadSlot::kStackOffset};
  shared.noted = shared.set_bases = shared.looks = shared.give_all = shared.signal = 0;
  shared.sentry_sleeps.store(0);
  shared.stub_sleeps.store(0);
  shared.state.store(kSlotRunning);
  calls.push_back({SYS_clone, {kCloneThread, 0, 0, 0, 0, thread.address}});
  const Mapper::Answer answer = mapper_.run(process_, calls);
  if (answer.error != Errno::kOk) return answer.error;
  thread.thread = static_cast<pid_t>(answer.value);
  return thread;
}

void GuestProcess::detach(const SystrapThread& thread) {
  Lock lock(mutex_);
  ThreadSlot& shared = slot(thread);
  // Threads of ours do not end of themselves, and end when they are told to.
  if (shared.state.load() == kSlotDead || ending_.size() >= kMaxEnding) kill();
  if (parked_.size() < kMaxParked) {
    parked_.push_back(thread);
    return;
  }
  ending_.push_back(thread);
  shared.state.store(kSlotExit);
  futex_wake(&shared.state, 1, FutexScope::kShared);
}

bool GuestProcess::lost() {
  Lock lock(mutex_);
  if (!lost_ && process_ended(process_)) {
    lost_ = true;
    // No thread of the process is left to store anything else.
    for (const uint32_t number : slots_) {
      ThreadSlot& shared = systrap_.control->slot(number);
      shared.state.store(kSlotDead);
      futex_wake(&shared.state, 1, FutexScope::kShared);
    }
  }
  return lost_;
}

}  // namespace boxrun::platform
