#pragma once
#include <array>
#include <string>

#include "src/cli/roles.h"

namespace boxrun::cli {

// Runs the sandbox, writes its reports and its --status-fd line, and returns boxrun's exit status.
// The process is sealed afterwards. `streams` is what host::occupy_standard_streams() returned;
// `home` is shown as ~ in reports.
int run_and_report(const RunSpec& spec, const KernelEntry& kernel,
                   const std::array<bool, 3>& streams, const std::string& home);

}  // namespace boxrun::cli
