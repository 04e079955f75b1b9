#pragma once
#include <time.h>

#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_futex(Task& task, Address word, Command operation, Unsigned value,
                           ULong timeout_or_value2, Address word2, Unsigned value3);
Result<uint64_t> sys_set_robust_list(Task& task, Address head, Size size);
Result<uint64_t> sys_get_robust_list(Task& task, Pid pid, UserOut<uint64_t> head,
                                     UserOut<uint64_t> size);

}  // namespace boxrun::syscalls
