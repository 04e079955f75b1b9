#include <fmt/format.h>

#include <algorithm>

#include "src/base/path.h"
#include "src/report/escape.h"
#include "src/report/report.h"

namespace boxrun::report {

Advice advise(const Record& record, const std::string& home) {
  // Options that come with the network broker: named, because they say what would be needed.
  constexpr const char* kLater = "not in this version";
  std::string target = record.grant.empty() ? record.target : record.grant;
  if (!home.empty() && home != "/" && target.starts_with(home + "/")) {
    target = "~" + target.substr(home.size());
  }
  switch (record.kind) {
    case Kind::kSyscallDeny:
      return {fmt::format("--deny-syscall {}=log", shell_word(record.syscall)), ""};
    case Kind::kSyscallUnimplemented:
      return {"", "this version does not implement the call"};
    case Kind::kFileRead:
    case Kind::kFileExec:
      return {"--ro " + shell_word(target), ""};
    case Kind::kFileWrite:
      // No mount can be made there; src/cli/mount_plan.cpp says so, too.
      if (target == "/") return {"--tmpfs /", "what is written there is gone afterwards"};
      if (is_within(target, "/sys") || is_within(target, "/proc"))
        return {"", "the sandbox has its own, which nobody may change"};
      return {"--rw " + shell_word(target), ""};
    case Kind::kNetConnect: {
      std::string peer = record.target;
      if (!record.detail.empty())
        peer = record.detail + peer.substr(std::min(peer.rfind(':'), peer.size()));
      return {"--net allow --allow-host " + shell_word(peer), kLater};
    }
    case Kind::kNetDns:
      return {"--net allow --allow-host " + shell_word(target), kLater};
    case Kind::kNetBind:
      return {"--net host", kLater};
    case Kind::kLimitMemory:
      return {"--memory SIZE", ""};
    case Kind::kLimitCpuTime:
      return {"--cpu-time TIME", ""};
    case Kind::kLimitProcesses:
      return {"--pids N", ""};
    case Kind::kLimitOpenFiles:
      return {"--open-files N", ""};
    case Kind::kLimitFileSize:
      return {"--fsize SIZE", ""};
    case Kind::kLimitOutput:
      return {"--output-limit SIZE", ""};
    case Kind::kLimitTmpSize:
      return {"--tmp-size SIZE", ""};
    case Kind::kLimitOverlaySize:
      return {"--overlay-size SIZE", ""};
    case Kind::kProcessLost:
      return {"",
              "it ended from outside, for want of the host's memory, or at its limit of threads"};
    case Kind::kLimitTimeout:
      return {"--timeout TIME", ""};
  }
  return {};
}

}  // namespace boxrun::report
