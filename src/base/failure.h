#pragma once
#include <optional>
#include <string>

#include "src/base/errno.h"

namespace boxrun {

// Why boxrun itself could not start a run or go on with it, in words for the person who started it.
// A system call of the guest never fails with one of these: it gets an Errno.
struct Failure {
  std::string what;          // "open the mount source /data", "create the memory file"
  std::string layer;         // who failed: "gofer", "landlock", "platform ptrace"
  Errno error = Errno::kOk;  // kOk where no system call was involved
  std::string remedy;        // what the user can do; empty where nothing can be advised
};

// What steps return that have no value: nothing is success.
using MaybeFailure = std::optional<Failure>;

// "cannot open the mount source /data: No such file or directory (gofer); remedy". One line.
std::string to_string(const Failure& failure);

}  // namespace boxrun
