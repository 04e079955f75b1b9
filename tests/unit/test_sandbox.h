// A whole sandbox but for Gofer, seal and monitor, over any platform: the tree of boot_tree without
// declared mounts, the real loader, and the real table of system calls.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "platforms/platform.h"
#include "sentry/boot_tree.h"
#include "sentry/fs/special_files.h"
#include "sentry/kernel/kernel.h"
#include "sentry/loader/program_loader.h"
#include "sentry/mm/memory_file.h"
#include "sentry/policy/policy.h"
#include "sentry/policy/violation_log.h"
#include "sentry/syscalls/dispatcher.h"
#include "sentry/time/calibrated_clock.h"
#include "sentry/trace/tracer.h"

namespace boxrun::test {

class TestSandbox final : public kernel::KernelEvents {
 public:
  struct Options {
    uint64_t memory = uint64_t{64} << 20;  // bytes
    uint64_t max_tasks = 1000;
    std::vector<sentry::BootMount> mounts;
    Ref<fs::P9Connection> gofer;  // that serves them
  };
  // `platform` outlives the sandbox; `memory` is what it was made with.
  TestSandbox(platform::Platform& platform, mm::MemoryFile::Backing memory, Options options);
  // Ends all processes. Everything that they had in the memory file must be free then.
  ~TestSandbox() override;

  // Opens as the guest's root does, who may write everywhere.
  Result<Ref<vfs::FileDescription>> open(const std::string& path, int flags, mode_t mode = 0);
  // Makes or replaces an executable file, and the directories on the way to it.
  Result<void> put(const std::string& path, std::string_view content);
  // Descriptors 0, 1 and 2 are `stream`.
  Result<Ref<kernel::ThreadGroup>> start(std::vector<std::string> argv,
                                         const Ref<vfs::FileDescription>& stream);

  Ref<vfs::FsContext> context() const;
  const Ref<Credentials>& root_user() const { return root_user_; }
  kernel::Kernel& kernel() { return *kernel_; }
  kernel::Loader& loader() { return *loader_; }
  mm::MemoryFile& memory() { return *memory_; }

  // --- KernelEvents
  void stopped(kernel::ThreadGroup&, int) override {}
  void continued(kernel::ThreadGroup&) override {}
  void killed(kernel::Task&, kernel::KillReason) override {}

 private:
  Ref<vfs::Mount> anonymous_mount(std::string_view type, uint64_t magic);
  void make_tree(Options options);
  void make_dispatcher();

  const std::unique_ptr<mm::MemoryFile> memory_;
  const std::unique_ptr<loader::VdsoPages> vdso_;
  const uint64_t used_at_start_;
  CalibratedClock clock_;
  policy::ViolationLog violations_;
  policy::Policy policy_;
  vfs::AnonymousDevices devices_;
  vfs::LockWaits lock_waits_;
  std::unique_ptr<fs::DeviceFiles> special_files_;
  sentry::Tree tree_;
  std::unique_ptr<trace::Tracer> tracer_;  // to stderr with BOXRUN_TEST_TRACE in the environment
  std::unique_ptr<syscalls::Dispatcher> dispatcher_;
  std::unique_ptr<loader::ProgramLoader> loader_;
  const Ref<Credentials> root_user_;
  std::unique_ptr<kernel::Kernel> kernel_;
};

}  // namespace boxrun::test
