#pragma once
#include <array>

#include "src/cli/roles.h"
#include "src/cli/supervise.h"

namespace boxrun::cli {

// Runs one sandbox from its first fork to the end of its last process. The calling process is
// single-threaded and becomes its monitor: afterwards it is sealed and can only write reports to
// files that are open already. `streams` is what host::occupy_standard_streams() returned.
Outcome run_sandbox(const RunSpec& spec, const KernelEntry& kernel,
                    const std::array<bool, 3>& streams, report::Collector& collector);

}  // namespace boxrun::cli
