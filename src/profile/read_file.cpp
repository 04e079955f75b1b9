#include "src/profile/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>

#include "src/base/fd.h"

namespace boxrun::profile {

Result<std::string> read_file(const std::string& path) {
  // O_NONBLOCK: a FIFO in place of the profile must not hang us.
  const UniqueFd fd = TRY(own_fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)));
  constexpr size_t kMaxSize = 1 << 20;
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return last_error();
  if (S_ISDIR(status.st_mode)) return Errno::kIsDir;
  std::string text;
  std::array<char, 16384> chunk;
  while (true) {
    const ssize_t n = TRY(host_result(::read(fd.get(), chunk.data(), chunk.size())));
    if (n == 0) return text;
    text.append(chunk.data(), static_cast<size_t>(n));
    if (text.size() > kMaxSize) return Errno::kFBig;
  }
}

}  // namespace boxrun::profile
