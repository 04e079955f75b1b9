#pragma once
#include <span>
#include <string_view>

namespace boxrun::profile {

// A file of profiles/, compiled in.
struct Builtin {
  std::string_view name;
  std::string_view text;
};

std::span<const Builtin> builtin_profiles();

}  // namespace boxrun::profile
