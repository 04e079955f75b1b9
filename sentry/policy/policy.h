#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "src/base/errno.h"

namespace boxrun::policy {

// What happens to a system call before its handler is looked at.
struct Verdict {
  enum class Action : uint8_t {
    kAllow,
    kErrno,  // it returns `error`; reported
    kLog,    // it runs; reported
    kKill,   // the process dies of SIGSYS; reported
  };
  Action action = Action::kAllow;
  Errno error = Errno::kOk;  // of kErrno
  uint16_t rule = 0;         // which rule decided: Policy::rule_name
};

// The verdicts of one sandbox: a flat array by system call number, so that the hot path is one
// load. Built before the first task runs, never changed afterwards.
class Policy {
 public:
  static constexpr uint64_t kSize = 512;

  Policy() = default;
  // `rules[verdict.rule]` is the rule's place for the report: "default.toml:21".
  Policy(const std::array<Verdict, kSize>& verdicts, std::vector<std::string> rules)
      : verdicts_(verdicts), rules_(std::move(rules)) {}

  const Verdict& verdict(uint64_t number) const {
    return verdicts_[number < kSize ? number : kSize - 1];
  }
  const std::string& rule_name(const Verdict& verdict) const;

 private:
  std::array<Verdict, kSize> verdicts_{};
  std::vector<std::string> rules_;
};

}  // namespace boxrun::policy
