#include "sentry/policy/limit_watch.h"

#include <sys/resource.h>

#include <algorithm>
#include <string>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"

namespace boxrun::policy {
namespace {

Violation limit_met(report::Kind kind, uint64_t limit, Errno error) {
  Violation violation;
  violation.kind = kind;
  violation.error = error;
  violation.target = std::to_string(limit);
  return violation;
}

// A process may lower its own limit; then its error is its own affair.
bool is_sandbox_limit(kernel::Task& task, int resource, uint64_t limit) {
  return limit != 0 && task.group().limits().soft(resource) == limit;
}

}  // namespace

Result<size_t> StreamMeter::admit(size_t bytes) {
  if (limit_ == 0) return bytes;
  uint64_t used = used_.load(std::memory_order_relaxed);
  size_t granted = 0;
  do {
    granted = static_cast<size_t>(std::min<uint64_t>(bytes, limit_ - used));
    if (granted == 0 && bytes > 0) {
      refusal_.set();
      return Errno::kFBig;
    }
  } while (!used_.compare_exchange_weak(used, used + granted, std::memory_order_relaxed));
  return granted;
}

std::optional<Violation> LimitWatch::explain_big_write(kernel::Task& task) {
  if (meter_.refusal().take()) {
    return limit_met(report::Kind::kLimitOutput, limits_.output, Errno::kFBig);
  }
  if (!is_sandbox_limit(task, RLIMIT_FSIZE, limits_.file_size)) return std::nullopt;
  return limit_met(report::Kind::kLimitFileSize, limits_.file_size, Errno::kFBig);
}

std::optional<Violation> LimitWatch::explain_no_memory(Errno error) {
  if (!memory_.refusal(mm::Storage::kMemory).take()) return std::nullopt;
  return limit_met(report::Kind::kLimitMemory, memory_.limit(), error);
}

std::optional<Violation> LimitWatch::explain_full_file_system() {
  for (const auto& [kind, quota] : quotas_) {
    if (!quota->refusal().take()) continue;
    return limit_met(kind, quota->limit(), Errno::kNoSpc);
  }
  if (auto violation = explain_full_disk()) return violation;
  return explain_no_memory(Errno::kNoSpc);
}

std::optional<Violation> LimitWatch::explain_full_disk() {
  if (!memory_.refusal(mm::Storage::kDisk).take()) return std::nullopt;
  Violation violation =
      limit_met(report::Kind::kLimitOverlaySize, memory_.limit(mm::Storage::kDisk), Errno::kNoSpc);
  violation.detail = "the disk that keeps the changes is full";
  return violation;
}

Violation LimitWatch::killed_for_memory() {
  Violation violation = limit_met(report::Kind::kLimitMemory, memory_.limit(), Errno::kNoMem);
  violation.verdict = report::Verdict::kKilled;
  violation.detail = "out of memory";
  return violation;
}

std::optional<Violation> LimitWatch::explain(kernel::Task& task, Errno error) {
  switch (error) {
    case Errno::kMFile:
      if (!is_sandbox_limit(task, RLIMIT_NOFILE, limits_.open_files)) return std::nullopt;
      return limit_met(report::Kind::kLimitOpenFiles, limits_.open_files, error);
    case Errno::kFBig:
      return explain_big_write(task);
    case Errno::kNoSpc:
      return explain_full_file_system();
    case Errno::kNoMem:
    case Errno::kNFile:  // a pipe without room for its buffer
    case Errno::kFault:  // also what a buffer comes to that there is no memory for
      return explain_no_memory(error);
    case Errno::kAgain:
      if (limits_.processes == 0 || !task.kernel().refused_task().take()) return std::nullopt;
      return limit_met(report::Kind::kLimitProcesses, limits_.processes, error);
    default:
      return std::nullopt;
  }
}

}  // namespace boxrun::policy
