#include "src/cli/hide.h"

#include <fnmatch.h>

#include "src/profile/expand.h"

namespace boxrun::cli {
namespace {

std::vector<std::string> names_of(std::string_view path) {
  std::vector<std::string> names;
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    if (slash != 0) names.emplace_back(path.substr(0, slash));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return names;
}

// The places in a glob that are reached after the names of a path, as a set: places[i] says that
// the next name is to be matched with part i; i == parts.size() is a match.
class Places {
 public:
  explicit Places(const std::vector<std::string>& parts) : parts_(parts), at_(parts.size() + 1) {
    at_[0] = true;
    skip_any();
  }

  void step(const std::string& name) {
    std::vector<bool> next(at_.size());
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (!at_[i]) continue;
      if (parts_[i] == "**") {
        next[i] = true;
      } else if (::fnmatch(parts_[i].c_str(), name.c_str(), 0) == 0) {
        next[i + 1] = true;
      }
    }
    at_ = std::move(next);
    skip_any();
  }
  bool matched() const { return at_.back(); }
  bool can_still_match() const {
    for (const bool place : at_) {
      if (place) return true;
    }
    return false;
  }

 private:
  // "**" may be no name at all.
  void skip_any() {
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (at_[i] && parts_[i] == "**") at_[i + 1] = true;
    }
  }

  const std::vector<std::string>& parts_;
  std::vector<bool> at_;
};

}  // namespace

std::string absolute_hide_glob(std::string_view glob, std::string_view home, std::string_view cwd) {
  if (glob.starts_with("**/")) return "/" + std::string(glob);
  return profile::absolute_path(profile::expand_home(glob, home), cwd);
}

bool is_hidden_by(std::string_view glob, std::string_view path) {
  const std::vector<std::string> parts = names_of(glob);
  Places places(parts);
  for (const std::string& name : names_of(path)) {
    places.step(name);
    if (places.matched()) return true;
  }
  return false;
}

bool can_match_below(std::string_view glob, std::string_view directory) {
  const std::vector<std::string> parts = names_of(glob);
  Places places(parts);
  for (const std::string& name : names_of(directory)) {
    places.step(name);
    if (places.matched()) return true;
  }
  return places.can_still_match();
}

}  // namespace boxrun::cli
