#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "platforms/platform.h"
#include "src/base/failure.h"
#include "src/base/fd.h"

namespace boxrun::platform {

struct Options {
  // "auto" or the name of a platform. "auto" is the first of kinds() that this host lets us have.
  std::string kind = "auto";
  // What most mappings will be of. Borrowed for the life of the platform.
  int memory_file = -1;
  // If given, gets a descriptor that becomes readable (read it empty, it does not block) whenever
  // the host side of an address space may have ended by itself. Then an apply() without operations
  // tells of each. Without it, a loss is noticed when a thread of the guest process next runs.
  // Stays empty where the platform has nothing that could end.
  UniqueFd* losses = nullptr;
  // What "auto" tries first; empty: nothing in particular.
  std::string preferred = {};
};

// The platforms of this build, those first that are expected to be quicker.
std::span<const std::string_view> kinds();

// Called in the process that will be the Sentry, on its main thread and before it has others: after
// namespaces, Landlock and resource limits are in force, before capabilities are dropped and
// filters installed. Null with `failure` filled when the platform cannot be had here.
std::unique_ptr<Platform> create(const Options& options, Failure& failure);

}  // namespace boxrun::platform
