#pragma once
#include <string>
#include <string_view>

#include "src/cli/run_spec.h"

namespace boxrun::cli {

// The text of --help: usage, commands, every option of the table.
std::string help_text();

// What --dry-run prints: the effective specification, one thing a line.
std::string describe(const RunSpec& spec);

}  // namespace boxrun::cli
