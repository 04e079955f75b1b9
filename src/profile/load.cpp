#include "src/profile/load.h"

#include <dirent.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "src/base/errno_text.h"
#include "src/profile/builtin.h"
#include "src/profile/parse.h"
#include "src/profile/read_file.h"
#include "src/profile/values.h"

namespace boxrun::profile {
namespace {

constexpr size_t kMaxDepth = 16;

bool is_path(std::string_view name) {
  return name.find('/') != std::string_view::npos || name.ends_with(".toml");
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
}

class Loader {
 public:
  explicit Loader(const std::vector<std::string>& folders) : folders_(folders) {}

  // `folder` is where relative paths start: empty, or the extending file's with a slash at the end.
  std::vector<Error> load(const Located& name, const std::string& folder, Profile& profile) {
    if (is_path(name.value)) {
      return load_file(name.value[0] == '/' ? name.value : folder + name.value, profile);
    }
    for (const std::string& candidate : folders_) {
      const std::string path = candidate + "/" + name.value + ".toml";
      if (::access(path.c_str(), F_OK) == 0) return load_file(path, profile);
    }
    for (const Builtin& builtin : builtin_profiles()) {
      if (builtin.name == name.value) {
        return apply(builtin.text, fmt::format("{} (built in)", builtin.name), {}, profile);
      }
    }
    return {unknown(name.value)};
  }

 private:
  std::vector<Error> load_file(const std::string& path, Profile& profile) {
    const Result<std::string> text = read_file(path);
    if (!text) {
      return {
          Error{fmt::format("profile '{}' cannot be read: {}", path, errno_text(text.error()))}};
    }
    return apply(*text, path, folder_of(path), profile);
  }

  std::vector<Error> apply(std::string_view text, const std::string& file,
                           const std::string& folder, Profile& profile) {
    if (std::find(open_.begin(), open_.end(), file) != open_.end()) {
      return {Error{fmt::format("profile '{}' extends itself ({} -> {})", file,
                                fmt::join(open_, " -> "), file)}};
    }
    if (open_.size() >= kMaxDepth) return {Error{"too many levels of `extends`"}};
    if (std::find(done_.begin(), done_.end(), file) != done_.end()) return {};
    open_.push_back(file);
    std::vector<Error> errors = parse_profile(
        text, file, [&](const Located& base, Profile& under) { return load(base, folder, under); },
        profile);
    open_.pop_back();
    done_.push_back(file);
    return errors;
  }

  Error unknown(const std::string& name) const {
    std::vector<std::string> found;
    for (const std::string& folder : folders_) {
      const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
      if (entries == nullptr) continue;
      while (const dirent* entry = ::readdir(entries.get())) {
        std::string_view file = entry->d_name;
        if (!file.ends_with(".toml")) continue;
        file.remove_suffix(5);
        found.emplace_back(file);
      }
    }
    std::vector<std::string_view> names(found.begin(), found.end());
    for (const Builtin& builtin : builtin_profiles()) names.push_back(builtin.name);
    std::string message = fmt::format("there is no profile '{}'", name);
    if (const std::string_view guess = nearest(name, names); !guess.empty()) {
      message += fmt::format("; did you mean '{}'?", guess);
    }
    return {message};
  }

  const std::vector<std::string>& folders_;
  std::vector<std::string> open_;  // being parsed, outermost first
  std::vector<std::string> done_;
};

}  // namespace

Loaded load_profiles(const std::vector<Located>& names, const std::vector<std::string>& folders) {
  Loaded loaded;
  Loader loader(folders);
  for (const Located& name : names) {
    for (Error& error : loader.load(name, {}, loaded.profile)) {
      loaded.errors.push_back(std::move(error));
    }
  }
  return loaded;
}

}  // namespace boxrun::profile
