#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace boxrun::cli {

// The globs of `hide` as absolute paths: `~` is the user's home, "**/.env" may be anywhere, any
// other relative one starts at `cwd`.
std::string absolute_hide_glob(std::string_view glob, std::string_view home, std::string_view cwd);

// Whether the absolute `path` or a directory above it matches. `*`, `?` and `[...]` stay within one
// name, `**` is any number of names.
bool is_hidden_by(std::string_view glob, std::string_view path);

// Whether anything at or below `directory` could match.
bool can_match_below(std::string_view glob, std::string_view directory);

}  // namespace boxrun::cli
