#pragma once
#include <string>
#include <vector>

#include "src/profile/expected.h"
#include "src/profile/profile.h"

namespace boxrun::profile {

struct Loaded {
  Profile profile;
  std::vector<Error> errors;  // with any, the profile must not be used
};

// Loads the profiles that were named, later ones over earlier ones, each over what it extends; a
// profile that is reached twice counts once. A name with a slash or ending in .toml is a file (in
// `extends`, relative to the extending file); any other is NAME.toml in the first of `folders` that
// has it, or else a built-in profile.
Loaded load_profiles(const std::vector<Located>& names, const std::vector<std::string>& folders);

}  // namespace boxrun::profile
