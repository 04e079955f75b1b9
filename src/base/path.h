#pragma once
#include <string_view>

namespace boxrun {

// Whether `path` is `directory` or below it; both absolute and without "." and "..".
bool is_within(std::string_view path, std::string_view directory);

}  // namespace boxrun
