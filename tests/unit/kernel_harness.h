// A kernel with the fake platform below it and, above it, a dispatcher that runs C++ functions on
// the calling task's thread: tests of the kernel call its interfaces as system call handlers do.
#pragma once
#include <sys/syscall.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "platforms/fake/fake_platform.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/signals.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/memory_file.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/mount.h"

namespace boxrun::test {

using kernel::Task;
using platform::FakeGuest;
using Call = std::function<Result<uint64_t>(Task&)>;

inline constexpr uint64_t kCall = 5000;            // syscall number of call()
inline constexpr uint64_t kData = 0x10000000;      // 64 KiB, readable and writable
inline constexpr uint64_t kStackTop = 0x20000000;  // of 256 KiB
inline constexpr uint64_t kEntry = 0x400000;

// Runs `function` as a system call of the guest.
inline int64_t call(FakeGuest& guest, const Call& function) {
  return guest.syscall(kCall, reinterpret_cast<uint64_t>(&function));
}
// The same for clones: `child` is what the child runs.
inline int64_t call_for_child(FakeGuest& guest, std::function<void(FakeGuest&)> child,
                              const Call& function) {
  return guest.syscall_for_child(std::move(child), kCall, reinterpret_cast<uint64_t>(&function));
}

class TestKernel final : public kernel::SyscallDispatcher,
                         public kernel::Loader,
                         public kernel::KernelEvents {
 public:
  explicit TestKernel(uint64_t max_tasks = 1000);
  ~TestKernel() override;

  // Makes code reachable under a new address (handlers) or under a path (programs).
  uint64_t add_code(platform::FakePlatform::Program program);
  void add_program(const std::string& path, platform::FakePlatform::Program program);

  // Starts `body` as a process; its return value is the exit code.
  Ref<kernel::ThreadGroup> start(std::function<int(FakeGuest&)> body);
  // The wait status of such a process once it has ended.
  int wait(kernel::ThreadGroup& process) { return kernel->wait(process).status; }
  int run(std::function<int(FakeGuest&)> body) { return wait(*start(std::move(body))); }

  std::vector<kernel::KillReason> killed();
  std::vector<int> stops();  // signal of each stop of a started process, 0 for a continuation

  // --- interfaces of the kernel
  Result<uint64_t> dispatch(Task& task, uint64_t number,
                            const std::array<uint64_t, 6>& args) override;
  void foreign_call(Task&, platform::Arch, uint64_t) override { foreign_calls++; }
  Result<kernel::ExecImage> load(Task& task, const kernel::ExecRequest& request) override;
  void stopped(kernel::ThreadGroup&, int signo) override;
  void continued(kernel::ThreadGroup&) override { stopped_by(0); }
  void killed(Task&, kernel::KillReason reason) override;

  platform::FakePlatform platform;
  Clock clock;
  std::unique_ptr<mm::MemoryFile> memory;
  std::unique_ptr<kernel::Kernel> kernel;
  std::atomic<int> foreign_calls{0};
  std::atomic<int> dispatched{0};

 private:
  void stopped_by(int signo);
  std::mutex mutex_;
  uint64_t next_code_ = kEntry;
  std::map<std::string, uint64_t> programs_;
  std::vector<kernel::KillReason> killed_;
  std::vector<int> stops_;
};

// Guest-side shorthands.
int64_t fork(FakeGuest& guest, std::function<void(FakeGuest&)> child, uint64_t flags = 0,
             uint64_t exit_signal = SIGCHLD);
int64_t spawn_thread(FakeGuest& guest, std::function<void(FakeGuest&)> child, uint64_t tid_address);
// wait4: the pid or -errno; the wait status goes to *status.
int64_t wait4(FakeGuest& guest, pid_t pid, int* status = nullptr, int options = 0);
int64_t set_handler(FakeGuest& guest, TestKernel& kernel, int signo,
                    platform::FakePlatform::Program handler, uint64_t flags = 0);
int64_t ignore(FakeGuest& guest, int signo);
int64_t block(FakeGuest& guest, kernel::SignalSet mask);
int64_t pause(FakeGuest& guest);

// Waits, without a guest, until `condition` holds; false after ten seconds.
bool eventually(const std::function<bool()>& condition);

}  // namespace boxrun::test
