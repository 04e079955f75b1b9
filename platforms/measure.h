#pragma once
#include <chrono>

#include "platforms/platform.h"
#include "src/base/result.h"

namespace boxrun::platform {

// How long a system call that guest code makes over and over takes until the Sentry has it, and
// back, once both sides have settled: the median of a few batches, in some milliseconds. Writes
// guest code to the first page of `memory_file`. ESRCH when guest code does not make the calls that
// it was told to make.
Result<std::chrono::nanoseconds> measure_call(Platform& platform, int memory_file);

}  // namespace boxrun::platform
