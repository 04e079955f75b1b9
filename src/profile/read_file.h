#pragma once
#include <string>

#include "src/base/result.h"

namespace boxrun::profile {

// The whole of a small file that a person wrote. Errors: those of open and read, EISDIR, and EFBIG
// beyond 1 MiB.
Result<std::string> read_file(const std::string& path);

}  // namespace boxrun::profile
