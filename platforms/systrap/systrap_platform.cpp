#include "platforms/systrap/systrap_platform.h"

#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "platforms/systrap/filter.h"
#include "platforms/systrap/systrap_context.h"
#include "src/base/check.h"

namespace boxrun::platform {
namespace {

using namespace std::chrono_literals;

constexpr HostSyscall kHostSyscalls[] = {
    {SYS_futex, "systrap: turns of guest threads, requests to mappers"},
    {SYS_sched_yield, "systrap: turns of a guest thread on the same CPU"},
    {SYS_eventfd2, "systrap: answers of mappers"},
    {SYS_read, "systrap: answers of mappers"},
    {SYS_poll, "systrap: answers of mappers"},
    {SYS_fallocate, "systrap: slots of ended processes"},
    {SYS_tgkill, "systrap: Context::interrupt"},
    {SYS_kill, "systrap: end of an address space"},
    {SYS_wait4, "systrap: ends of stubs"},
    {SYS_waitid, "stub seed, systrap: is it alive"},
    {SYS_sched_setaffinity, "systrap: a guest thread and its host thread on one CPU"},
    {SYS_sendmsg, "stub seed: requests"},
    {SYS_recvfrom, "stub seed: replies"},
    {SYS_fstat, "stub files: identity of a donated file"},
};

constexpr uint64_t bit(int signo) { return uint64_t{1} << (signo - 1); }

// Not blocked: the doorbell, and what guest code raises itself.
constexpr uint64_t kGuestMask = ~(bit(kDoorbell) | bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) |
                                  bit(SIGILL) | bit(SIGTRAP) | bit(SIGSYS));

void fill_constants(const SystrapLayout& layout, StubConstants& constants) {
  for (size_t i = 0; i < constants.digit.size(); i++) {
    for (uint64_t d = 0; d < 16; d++) constants.digit[i][d] = d << (4 * i);
  }
  constants.done = kMapperDone;
  constants.failed = kMapperFailed;
  constants.slots = layout.slots().start;
  constants.slots_size = layout.slots().size();
  constants.guest_mask = kGuestMask;
  const std::vector<sock_filter> filter = thread_filter(layout);
  CHECK(filter.size() <= constants.thread_filter_program.size());
  std::ranges::copy(filter, constants.thread_filter_program.begin());
  constants.thread_filter = {
      static_cast<unsigned short>(filter.size()),
      reinterpret_cast<sock_filter*>(layout.constants() +
                                     offsetof(StubConstants, thread_filter_program))};
}

void fill_extra(const StubLayout& stub) {
  const SystrapLayout layout{stub};
  const auto size = static_cast<size_t>(boxrun_systrap_text_end - boxrun_systrap_text);
  CHECK(size <= kPageSize);
  auto* text = reinterpret_cast<char*>(layout.text());
  std::memset(text, 0xcc, kPageSize);  // int3
  std::memcpy(text, boxrun_systrap_text, size);
  fill_constants(layout, *new (reinterpret_cast<void*>(layout.constants())) StubConstants{});
}

uint64_t offset_of(const char* label) { return static_cast<uint64_t>(label - boxrun_systrap_text); }

bool has_fsgsbase() {
  constexpr unsigned long kFsGsBase = 2;  // HWCAP2_FSGSBASE
  return (::getauxval(AT_HWCAP2) & kFsGsBase) != 0;
}

}  // namespace

SystrapPlatform::SystrapPlatform(std::unique_ptr<Seed> seed, std::unique_ptr<ControlFile> control,
                                 int memory_file, uint64_t lowest)
    : stubs_(std::move(seed), memory_file, ::getpid()),
      systrap_(stubs_, std::move(control)),
      lowest_(lowest) {}

std::unique_ptr<SystrapPlatform> SystrapPlatform::create(int memory_file, StubError& error) {
  if (!has_fsgsbase()) {
    error = {"use the FSGSBASE instructions", Errno::kNoSys};
    return nullptr;
  }
  Result<std::unique_ptr<ControlFile>> control = ControlFile::create();
  if (!control.ok()) {
    error = {"make the file that stubs share with the Sentry", control.error()};
    return nullptr;
  }
  silence_child_stops();
  const SeedOptions options{
      .memory_file = memory_file,
      .control_file = (*control)->fd(),
      .pages = kSystrapPages,
      .filter = [](const StubLayout& stub) { return process_filter(SystrapLayout{stub}); },
      .fill_extra = fill_extra,
      .signal_handler = offset_of(boxrun_systrap_handler),
      .signal_restorer = offset_of(boxrun_systrap_restorer),
  };
  std::unique_ptr<Seed> seed = Seed::create(options, error);
  if (seed == nullptr) return nullptr;
  std::unique_ptr<SystrapPlatform> platform(new SystrapPlatform(
      std::move(seed), std::move(control).take(), memory_file, lowest_user_address()));
  if (!platform->prove(error)) return nullptr;
  return platform;
}

// What ended processes leave goes back to systrap_, which is younger than stubs_.
SystrapPlatform::~SystrapPlatform() {
  {
    Lock lock(mutex_);
    proven_ = nullptr;
  }
  stubs_.bury_all();
}

bool SystrapPlatform::prove(StubError& error) {
  const char* step = "fork a stub";
  const auto attempt = [&]() -> Result<void> {
    Ref<GuestProcess> process = TRY(GuestProcess::create(systrap_));
    step = "start a guest thread in a stub";
    const SystrapThread thread = TRY(process->attach());
    step = "trap a system call of a stub";
    ThreadSlot& slot = process->slot(thread);
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    slot.sentry_sleeps.store(1);
    while (slot.state.load() == kSlotRunning && std::chrono::steady_clock::now() < deadline) {
      futex_wait(slot.state, kSlotRunning, deadline, FutexScope::kShared);
    }
    if (slot.state.load() != kSlotStopped || slot.signal != SIGSYS) return Errno::kNoSys;
    process->detach(thread);
    Lock lock(mutex_);
    proven_ = std::move(process);
    return {};
  };
  const Result<void> result = attempt();
  if (!result.ok()) error = {step, result.error()};
  return result.ok();
}

Range SystrapPlatform::user_addresses() const { return {lowest_, systrap_.layout.slots().start}; }

Result<std::unique_ptr<AddressSpace>> SystrapPlatform::new_address_space(AddressSpace* like) {
  Ref<GuestProcess> process;
  if (like != nullptr) {
    process = TRY(static_cast<SystrapAddressSpace*>(like)->process()->fork());
  } else {
    Lock lock(mutex_);
    std::swap(process, proven_);
  }
  if (!process) process = TRY(GuestProcess::create(systrap_));
  return std::unique_ptr<AddressSpace>(new SystrapAddressSpace(std::move(process)));
}

Result<std::unique_ptr<Context>> SystrapPlatform::new_context() {
  return std::unique_ptr<Context>(new SystrapContext(placement_, systrap_.stops));
}

std::span<const HostSyscall> SystrapPlatform::host_syscalls() const { return kHostSyscalls; }

std::vector<Counter> SystrapPlatform::counters() const {
  std::vector<Counter> counters = systrap_.stops.counters();
  counters.push_back({"pairs set apart", placement_.separations()});
  counters.push_back({"call sites patched", systrap_.patched_sites.load()});
  counters.push_back({"mapping requests", systrap_.mapping_requests.load()});
  return counters;
}

}  // namespace boxrun::platform
