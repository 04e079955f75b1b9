#pragma once
#include <linux/filter.h>

#include <vector>

#include "platforms/stub/layout.h"

namespace boxrun::platform {

// The seccomp program of the seed, which every stub inherits. The first line of defence is that
// guest threads are only resumed with PTRACE_SYSEMU, so that their calls never come as far as a
// filter; this is the second. It allows exactly the calls of stub_text.S and those that the Sentry
// injects, kills the process for any other, and traps (SIGSYS) the vsyscall page, whose calls the
// host would otherwise serve itself whatever the tracer asked for.
std::vector<sock_filter> stub_filter(const StubLayout& layout);

}  // namespace boxrun::platform
