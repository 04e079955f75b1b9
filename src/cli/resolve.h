#pragma once
#include "src/cli/caller.h"
#include "src/cli/request.h"
#include "src/cli/run_spec.h"
#include "src/profile/expected.h"

namespace boxrun::cli {

// Decides everything about a run: expands, finds and checks what the request names on this host.
// On failure `status` is boxrun's exit status: 125, 126 or 127.
profile::Expected<RunSpec> resolve(const Request& request, const Caller& caller, int& status);

}  // namespace boxrun::cli
