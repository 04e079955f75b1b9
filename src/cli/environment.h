#pragma once
#include "src/cli/caller.h"
#include "src/cli/request.h"

namespace boxrun::cli {

struct Environment {
  std::vector<std::string> variables;  // NAME=VALUE, each name once
  uint32_t withheld = 0;               // variables of the caller that did not pass

  std::string_view value(std::string_view name) const;
};

// What passes from the caller by [env] pass, then [env] set, then --env in order. When the target
// runs as somebody else, HOME, USER, LOGNAME and SHELL are that user's.
Environment make_environment(const Caller& caller, const Request& request,
                             const IdentitySpec& identity);

}  // namespace boxrun::cli
