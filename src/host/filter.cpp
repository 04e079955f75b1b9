#include "src/host/filter.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/host/filter_program.h"

namespace boxrun::host {

std::string_view process_name(ProcessKind kind) {
  switch (kind) {
    case ProcessKind::kMonitor:
      return "monitor";
    case ProcessKind::kGofer:
      return "gofer";
    case ProcessKind::kSentry:
      return "sentry";
  }
  return "process";
}

std::vector<FilterRow> all_rows(ProcessKind kind, std::span<const FilterRow> extra) {
  std::vector<FilterRow> rows = rows_of(kind);
  rows.insert(rows.end(), extra.begin(), extra.end());
  return rows;
}

MaybeFailure install_filter(std::span<const FilterRow> rows) {
  const auto failure = [](Errno error) {
    return Failure{"install the seccomp filter", "seccomp filter", error,
                   "needs Linux 4.17 with CONFIG_SECCOMP_FILTER"};
  };
  std::vector<sock_filter> instructions = compile_filter(rows);
  if (instructions.size() > BPF_MAXINSNS) return failure(Errno::k2Big);
  const sock_fprog program = {static_cast<unsigned short>(instructions.size()),
                              instructions.data()};
  // All threads at once. Our own code runs under it, not the guest's: store bypass may stay on.
  constexpr unsigned kFlags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  const long result = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, kFlags, &program);
  if (result < 0) return failure(last_error());
  // A thread that has a filter of its own, which no thread of ours does.
  if (result > 0) return failure(Errno::kBusy);
  return std::nullopt;
}

}  // namespace boxrun::host
