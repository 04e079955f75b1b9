#include "tests/unit/kernel_harness.h"

#include <chrono>
#include <thread>
#include <utility>

#include "sentry/kernel/clone.h"
#include "sentry/kernel/wait_child.h"
#include "src/base/bytes.h"
#include "src/base/check.h"

namespace boxrun::test {

using namespace kernel;

TestKernel::TestKernel(uint64_t max_tasks) {
  install_fault_handlers();
  memory =
      mm::MemoryFile::create(mm::MemoryFile::make_backing(-1).take(), uint64_t{64} << 20).take();
  kernel = Kernel::create({.platform = platform,
                           .memory_file = *memory,
                           .dispatcher = *this,
                           .loader = *this,
                           .events = *this,
                           .clock = clock,
                           .root = nullptr,
                           .max_tasks = max_tasks})
               .take();
}

TestKernel::~TestKernel() { kernel->shutdown(); }

uint64_t TestKernel::add_code(platform::FakePlatform::Program program) {
  uint64_t address = 0;
  {
    std::lock_guard lock(mutex_);
    address = next_code_ += 16;
  }
  platform.add_program(address, std::move(program));
  return address;
}

void TestKernel::add_program(const std::string& path, platform::FakePlatform::Program program) {
  const uint64_t address = add_code(std::move(program));
  std::lock_guard lock(mutex_);
  programs_[path] = address;
}

Ref<ThreadGroup> TestKernel::start(std::function<int(FakeGuest&)> body) {
  add_program("/main", platform::FakePlatform::main(std::move(body)));
  ProcessSpec spec;
  spec.program.path = "/main";
  spec.fds = make_ref<vfs::FdTable>();
  spec.fs = make_ref<vfs::FsContext>(vfs::Path{}, vfs::Path{}, 022);
  spec.cred = Credentials::create(1000, 1000, {}, CapSet{});
  Ref<ThreadGroup> process = kernel->create_process(std::move(spec)).take();
  kernel->start(*process).take();
  return process;
}

Result<uint64_t> TestKernel::dispatch(Task& task, uint64_t number,
                                      const std::array<uint64_t, 6>& args) {
  dispatched++;
  switch (number) {
    case kCall:
      return (*reinterpret_cast<const Call*>(args[0]))(task);
    case SYS_exit:
      task.exit(static_cast<int>(args[0]));
      return 0;
    case SYS_exit_group:
      task.exit_group(static_cast<int>(args[0]));
      return 0;
    case SYS_rt_sigreturn:
      task.sigreturn();
      return 0;
    case SYS_restart_syscall:
      return task.restart();
    case SYS_getpid:
      return static_cast<uint64_t>(task.tgid());
    case SYS_gettid:
      return static_cast<uint64_t>(task.tid());
    default:
      return Errno::kNoSys;
  }
}

Result<ExecImage> TestKernel::load(Task&, const ExecRequest& request) {
  uint64_t entry = 0;
  {
    std::lock_guard lock(mutex_);
    const auto at = programs_.find(request.path);
    if (at == programs_.end()) return Errno::kNoEnt;
    entry = at->second;
  }
  ExecImage image;
  image.mm = TRY(mm::MemoryManager::create(platform, *memory));
  constexpr uint64_t kStackSize = 256 << 10;
  const auto map = [&](uint64_t addr, uint64_t length) {
    mm::MapRequest area;
    area.addr = addr;
    area.length = length;
    area.prot = mm::Prot::kRead | mm::Prot::kWrite;
    area.placement = mm::MapRequest::Placement::kFixed;
    return image.mm->map(area, {});
  };
  TRY(map(kData, 64 << 10));
  TRY(map(kStackTop - kStackSize, kStackSize));
  image.registers.rip = entry;
  image.registers.rsp = kStackTop - 4096;
  image.registers.cs = 0x33;
  image.registers.ss = 0x2b;
  image.registers.eflags = 0x202;
  image.comm = request.path.substr(request.path.rfind('/') + 1);
  return image;
}

void TestKernel::stopped_by(int signo) {
  std::lock_guard lock(mutex_);
  stops_.push_back(signo);
}
void TestKernel::stopped(ThreadGroup&, int signo) { stopped_by(signo); }
void TestKernel::killed(Task&, KillReason reason) {
  std::lock_guard lock(mutex_);
  killed_.push_back(reason);
}
std::vector<KillReason> TestKernel::killed() {
  std::lock_guard lock(mutex_);
  return killed_;
}
std::vector<int> TestKernel::stops() {
  std::lock_guard lock(mutex_);
  return stops_;
}

int64_t fork(FakeGuest& guest, std::function<void(FakeGuest&)> child, uint64_t flags,
             uint64_t exit_signal) {
  return call_for_child(guest, std::move(child), [&](Task& task) -> Result<uint64_t> {
    CloneArgs args;
    args.flags = flags;
    args.exit_signal = exit_signal;
    return static_cast<uint64_t>(TRY(clone_task(task, args)));
  });
}

int64_t spawn_thread(FakeGuest& guest, std::function<void(FakeGuest&)> child,
                     uint64_t tid_address) {
  // The child has a stack of its own, far below its parent's.
  const uint64_t stack = kStackTop - 64 * 1024 - (tid_address % 4096) * 2;
  return call_for_child(guest, std::move(child), [&](Task& task) -> Result<uint64_t> {
    CloneArgs args;
    args.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                 CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    args.exit_signal = 0;
    args.stack = stack;
    args.parent_tid = args.child_tid = tid_address;
    return static_cast<uint64_t>(TRY(clone_task(task, args)));
  });
}

int64_t wait4(FakeGuest& guest, pid_t pid, int* status, int options) {
  return call(guest, [=](Task& task) -> Result<uint64_t> {
    WaitSelector selector;
    if (pid > 0) selector = {WaitSelector::Kind::kProcess, pid};
    const WaitResult result = TRY(wait_child(task, selector, options | WEXITED));
    if (status != nullptr) *status = result.wait_status;
    return static_cast<uint64_t>(result.pid);
  });
}

int64_t set_handler(FakeGuest& guest, TestKernel& kernel, int signo,
                    platform::FakePlatform::Program handler, uint64_t flags) {
  constexpr uint64_t kRestorer = 0x04000000;
  SignalAction action;
  action.handler = kernel.add_code(std::move(handler));
  action.flags = flags | kRestorer;
  action.restorer = kernel.add_code([](FakeGuest& g) { g.syscall(SYS_rt_sigreturn); });
  return call(guest, [=](Task& task) -> Result<uint64_t> {
    TRY(task.sigaction(signo, &action));
    return 0;
  });
}

int64_t ignore(FakeGuest& guest, int signo) {
  return call(guest, [=](Task& task) -> Result<uint64_t> {
    SignalAction action;
    action.handler = 1;
    TRY(task.sigaction(signo, &action));
    return 0;
  });
}

int64_t block(FakeGuest& guest, SignalSet mask) {
  return call(guest, [=](Task& task) -> Result<uint64_t> {
    task.set_signal_mask(mask);
    return 0;
  });
}

int64_t pause(FakeGuest& guest) {
  return call(guest, [](Task& task) -> Result<uint64_t> {
    task.sleeper().reset();
    while (task.sleep({}).ok()) {
    }
    return Errno::kRestartNoHand;
  });
}

bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; i++) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

}  // namespace boxrun::test
