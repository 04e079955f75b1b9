#pragma once
#include <string>
#include <vector>

#include "src/report/record.h"

namespace boxrun::cli {

// Whether nothing is at the absolute `path` on this host, as far as can be told without following a
// symlink, triggering a mount or asking a server. What cannot be told counts as being there.
bool is_absent_on_host(const std::string& path);

// Takes out the lookups of unmounted paths that would have failed without a sandbox, too: an
// ordinary error is no violation (programs look for configuration files in every parent folder).
void drop_ordinary_misses(std::vector<report::Record>& records);

}  // namespace boxrun::cli
