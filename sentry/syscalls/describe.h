#pragma once
#include <string>

#include "sentry/syscalls/args.h"

namespace boxrun::syscalls {

// "openat(AT_FDCWD, \"/etc/shadow\", O_RDONLY, 0)": for the report and traces. Reads guest memory.
std::string describe_call(Task& task, const Frame& frame);
// "openat", or "syscall_999" for a number without a row.
std::string syscall_name(uint64_t number);
// The call that `task` is in.
Frame current_frame(Task& task);

}  // namespace boxrun::syscalls
