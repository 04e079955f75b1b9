#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "sentry/time/clock.h"
#include "src/base/fd.h"
#include "src/base/sync.h"
#include "src/report/record.h"
#include "src/report/wire.h"

namespace boxrun::kernel {
class Task;
}

namespace boxrun::policy {

// What is known where a violation happens; the log adds the process, its ancestors and the time.
struct Violation {
  report::Kind kind{};
  report::Verdict verdict = report::Verdict::kDenied;
  Errno error = Errno::kOk;
  std::string target;
  std::string detail;
  std::string grant;
  std::string syscall;
  std::string call;
  std::string rule;
};

// Collects what the target tried and was refused. A first sighting is sent to the monitor at once,
// so that it survives the Sentry; repetitions only count, and the counts follow at intervals and at
// the end. Memory is bounded: beyond kMaxRecords different violations only their number is known.
// Thread-safe; never called with a lock held.
class ViolationLog {
 public:
  static constexpr size_t kMaxRecords = 4096;

  // `socket` is the monitor's SEQPACKET socket; none: nothing is sent (tests).
  ViolationLog(UniqueFd socket, const Clock& clock) : socket_(std::move(socket)), clock_(clock) {}

  // `task` is null for what no task of the guest did.
  void record(kernel::Task* task, Violation violation) EXCLUDES(mutex_);
  // Sends the counts that the monitor does not have yet.
  void flush() EXCLUDES(mutex_);
  // One file that the guest changed, for the report; at the end.
  void send_change(report::Change change) EXCLUDES(mutex_);
  void send_statistic(report::Statistic statistic) EXCLUDES(mutex_);
  // How many violations there were, repetitions included.
  uint64_t total() const EXCLUDES(mutex_);

 private:
  // The last: the target, or the call where there is none.
  using Key = std::tuple<report::Kind, report::Verdict, std::string, std::string>;
  struct Seen {
    uint32_t id;
    uint64_t count;
    uint64_t sent;
  };
  void flush_locked() REQUIRES(mutex_);
  void send_locked(const std::vector<std::byte>& packet) REQUIRES(mutex_);

  const UniqueFd socket_;
  const Clock& clock_;
  mutable Mutex mutex_{Rank::kViolationLog};
  std::map<Key, Seen> seen_ GUARDED_BY(mutex_);
  uint64_t unrecorded_ GUARDED_BY(mutex_) = 0;
  uint64_t unrecorded_sent_ GUARDED_BY(mutex_) = 0;
  uint64_t total_ GUARDED_BY(mutex_) = 0;
  std::chrono::steady_clock::time_point last_flush_ GUARDED_BY(mutex_){};
};

}  // namespace boxrun::policy
