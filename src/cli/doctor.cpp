#include "src/cli/doctor.h"

#include <fmt/format.h>
#include <linux/seccomp.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "src/base/errno_text.h"
#include "src/base/fd.h"
#include "src/cli/attempt.h"
#include "src/cli/platform_choice.h"
#include "src/host/landlock.h"
#include "src/host/namespaces.h"
#include "src/host/start_message.h"
#include "src/report/escape.h"

namespace boxrun::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string words(Errno error) { return errno_text(error); }

HostCheck check_kernel() {
  utsname name{};
  ::uname(&name);
  return {
      "kernel", true, false, fmt::format("{} {} {}", name.sysname, name.release, name.machine), {}};
}

HostCheck check_platform(const PlatformTrial& trial) {
  if (trial.failure) {
    return {"platform " + trial.kind, false, false,
            fmt::format("cannot {}: {}", trial.failure->what, words(trial.failure->error)),
            trial.failure->remedy};
  }
  return {"platform " + trial.kind,
          true,
          false,
          fmt::format("{:.2f} us per system call", static_cast<double>(trial.call.count()) / 1000),
          {}};
}

HostCheck check_choice(const std::vector<PlatformTrial>& trials) {
  const std::string best = cheapest(trials);
  const auto working =
      std::ranges::count_if(trials, [](const PlatformTrial& t) { return !t.failure; });
  if (best.empty()) return {"platform auto", false, true, "there is none", {}};
  return {"platform auto",
          true,
          true,
          fmt::format("{}: {}", best, working > 1 ? "the cheapest" : "the only one that works"),
          {}};
}

HostCheck check_namespaces() {
  const host::StartMessage message = attempt_in_child([]() -> host::StartMessage {
    Result<host::Forked> forked = host::fork_into_namespaces({});
    if (!forked) return {Failure{"fork", "namespaces", forked.error(), {}}, {}};
    if (forked->in_child()) ::_exit(0);
    ::waitpid(forked->pid, nullptr, 0);
    return {{}, forked->namespaces};
  });
  HostCheck check{"namespaces", !message.layers.empty(), false, message.layers.names(), {}};
  if (!check.ok) {
    check.detail = "refused by this host";
    check.remedy =
        "not needed; to have this layer: sysctl user.max_user_namespaces, "
        "kernel.apparmor_restrict_unprivileged_userns, or the container's seccomp profile";
  }
  return check;
}

HostCheck check_landlock() {
  const Result<int> version = host::landlock_abi();
  if (version) return {"landlock", true, false, fmt::format("version {}", *version), {}};
  return {"landlock", false, false, words(version.error()),
          "boot with lsm=landlock,... on Linux 5.13 or newer"};
}

HostCheck check_seccomp() {
  uint32_t action = SECCOMP_RET_KILL_PROCESS;
  if (::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) {
    return {"seccomp", true, true, "filters with kill", {}};
  }
  return {"seccomp", false, true, words(last_error()), "use a kernel with CONFIG_SECCOMP_FILTER"};
}

HostCheck check_open_files() {
  // Enough for channels, standard streams and some donated files; what is missing costs re-walks.
  constexpr rlim_t kEnough = 256;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::string most =
      limit.rlim_max == RLIM_INFINITY ? "unlimited" : std::to_string(limit.rlim_max);
  const bool ok = limit.rlim_max >= kEnough;
  return {"open files", ok, false, fmt::format("at most {}", most), ok ? "" : "raise ulimit -Hn"};
}

}  // namespace

std::vector<HostCheck> examine_host() {
  std::vector<HostCheck> checks{check_kernel()};
  const std::vector<PlatformTrial> trials = try_platforms();
  for (const PlatformTrial& trial : trials) checks.push_back(check_platform(trial));
  for (HostCheck& check : std::array{check_choice(trials), check_seccomp(), check_namespaces(),
                                     check_landlock(), check_open_files()}) {
    checks.push_back(std::move(check));
  }
  return checks;
}

bool is_usable(const std::vector<HostCheck>& checks) {
  const auto works = [&](std::string_view name) {
    return std::ranges::any_of(
        checks, [&](const HostCheck& check) { return check.name == name && check.ok; });
  };
  const bool required = std::ranges::all_of(
      checks, [](const HostCheck& check) { return check.ok || !check.required; });
  // One file boundary there must be (src/host/README.md).
  return required && (works("namespaces") || works("landlock"));
}

std::string doctor_text(const std::vector<HostCheck>& checks) {
  std::string out;
  for (const HostCheck& check : checks) {
    out += fmt::format("{:<4} {:<16} {}\n",
                       check.ok         ? "ok"
                       : check.required ? "FAIL"
                                        : "no",
                       check.name, report::escape_text(check.detail));
    if (!check.ok && !check.remedy.empty())
      out += fmt::format("     {:<16} {}\n", "", check.remedy);
  }
  return out + (is_usable(checks) ? "boxrun can run programs here\n"
                                  : "boxrun cannot run programs here\n");
}

std::string doctor_json(const std::vector<HostCheck>& checks) {
  Json rows = Json::array();
  for (const HostCheck& check : checks) {
    rows.push_back({{"name", check.name},
                    {"ok", check.ok},
                    {"required", check.required},
                    {"detail", report::valid_utf8(check.detail)},
                    {"remedy", check.remedy.empty() ? Json(nullptr) : Json(check.remedy)}});
  }
  const Json out = {{"v", 1}, {"usable", is_usable(checks)}, {"checks", std::move(rows)}};
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace boxrun::cli
