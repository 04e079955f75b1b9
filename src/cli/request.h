#pragma once
#include <optional>
#include <string>
#include <vector>

#include "src/cli/run_spec.h"
#include "src/profile/profile.h"

namespace boxrun::cli {

// One --env or --env-file entry, in the order given.
struct EnvOption {
  std::string name;
  std::optional<std::string> value;  // none: the caller's value passes
};

// What the person asked for: the profile with the command line laid over it, before the host is
// looked at. resolve.h makes a RunSpec of it.
struct Request {
  profile::Profile profile;
  std::vector<std::string> command;  // COMMAND ARG...

  std::string cwd;  // --cwd; empty: the current directory
  std::vector<EnvOption> env;
  std::string user;
  std::string hostname;

  std::vector<report::Output> outputs;  // --report; empty: the profile's formats, to stderr
  report::When report_on = report::When::kViolation;
  int violation_exit_code = 122;
  report::Color color = report::Color::kAuto;

  TraceSpec trace;
  bool statistics = false;
  int status_fd = -1;
  int verbosity = 0;  // the last of -q (-1: only errors) and -v (1: also what was decided)
  bool dry_run = false;
  bool help = false;
};

}  // namespace boxrun::cli
