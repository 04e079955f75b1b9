#include "sentry/syscalls/policy_rules.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>

#include "sentry/syscalls/table.h"
#include "src/base/edit_distance.h"

namespace boxrun::syscalls {
namespace {

bool matches(const std::string& pattern, const Syscall& row) {
  if (pattern.starts_with('@')) return group_name(row.group) == std::string_view(pattern).substr(1);
  return fnmatch(pattern.c_str(), std::string(row.name).c_str(), 0) == 0;
}

std::string suggestion(const std::string& pattern) {
  std::string best;
  size_t best_distance = pattern.size() / 3 + 1;
  const auto consider = [&](std::string name) {
    if (const size_t d = edit_distance(pattern, name); d < best_distance) {
      best_distance = d;
      best = std::move(name);
    }
  };
  for (const Syscall& row : rows()) {
    consider(std::string(row.name));
    consider("@" + std::string(group_name(row.group)));
  }
  return best.empty() ? "boxrun syscalls lists all of them" : "did you mean " + best + "?";
}

}  // namespace

MaybeFailure check_rules(const std::vector<PolicyRule>& rules) {
  for (const PolicyRule& rule : rules) {
    const auto all = rows();
    if (std::any_of(all.begin(), all.end(),
                    [&](auto& row) { return matches(rule.pattern, row); })) {
      continue;
    }
    return Failure{fmt::format("{}: no system call matches \"{}\"", rule.origin, rule.pattern),
                   "policy", Errno::kOk, suggestion(rule.pattern)};
  }
  return {};
}

policy::Policy build_policy(const std::vector<PolicyRule>& rules) {
  std::array<policy::Verdict, policy::Policy::kSize> verdicts{};
  std::vector<std::string> origins;
  for (const PolicyRule& rule : rules) {
    policy::Verdict verdict = rule.verdict;
    verdict.rule = static_cast<uint16_t>(origins.size());
    origins.push_back(rule.origin);
    // Numbers without a row follow only rules for everything.
    if (rule.pattern == "*") verdicts.fill(verdict);
    for (const Syscall& row : rows()) {
      if (matches(rule.pattern, row)) verdicts[static_cast<size_t>(row.number)] = verdict;
    }
  }
  return {verdicts, std::move(origins)};
}

}  // namespace boxrun::syscalls
