#include <fmt/format.h>

#include "src/report/escape.h"
#include "src/report/report.h"

namespace boxrun::report {

std::string allowing_option(const Record& record, const std::string& home) {
  std::string target = record.target;
  if (!home.empty() && home != "/" && target.starts_with(home + "/")) {
    target = "~" + target.substr(home.size());
  }
  switch (record.kind) {
    case Kind::kSyscallDeny:
      return fmt::format("--deny-syscall {}=log", shell_word(record.syscall));
    case Kind::kFileRead:
    case Kind::kFileExec:
      return "--ro " + shell_word(target);
    case Kind::kFileWrite:
      return "--rw " + shell_word(target);
    case Kind::kLimitMemory:
      return "--memory SIZE";
    case Kind::kLimitCpuTime:
      return "--cpu-time DURATION";
    case Kind::kLimitProcesses:
      return "--pids N";
    case Kind::kLimitOpenFiles:
      return "--open-files N";
    case Kind::kLimitFileSize:
      return "--fsize SIZE";
    case Kind::kLimitOutput:
      return "--output-limit SIZE";
    case Kind::kLimitTmpSize:
      return "--tmp-size SIZE";
    case Kind::kLimitTimeout:
      return "--timeout DURATION";
    // This version has no network beyond the loopback, and what is not implemented cannot be had.
    case Kind::kNetConnect:
    case Kind::kNetBind:
    case Kind::kNetDns:
    case Kind::kSyscallUnimplemented:
      break;
  }
  return {};
}

}  // namespace boxrun::report
