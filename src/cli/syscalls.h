#pragma once
#include <string>

namespace boxrun::cli {

// Every system call of Linux with how well it is supported, from the Sentry's one table.
std::string syscalls_table();
std::string syscalls_json();

}  // namespace boxrun::cli
