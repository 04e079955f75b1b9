#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace boxrun::profile {

// "~" and "~/x" with the user's home directory in place of the tilde; anything else as it is.
std::string expand_home(std::string_view path, std::string_view home);

// Whether the text holds one of the characters * ? [ of glob(7).
bool has_glob(std::string_view text);

// The existing paths that match, in byte order; of a text without such characters the text itself,
// whether it exists or not.
std::vector<std::string> expand_glob(const std::string& pattern);

// Whether `text` matches the glob of one name ("LC_*"), as fnmatch(3) without flags.
bool matches_glob(const std::string& pattern, const std::string& text);

// "/a/./b//../c" becomes "/a/c", a relative path starts at `base` (absolute). Only text: symbolic
// links are not looked at.
std::string absolute_path(std::string_view path, std::string_view base);

}  // namespace boxrun::profile
