#pragma once
#include "sentry/boot.h"
#include "src/cli/run_spec.h"

namespace boxrun::cli {

// The part of a run that the Sentry needs to know. Descriptors, memory and platform are left empty.
sentry::BootSpec boot_spec(const RunSpec& spec);

}  // namespace boxrun::cli
