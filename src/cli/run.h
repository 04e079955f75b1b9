#pragma once
#include <array>
#include <string>
#include <string_view>

#include "src/base/fd.h"
#include "src/cli/roles.h"

namespace boxrun::cli {

// Runs the sandbox, writes its reports and its --status-fd line, and returns boxrun's exit status.
// The process is sealed afterwards. `streams` is what host::occupy_standard_streams() returned;
// `home` is shown as ~ in reports.
int run_and_report(const RunSpec& spec, const KernelEntry& kernel,
                   const std::array<bool, 3>& streams, const std::string& home);

// --status-fd N, as a copy: the sealed monitor gives the standard streams away, which N may be one
// of.
class StatusFd {
 public:
  explicit StatusFd(int number);

  // The line of a run: `source` decided (target, boxrun, timeout, policy), `more` is what else is
  // known, as JSON members. Nothing where N is -1. False when the line is lost, which it says on
  // stderr.
  bool write_exit(std::string_view source, int status, std::string_view more = {}) const;

 private:
  int number_;
  Result<UniqueFd> copy_ = Errno::kBadF;
};

}  // namespace boxrun::cli
