#pragma once
#include <array>
#include <string>
#include <string_view>

#include "src/cli/roles.h"

namespace boxrun::cli {

// Runs the sandbox, writes its reports and its --status-fd line, and returns boxrun's exit status.
// The process is sealed afterwards. `streams` is what host::occupy_standard_streams() returned;
// `home` is shown as ~ in reports.
int run_and_report(const RunSpec& spec, const KernelEntry& kernel,
                   const std::array<bool, 3>& streams, const std::string& home);

// The --status-fd line of a run: `source` decided (target, boxrun, timeout, policy), `more` is what
// else is known, as JSON members. Nothing where `fd` is -1. False when the line is lost, which it
// says on stderr.
bool write_exit_event(int fd, std::string_view source, int status, std::string_view more = {});

}  // namespace boxrun::cli
