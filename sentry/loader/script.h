#pragma once
#include <optional>
#include <span>
#include <string>

#include "src/base/result.h"

namespace boxrun::loader {

// The first line of a script: "#!interpreter [argument]" (execve(2), "Interpreter scripts").
struct Shebang {
  std::string interpreter;
  std::optional<std::string> argument;  // everything after the interpreter, as one argument
};

// What a file that starts with `head` (at most 256 bytes are looked at) asks for; nothing when it
// is no script. ENOEXEC for a line without an interpreter, or one cut off within its path.
Result<std::optional<Shebang>> parse_shebang(std::span<const char> head);

}  // namespace boxrun::loader
