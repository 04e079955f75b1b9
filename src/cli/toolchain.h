#pragma once
#include <string>
#include <string_view>

#include "src/cli/mount_plan.h"
#include "src/profile/expected.h"

namespace boxrun::cli {

// toolchain = "auto": adds read-only mounts to `plan` for what the program at the guest path
// `program` needs to run and no mount shows yet: the installation it belongs to, those that its
// symbolic links and `#!` lines lead to, and what version managers keep beside their shims. `path`
// and `home` are the target's.
profile::Expected<bool> mount_toolchain(const std::string& program, std::string_view path,
                                        const std::string& home, MountPlan& plan);

// The directory (or file) that is mounted to make `file` runnable: the parent of a bin directory,
// unless that would show a whole home directory or the like; else the file alone.
std::string installation_of(const std::string& file, const std::string& home);

}  // namespace boxrun::cli
