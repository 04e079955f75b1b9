#pragma once
#include "sentry/kernel/fwd.h"
#include "src/base/result.h"

namespace boxrun::kernel {

// Whose ids and capabilities count in ptrace(2)'s access check: those for files with effective
// capabilities (PTRACE_MODE_FSCREDS), or the real ids with permitted ones (PTRACE_MODE_REALCREDS).
enum class InspectAs : uint8_t { kForFiles, kReal };

// Whether the calling task may look into `target`; EACCES.
Result<void> may_inspect(Task& target, InspectAs as = InspectAs::kForFiles);

}  // namespace boxrun::kernel
