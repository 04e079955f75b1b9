#pragma once
#include <atomic>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "sentry/fs/file_data.h"
#include "sentry/fs/host_file.h"
#include "sentry/mm/memory_file.h"
#include "sentry/policy/violation_log.h"
#include "src/base/ref.h"

namespace boxrun::policy {

// The sandbox's limits that make a system call fail, in bytes, files and tasks. Zero: none.
struct CallLimits {
  uint64_t open_files = 0;
  uint64_t file_size = 0;
  uint64_t processes = 0;
  uint64_t output = 0;
};

// The limit on what is written to the caller's streams: a write that exceeds it is cut, the next
// one fails with EFBIG. Thread-safe.
class StreamMeter final : public fs::OutputMeter {
 public:
  explicit StreamMeter(uint64_t limit) : limit_(limit) {}
  Result<size_t> admit(size_t bytes) override;
  const RefusalMark& refusal() const { return refusal_; }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_{0};
  const RefusalMark refusal_;
};

// Tells a call that failed for a limit of the sandbox from one that failed for the guest's own
// doing or the host's. Limits are enforced deep inside, under locks and without a task at hand;
// there they only mark the call, and the dispatcher asks here when it has failed.
// Filled before the first task runs; asking is thread-safe.
class LimitWatch {
 public:
  // `memory` is borrowed.
  LimitWatch(CallLimits limits, mm::MemoryFile& memory)
      : limits_(limits), memory_(memory), meter_(limits.output) {}

  StreamMeter& meter() { return meter_; }
  // Of a file system whose limit is the sandbox's; `kind` names the limit.
  void add(report::Kind kind, Ref<fs::SpaceQuota> quota) {
    quotas_.emplace_back(kind, std::move(quota));
  }

  // What to record when a call of `task` ended with `error`: kind, target and error are set. None
  // when no limit of the sandbox is to blame.
  std::optional<Violation> explain(kernel::Task& task, Errno error);
  // What to record when a process was killed because there was no memory for a page it touched.
  Violation killed_for_memory();

 private:
  std::optional<Violation> explain_big_write(kernel::Task& task);
  std::optional<Violation> explain_no_memory(Errno error);
  std::optional<Violation> explain_full_disk();
  std::optional<Violation> explain_full_file_system();

  const CallLimits limits_;
  mm::MemoryFile& memory_;
  StreamMeter meter_;
  std::vector<std::pair<report::Kind, Ref<fs::SpaceQuota>>> quotas_;
};

}  // namespace boxrun::policy
