#pragma once
#include <fmt/core.h>

#include <atomic>
#include <string_view>

namespace boxrun {

enum class LogLevel : int { kError = 0, kWarning = 1, kInfo = 2, kDebug = 3 };

// The sink is process-wide: a descriptor that lines are written to, one write(2) each. It starts
// as stderr at kWarning. Lines are for developers; what a user must know goes into the report.
void set_log_sink(int fd, LogLevel level);

namespace internal {
extern std::atomic<int> log_level;
void log_line(LogLevel level, std::string_view format, fmt::format_args args);
}  // namespace internal

}  // namespace boxrun

#define LOG(level, format, ...)                                          \
  do {                                                                   \
    if (static_cast<int>(::boxrun::LogLevel::level) <=                   \
        ::boxrun::internal::log_level.load(std::memory_order_relaxed)) { \
      ::boxrun::internal::log_line(::boxrun::LogLevel::level, format,    \
                                   fmt::make_format_args(__VA_ARGS__));  \
    }                                                                    \
  } while (false)
