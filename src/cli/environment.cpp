#include "src/cli/environment.h"

#include <algorithm>

#include "src/profile/expand.h"

namespace boxrun::cli {
namespace {

bool is_variable(std::string_view entry, std::string_view name) {
  return entry.starts_with(name) && entry.substr(name.size()).starts_with('=');
}

void set(std::vector<std::string>& variables, const std::string& name, const std::string& value) {
  std::string entry = name + "=" + value;
  const auto old = std::ranges::find_if(
      variables, [&](const std::string& other) { return is_variable(other, name); });
  if (old != variables.end()) {
    *old = std::move(entry);
  } else {
    variables.push_back(std::move(entry));
  }
}

}  // namespace

std::string_view Environment::value(std::string_view name) const {
  for (const std::string& entry : variables) {
    if (is_variable(entry, name)) return std::string_view(entry).substr(name.size() + 1);
  }
  return {};
}

Environment make_environment(const Caller& caller, const Request& request,
                             const IdentitySpec& identity) {
  Environment environment;
  for (const std::string& entry : caller.environment) {
    const std::string name = entry.substr(0, entry.find('='));
    const bool by_profile = std::ranges::any_of(
        request.profile.env_pass,
        [&](const std::string& glob) { return profile::matches_glob(glob, name); });
    const bool by_option = std::ranges::any_of(
        request.env, [&](const EnvOption& option) { return option.name == name && !option.value; });
    if (by_profile || by_option) {
      environment.variables.push_back(entry);
    } else if (std::ranges::none_of(request.env,
                                    [&](const EnvOption& option) { return option.name == name; })) {
      ++environment.withheld;
    }
  }
  if (identity.uid != caller.uid) {
    const std::pair<const char*, const std::string&> own[] = {{"HOME", identity.home},
                                                              {"USER", identity.name},
                                                              {"LOGNAME", identity.name},
                                                              {"SHELL", identity.shell}};
    for (const auto& [name, value] : own) {
      if (!environment.value(name).empty()) set(environment.variables, name, value);
    }
  }
  for (const auto& [name, value] : request.profile.env_set) {
    set(environment.variables, name, value);
  }
  for (const EnvOption& option : request.env) {
    if (option.value) set(environment.variables, option.name, *option.value);
  }
  return environment;
}

}  // namespace boxrun::cli
