#include "sentry/syscalls/dispatcher.h"

#include <fmt/format.h>
#include <signal.h>

#include "sentry/kernel/signals.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/policy/limit_watch.h"
#include "sentry/policy/policy.h"
#include "sentry/policy/violation_log.h"
#include "sentry/syscalls/describe.h"
#include "sentry/syscalls/support.h"
#include "sentry/time/call.h"
#include "sentry/trace/call_times.h"
#include "sentry/trace/tracer.h"

namespace boxrun::syscalls {
namespace {

using policy::Verdict;

// What audit calls the wait status of a process killed by a policy: death by SIGSYS.
constexpr int kKilledBySigsys = SIGSYS;

policy::Violation violation_of(Task& task, const Frame& frame, report::Kind kind) {
  policy::Violation violation;
  violation.kind = kind;
  violation.syscall = syscall_name(frame.number);
  violation.call = describe_call(task, frame);
  return violation;
}

}  // namespace

Result<uint64_t> Dispatcher::answer(Task& task, const Frame& frame) {
  const Syscall* row = find(frame.number);
  if (row == nullptr || row->support == Support::kNone) {
    auto violation = violation_of(task, frame, report::Kind::kSyscallUnimplemented);
    violation.error = Errno::kNoSys;
    services_.violations.record(&task, std::move(violation));
    return Errno::kNoSys;
  }
  if (row->call == nullptr) return row->refusal;
  auto result = row->call(task, frame);
  if (result.ok() && row->sets_registers) task.keep_registers();
  if (!result.ok()) report_limit(task, result.error());
  return result;
}

Result<uint64_t> Dispatcher::dispatch(Task& task, uint64_t number,
                                      const std::array<uint64_t, 6>& args) {
  begin_call();
  Frame frame{number, args, 0};
  const Verdict& verdict = services_.policy.verdict(number);
  if (verdict.action != Verdict::Action::kAllow) [[unlikely]] {
    auto violation = violation_of(task, frame, report::Kind::kSyscallDeny);
    violation.rule = services_.policy.rule_name(verdict);
    violation.error = verdict.error;
    if (verdict.action == Verdict::Action::kLog) violation.verdict = report::Verdict::kLogged;
    if (verdict.action == Verdict::Action::kKill) violation.verdict = report::Verdict::kKilled;
    services_.violations.record(&task, std::move(violation));
    if (verdict.action == Verdict::Action::kErrno) return verdict.error;
    if (verdict.action == Verdict::Action::kKill) {
      task.group().exit_all(kKilledBySigsys);
      return Errno::kNoSys;
    }
  }
  if (services_.tracer == nullptr && services_.times == nullptr) [[likely]]
    return answer(task, frame);
  return watched(task, frame);
}

Result<uint64_t> Dispatcher::watched(Task& task, const Frame& frame) {
  const Clock& clock = task.kernel().clock();
  const Nanos start = clock.monotonic();
  auto result = services_.tracer != nullptr ? traced(task, frame) : answer(task, frame);
  if (services_.times != nullptr) services_.times->count(clock.monotonic() - start);
  return result;
}

// The line is printed when the call returns. What it read is decoded before, since execve and its
// like replace the memory it came from.
Result<uint64_t> Dispatcher::traced(Task& task, Frame frame) {
  const Syscall* row = find(frame.number);
  const auto group = static_cast<size_t>(row != nullptr ? row->group : Group::kSystem);
  if (!services_.tracer->wants(group)) return answer(task, frame);
  const pid_t tid = task.tid();
  const std::string call = describe_call(task, frame);
  auto result = answer(task, frame);
  services_.tracer->line(result.ok()
                             ? fmt::format("[{}] {} = {:#x}", tid, call, *result)
                             : fmt::format("[{}] {} = {}", tid, call, errno_name(result.error())));
  return result;
}

void Dispatcher::foreign_call(Task& task, platform::Arch arch, uint64_t number) {
  const std::string_view name = arch == platform::Arch::kI386 ? "i386" : "x32";
  policy::Violation violation;
  violation.kind = report::Kind::kSyscallUnimplemented;
  violation.error = Errno::kNoSys;
  violation.syscall = fmt::format("{}:{}", name, number);
  violation.call = fmt::format("{} system call {}", name, number);
  services_.violations.record(&task, std::move(violation));
}

}  // namespace boxrun::syscalls
