#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "src/base/fd.h"
#include "src/base/result.h"
#include "src/report/record.h"
#include "src/report/settings.h"

namespace boxrun::report {

// How the run ended.
enum class End : uint8_t {
  kExited,    // the target: code is its exit status
  kSignaled,  // the target: code is the signal
  kTimedOut,  // --timeout passed
  kFailed,    // boxrun itself; `failure` says why
};

// Everything a report says, gathered by the monitor.
struct Summary {
  std::vector<std::string> argv;
  std::string profile;
  std::string platform;
  std::vector<std::string> layers;  // isolation layers in force
  std::string home;                 // shown as ~ in text
  End end = End::kExited;
  int code = 0;
  std::string failure;
  int64_t started = 0;  // nanoseconds since 1970
  std::chrono::nanoseconds duration{0};
  std::vector<Record> records;
  uint64_t unrecorded = 0;  // violations beyond records
  std::vector<Change> changes;
  uint64_t changes_dropped = 0;  // changes beyond the list
  uint32_t env_withheld = 0;
};

std::string render_text(const Summary& summary, bool color);
std::string render_json(const Summary& summary);

// What would have allowed an attempt.
struct Advice {
  std::string option;  // of the command line, shell-quoted; empty where none would
  std::string caveat;  // why it does not help after all; normally empty
};
// `home` as in Summary.
Advice advise(const Record& record, const std::string& home);

// Whether a violation at or above the threshold was recorded.
bool reaches(const Summary& summary, FailOn threshold);

// Where reports go. Opened before the run, so that a path that cannot be written fails the start
// and not the end.
class Writer {
 public:
  // On failure `problem` says what and why, for the user.
  static Result<Writer> open(const Settings& settings, std::string& problem);

  // Writes what the settings ask for: to stderr by `--report-on`, to files unless that is `never`.
  // Every output is tried; `problem` names each that failed and how much of it was kept.
  // A reader that is gone is no failure.
  Result<void> write(const Summary& summary, std::string& problem) const;

 private:
  struct Target {
    Output output;
    UniqueFd fd;  // none for stderr
  };
  Settings settings_;
  std::vector<Target> targets_;
};

}  // namespace boxrun::report
