#pragma once
#include <array>
#include <cstdint>
#include <utility>

#include "sentry/fs/pipe.h"
#include "sentry/kernel/kernel.h"
#include "sentry/net/inet_system.h"
#include "sentry/net/unix_system.h"
#include "sentry/syscalls/table.h"
#include "sentry/vfs/caller.h"
#include "sentry/vfs/file_lock.h"

namespace boxrun::policy {
class LimitWatch;
class Policy;
class ViolationLog;
}  // namespace boxrun::policy
namespace boxrun::trace {
class CallTimes;
class Tracer;
}  // namespace boxrun::trace

namespace boxrun::syscalls {

// What handlers need and the kernel does not have. Borrowed; everything outlives the dispatcher.
struct Services {
  vfs::SpecialFiles& special_files;
  vfs::LockWaits& lock_waits;
  const fs::PipeSystem& pipes;
  Ref<vfs::Mount> memfd_mount;  // of a TmpFs that is in no namespace
  Ref<net::UnixSystem> unix_sockets;
  Ref<net::InetSystem> inet_sockets;
  const policy::Policy& policy;
  policy::ViolationLog& violations;
  policy::LimitWatch* limits = nullptr;  // null: no limits to report
  trace::Tracer* tracer = nullptr;       // null: nobody traces
  trace::CallTimes* times = nullptr;     // null: nobody counts
};

// From number to handler: the policy's verdict at one choke point, tracing around it, then the row
// of the table. Stateless but for its services, so tasks share it.
class Dispatcher final : public kernel::SyscallDispatcher {
 public:
  explicit Dispatcher(Services services) : services_(std::move(services)) {}

  Result<uint64_t> dispatch(Task& task, uint64_t number,
                            const std::array<uint64_t, 6>& args) override;
  void foreign_call(Task& task, platform::Arch arch, uint64_t number) override;

  const Services& services() const { return services_; }

 private:
  Result<uint64_t> answer(Task& task, const Frame& frame);
  Result<uint64_t> traced(Task& task, Frame frame);
  Result<uint64_t> watched(Task& task, const Frame& frame);

  const Services services_;
};

// The services of the sandbox that `task` lives in. Only handlers call it: their kernel's
// dispatcher is always a Dispatcher.
const Services& services_of(Task& task);

}  // namespace boxrun::syscalls
