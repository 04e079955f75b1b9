#pragma once
#include <functional>

#include "src/host/start_message.h"

namespace boxrun::cli {

// Has something tried out in a forked child, so that nothing of it stays: what `attempt` returned,
// or why there is no answer: ETIMEDOUT when it takes seconds. The caller must have one thread.
host::StartMessage attempt_in_child(const std::function<host::StartMessage()>& attempt);

}  // namespace boxrun::cli
