#include "sentry/policy/policy.h"

namespace boxrun::policy {

const std::string& Policy::rule_name(const Verdict& verdict) const {
  static const std::string kNone;
  return verdict.rule < rules_.size() ? rules_[verdict.rule] : kNone;
}

}  // namespace boxrun::policy
