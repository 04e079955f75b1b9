#pragma once
#include "src/base/errno.h"

namespace boxrun {

// "No such file or directory" for kNoEnt; never null, also for a value that has no text, which
// from_host lets pass.
const char* errno_text(Errno e);

}  // namespace boxrun
