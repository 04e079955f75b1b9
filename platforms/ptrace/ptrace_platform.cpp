#include "platforms/ptrace/ptrace_platform.h"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "platforms/ptrace/ptrace_context.h"
#include "platforms/stub/filter.h"

namespace boxrun::platform {
namespace {

constexpr HostSyscall kHostSyscalls[] = {
    {SYS_ptrace, "ptrace: all control of stub threads"},
    {SYS_wait4, "ptrace: stops and ends of stubs"},
    {SYS_waitid, "stub seed, ptrace: is it alive"},
    {SYS_tgkill, "ptrace: Context::interrupt"},
    {SYS_process_vm_readv, "ptrace: is the leader of a stub alive"},
    {SYS_sched_yield, "ptrace: short waits for a leader"},
    {SYS_clock_nanosleep, "ptrace: longer waits for a leader"},
    {SYS_sched_setaffinity, "ptrace: a guest thread and its tracer on one CPU"},
    {SYS_kill, "ptrace: end of an address space"},
    {SYS_sendmsg, "stub seed: requests"},
    {SYS_recvfrom, "stub seed: replies"},
    {SYS_fstat, "stub files: identity of a donated file"},
    {SYS_getpid, "ptrace: parent of new stubs"},
};

}  // namespace

PtracePlatform::PtracePlatform(std::unique_ptr<Seed> seed, int memory_file, uint64_t lowest)
    : stubs_(std::move(seed), memory_file, ::getpid()), lowest_(lowest) {}

std::unique_ptr<PtracePlatform> PtracePlatform::create(int memory_file, StubError& error) {
  silence_child_stops();
  std::unique_ptr<Seed> seed =
      Seed::create({.memory_file = memory_file, .filter = stub_filter, .fill_extra = {}}, error);
  if (seed == nullptr) return nullptr;
  std::unique_ptr<PtracePlatform> platform(
      new PtracePlatform(std::move(seed), memory_file, lowest_user_address()));
  if (!platform->prove(error)) return nullptr;
  return platform;
}

bool PtracePlatform::prove(StubError& error) {
  const char* step = "fork a stub";
  const auto attempt = [&]() -> Result<void> {
    auto process = make_ref<StubProcess>(stubs_, TRY(stubs_.seed->fork()));
    step = "trace a stub";
    std::unique_ptr<StubThread> thread = TRY(process->attach());
    const auto prove_thread = [&]() -> Result<void> {
      step = "trap a system call of a stub";
      Registers registers = TRY(thread->registers());
      registers.rip = stubs_.seed->layout().address_of(boxrun_stub_call);
      registers.rax = SYS_getppid;
      registers.orig_rax = UINT64_MAX;
      TRY(thread->set_registers(registers));
      const int status = TRY(thread->resume_guest());
      if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80)) return Errno::kNoSys;
      step = "decode a system call of a stub (Linux 5.3)";
      if (TRY(thread->syscall_stop()).number != SYS_getppid) return Errno::kNoSys;
      step = "save the vector registers of a stub";
      std::vector<std::byte> xstate(host_xstate_size());
      TRY(thread->get_xstate(xstate));
      return thread->set_xstate(xstate);
    };
    const Result<void> proof = prove_thread();
    process->detach(std::move(thread));
    TRY(Result<void>(proof));
    Lock lock(mutex_);
    proven_ = std::move(process);
    return {};
  };
  const Result<void> result = attempt();
  if (!result.ok()) error = {step, result.error()};
  return result.ok();
}

Range PtracePlatform::user_addresses() const { return {lowest_, stubs_.seed->layout().base}; }

Result<std::unique_ptr<AddressSpace>> PtracePlatform::new_address_space(AddressSpace* like) {
  if (like != nullptr) {
    auto process = TRY(static_cast<PtraceAddressSpace*>(like)->process()->fork());
    return std::unique_ptr<AddressSpace>(new PtraceAddressSpace(std::move(process)));
  }
  Ref<StubProcess> process;
  {
    Lock lock(mutex_);
    std::swap(process, proven_);
  }
  if (!process) process = make_ref<StubProcess>(stubs_, TRY(stubs_.seed->fork()));
  return std::unique_ptr<AddressSpace>(new PtraceAddressSpace(std::move(process)));
}

Result<std::unique_ptr<Context>> PtracePlatform::new_context() {
  return std::unique_ptr<Context>(new PtraceContext(placement_));
}

std::span<const HostSyscall> PtracePlatform::host_syscalls() const { return kHostSyscalls; }

}  // namespace boxrun::platform
