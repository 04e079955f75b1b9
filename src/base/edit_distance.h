#pragma once
#include <cstddef>
#include <string_view>

namespace boxrun {

// Damerau's, in the form that changes no place twice (optimal string alignment): a letter missing,
// added or wrong, or two neighbours exchanged, which is how people mistype.
size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace boxrun
