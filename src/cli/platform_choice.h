#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "src/base/failure.h"

namespace boxrun::cli {

// One platform, made and measured on this host.
struct PlatformTrial {
  std::string kind;
  MaybeFailure failure;           // why it cannot be had
  std::chrono::nanoseconds call;  // what a system call costs, if it can
};

// Tries every platform of this build in child processes; the caller must have one thread. Takes
// some milliseconds.
std::vector<PlatformTrial> try_platforms();

// The one whose system calls cost least; empty if none can be had.
std::string cheapest(const std::vector<PlatformTrial>& trials);

// The same, measured once since this machine was booted and kept in a file: in XDG_RUNTIME_DIR,
// else in /tmp. Empty where there is no such file and none can be made.
std::string remembered_platform();

}  // namespace boxrun::cli
