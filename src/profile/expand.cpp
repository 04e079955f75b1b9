#include "src/profile/expand.h"

#include <fnmatch.h>
#include <glob.h>

#include <algorithm>

namespace boxrun::profile {

std::string expand_home(std::string_view path, std::string_view home) {
  if (path != "~" && !path.starts_with("~/")) return std::string(path);
  return std::string(home) + std::string(path.substr(1));
}

bool has_glob(std::string_view text) { return text.find_first_of("*?[") != std::string_view::npos; }

std::vector<std::string> expand_glob(const std::string& pattern) {
  if (!has_glob(pattern)) return {pattern};
  glob_t found{};
  std::vector<std::string> paths;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody enumerates users in another thread
  if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) == 0) {
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  }
  ::globfree(&found);
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool matches_glob(const std::string& pattern, const std::string& text) {
  return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

std::string absolute_path(std::string_view path, std::string_view base) {
  std::string whole = path.starts_with('/') ? std::string() : std::string(base) + "/";
  whole += path;
  std::string out;
  for (size_t i = 0; i < whole.size();) {
    const size_t end = std::min(whole.find('/', i), whole.size());
    const std::string_view name(whole.data() + i, end - i);
    if (name == "..") {
      out.resize(out.empty() ? 0 : out.rfind('/'));
    } else if (!name.empty() && name != ".") {
      out += '/';
      out += name;
    }
    i = end + 1;
  }
  return out.empty() ? "/" : out;
}

}  // namespace boxrun::profile
