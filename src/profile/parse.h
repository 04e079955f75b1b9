#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/profile/expected.h"
#include "src/profile/profile.h"

namespace boxrun::profile {

// Lays the profile that `name` names under the one being parsed; called once for each entry of
// `extends`, in order, before anything else of the file takes effect.
using Extend = std::function<std::vector<Error>(const Located& name, Profile& profile)>;

// Parses the text of one profile file and lays it over `profile`: lists append, scalars replace.
// `file` is what errors and origins call it. Returns every error found, at most 20; with any, the
// profile must not be used. Takes any bytes and throws nothing.
std::vector<Error> parse_profile(std::string_view text, const std::string& file,
                                 const Extend& extend, Profile& profile);

}  // namespace boxrun::profile
