// What the two forked processes of a sandbox do: prepare, seal themselves in the order of
// src/host/README.md, say that they are ready, work. Each returns its exit status.
#pragma once
#include <array>

#include "sentry/boot.h"
#include "src/cli/launch.h"
#include "src/cli/run_spec.h"

namespace boxrun::cli {

int gofer_role(const RunSpec& spec, ProcessStart start);

// The kernel that the Sentry runs: sentry::check_syscall_rules and sentry::run. Tests of the
// processes around it put a program in its place.
struct KernelEntry {
  MaybeFailure (*check_rules)(const std::vector<sentry::BootSyscallRule>& rules);
  MaybeFailure (*run)(sentry::BootSpec spec);
};

// What the Sentry inherits besides its sockets.
struct SentryExtras {
  UniqueFd trace_sink;
  std::array<bool, 3> streams = {true, true, true};  // BootSpec::streams
};
int sentry_role(const RunSpec& spec, const KernelEntry& kernel, SentryExtras extras,
                ProcessStart start);

}  // namespace boxrun::cli
