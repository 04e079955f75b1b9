#pragma once
#include <string>
#include <string_view>

#include "src/cli/mount_plan.h"
#include "src/profile/expected.h"

namespace boxrun::cli {

// Exit statuses of boxrun itself, as env(1) and timeout(1) have them.
inline constexpr int kOwnFailure = 125;
inline constexpr int kNotExecutable = 126;
inline constexpr int kNotFound = 127;

struct Program {
  std::string path;      // what execve is given, and a script sees as its name: may be relative
  std::string location;  // the same as an absolute guest path without "." and ".."
};

// Finds what execvp(3) would find for `command` inside: by the target's PATH and current directory,
// through the mounts of the plan; where no mount covers a path, on the host (the toolchain rules
// mount it afterwards) if `beyond_mounts`. On failure `status` is 126 or 127.
profile::Expected<Program> find_program(const std::string& command, std::string_view path,
                                        const std::string& cwd, const MountPlan& plan,
                                        bool beyond_mounts, int& status);

}  // namespace boxrun::cli
