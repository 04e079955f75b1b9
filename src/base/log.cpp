#include "src/base/log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <iterator>

namespace boxrun {
namespace internal {

std::atomic<int> log_level{static_cast<int>(LogLevel::kWarning)};

namespace {
std::atomic<int> sink{STDERR_FILENO};
}  // namespace

void log_line(LogLevel level, std::string_view format, fmt::format_args args) {
  static constexpr std::string_view kNames[] = {"error", "warning", "info", "debug"};
  fmt::memory_buffer line;
  fmt::format_to(std::back_inserter(line), "boxrun[{}] {}: ", ::getpid(),
                 kNames[static_cast<int>(level)]);
  fmt::vformat_to(std::back_inserter(line), format, args);
  line.push_back('\n');
  (void)!::write(sink.load(std::memory_order_relaxed), line.data(), line.size());
}

}  // namespace internal

void set_log_sink(int fd, LogLevel level) {
  internal::sink.store(fd, std::memory_order_relaxed);
  internal::log_level.store(static_cast<int>(level), std::memory_order_relaxed);
}

}  // namespace boxrun
