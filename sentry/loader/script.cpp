#include "sentry/loader/script.h"

#include <algorithm>
#include <string_view>

namespace boxrun::loader {

// fs/binfmt_script.c: load_script. The buffer has 256 bytes (BINPRM_BUF_SIZE).
Result<std::optional<Shebang>> parse_shebang(std::span<const char> head) {
  constexpr size_t kBufferSize = 256;
  constexpr std::string_view kBlank = " \t";
  std::string_view text(head.data(), std::min(head.size(), kBufferSize));
  if (!text.starts_with("#!")) return std::optional<Shebang>{};
  const bool complete = text.size() < kBufferSize;
  text.remove_prefix(2);

  const size_t line_end = text.find('\n');
  if (line_end != text.npos) {
    text = text.substr(0, line_end);
  } else if (!complete) {
    // A line longer than the buffer: fine as long as the interpreter's path ends within it.
    const size_t name = text.find_first_not_of(kBlank);
    if (name == text.npos || text.find_first_of(std::string_view(" \t\0", 3), name) == text.npos) {
      return Errno::kNoExec;
    }
  }
  text = text.substr(0, text.find('\0'));
  const size_t last = text.find_last_not_of(kBlank);
  text = last == text.npos ? std::string_view() : text.substr(0, last + 1);
  const size_t first = text.find_first_not_of(kBlank);
  if (first == text.npos) return Errno::kNoExec;
  text.remove_prefix(first);

  Shebang line;
  const size_t name_end = text.find_first_of(kBlank);
  line.interpreter = text.substr(0, name_end);
  if (name_end != text.npos) {
    line.argument = std::string(text.substr(text.find_first_not_of(kBlank, name_end)));
  }
  return std::optional<Shebang>{std::move(line)};
}

}  // namespace boxrun::loader
