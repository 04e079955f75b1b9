#include "src/base/write_all.h"

#include <unistd.h>

#include <cerrno>

namespace boxrun {

Result<void> write_all(int fd, std::string_view text, size_t& written) {
  written = 0;
  while (written < text.size()) {
    const ssize_t n = ::write(fd, text.data() + written, text.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return last_error();
    if (n == 0) return Errno::kIo;
    written += static_cast<size_t>(n);
  }
  return {};
}

Result<void> write_all(int fd, std::string_view text) {
  size_t written = 0;
  return write_all(fd, text, written);
}

}  // namespace boxrun
