// The monitor: watches the processes of one sandbox until the target has ended, passes signals on,
// keeps the time limit, collects the report as it streams in, and says how it ended.
#pragma once
#include <sys/resource.h>

#include <chrono>
#include <string>

#include "src/base/failure.h"
#include "src/cli/launch.h"
#include "src/report/collector.h"
#include "src/report/report.h"

namespace boxrun::cli {

struct TimeLimit {
  std::chrono::nanoseconds timeout{0};     // zero: none
  std::chrono::nanoseconds kill_after{0};  // from SIGTERM to the end; zero: the end at once
};

// How a run ended.
struct Outcome {
  report::End end = report::End::kFailed;
  int code = 0;          // kExited: exit status; kSignaled: signal
  MaybeFailure failure;  // of kFailed
  // The first execve failed: with 126 or 127 as env(1) and timeout(1) do, and `failure` set.
  bool cannot_execute = false;
  host::LayerSet gofer_layers;
  host::LayerSet sentry_layers;
  std::string platform;  // that the Sentry chose; empty when it did not get so far
  std::chrono::nanoseconds duration{0};
  int target_pid = 0;  // in the sandbox; the Sentry's word, zero before the target started
  rusage usage{};      // of the target, as far as it is known
  Errno trace_error = Errno::kOk;  // of the first line of --trace that was lost
};

// Blocks until nothing of the sandbox is left.
Outcome supervise(Sandbox& sandbox, const sigset_t& forward, const TimeLimit& limit,
                  report::Collector& collector);

// The exit status of CLI.md for an outcome; `violations` is whether --fail-on was reached.
int exit_status(const Outcome& outcome, bool violations, int violation_exit_code);

}  // namespace boxrun::cli
