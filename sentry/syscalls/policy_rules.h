#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "sentry/policy/policy.h"
#include "src/base/failure.h"

namespace boxrun::syscalls {

// One rule as a profile states it. Later rules win.
struct PolicyRule {
  std::string pattern;  // a name, a glob with * and ?, or an @group
  policy::Verdict verdict;
  std::string origin;  // where it was said
};

// A name that matches nothing is a failure that names the rule and, where one is close, the system
// call that was probably meant.
MaybeFailure check_rules(const std::vector<PolicyRule>& rules);
// The verdicts of rules that check_rules has passed.
policy::Policy build_policy(const std::vector<PolicyRule>& rules);

}  // namespace boxrun::syscalls
