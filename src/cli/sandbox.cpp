#include "src/cli/sandbox.h"

#include <fcntl.h>

#include <utility>

#include "src/cli/boot_spec.h"
#include "src/host/namespaces.h"

namespace boxrun::cli {
namespace {

// Where --trace goes: a file of the caller's, or stderr.
Result<UniqueFd> open_trace(const TraceSpec& trace) {
  if (!trace.enabled) return UniqueFd();
  if (trace.path.empty()) return own_fd(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
  return own_fd(
      ::open(trace.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666));
}

Outcome failed(Failure failure) {
  Outcome outcome;
  outcome.failure = std::move(failure);
  return outcome;
}

}  // namespace

Outcome run_sandbox(const RunSpec& spec, const KernelEntry& kernel,
                    const std::array<bool, 3>& streams, report::Collector& collector) {
  if (MaybeFailure failure = kernel.check_rules(boot_spec(spec).syscall_rules)) {
    return failed(std::move(*failure));
  }
  Result<UniqueFd> trace = open_trace(spec.trace);
  if (!trace)
    return failed({"open the trace file " + spec.trace.path, "monitor", trace.error(), ""});

  Sandbox sandbox;
  Roles roles;
  roles.gofer = [&](ProcessStart start) { return gofer_role(spec, std::move(start)); };
  roles.sentry = [&](ProcessStart start) {
    return sentry_role(spec, kernel, {std::move(*trace), streams}, std::move(start));
  };
  roles.sentry_keeps = {trace->get()};
  const sigset_t forward = block_forwarded_signals();
  if (MaybeFailure failure = launch(roles, sandbox)) return failed(std::move(*failure));
  trace->reset();
  host::LayerSet layers;
  if (MaybeFailure failure = seal_monitor(layers)) return failed(std::move(*failure));
  const TimeLimit limit = {spec.limits.timeout, spec.limits.kill_after};
  return supervise(sandbox, forward, limit, collector);
}

}  // namespace boxrun::cli
