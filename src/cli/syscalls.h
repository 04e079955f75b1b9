#pragma once
#include <string>
#include <string_view>

#include "src/profile/expected.h"

namespace boxrun::cli {

// Every system call of Linux with how well it is supported, from the Sentry's one table.
std::string syscalls_table();
std::string syscalls_json();

// Whether --trace=GROUP can be: a group of that table, or empty for all.
profile::Expected<bool> check_trace_group(std::string_view group);

}  // namespace boxrun::cli
