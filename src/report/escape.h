// Text of the target (paths, arguments, host names) is hostile: it may hold line breaks that forge
// a line of the report and escape sequences that drive a terminal.
#pragma once
#include <string>
#include <string_view>

namespace boxrun::report {

// For a terminal: control characters, bytes that are no UTF-8, and characters that are invisible
// or change the direction of text become \n, \t, \xNN or \u{NNNN}. The rest stays as it is.
std::string escape_text(std::string_view text);

// Only what JSON strings cannot carry: bytes that are no UTF-8 become \xNN.
std::string valid_utf8(std::string_view text);

// One word of a POSIX shell, quoted only where needed. A leading "~/" stays outside of the quotes,
// so that the shell expands it.
std::string shell_word(std::string_view text);

}  // namespace boxrun::report
