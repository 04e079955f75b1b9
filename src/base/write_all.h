#pragma once
#include <cstddef>
#include <string_view>

#include "src/base/result.h"

namespace boxrun {

// write(2) until everything is written. Lines that fit into one write do not mix with those of
// other writers. EIO where a write takes nothing; `written` has the number of bytes, also on error.
Result<void> write_all(int fd, std::string_view text, size_t& written);
Result<void> write_all(int fd, std::string_view text);

}  // namespace boxrun
