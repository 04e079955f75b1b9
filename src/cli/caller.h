#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "src/cli/run_spec.h"
#include "src/profile/expected.h"

namespace boxrun::cli {

// Who started boxrun, and from where.
struct Caller {
  std::vector<std::string> environment;  // NAME=VALUE
  std::string cwd;                       // absolute, without symbolic links; empty: it is gone
  std::string cwd_problem;               // why then
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;

  // The value of a variable, empty when it is not set.
  std::string_view variable(std::string_view name) const;
};

Caller this_caller();

// Whom the target runs as (DESIGN 12a): `user` (a name or number) if given, the user behind sudo,
// else the caller himself. /etc/passwd and /etc/group are read directly: a statically linked
// program must not load the host's NSS modules.
profile::Expected<IdentitySpec> resolve_identity(const Caller& caller, const std::string& user);

}  // namespace boxrun::cli
