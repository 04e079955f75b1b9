#pragma once
#include "sentry/kernel/fwd.h"
#include "sentry/kernel/signal_state.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::kernel {

// A file that reads the pending signals of `mask` (signalfd(2)) of the task that made it and of its
// process. Linux reads those of whoever calls read; they differ for a descriptor that was passed on
// by fork (README, "Not yet"). `flags`: O_NONBLOCK.
Ref<vfs::FileDescription> open_signalfd(Task& task, SignalSet mask, int flags);
// Changes the mask; EINVAL when the file is no signalfd.
Result<void> set_signalfd_mask(vfs::FileDescription& file, SignalSet mask);

}  // namespace boxrun::kernel
