#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/errno.h"
#include "src/report/settings.h"

namespace boxrun::report {

enum class Kind : uint8_t {
  kSyscallDeny,           // a rule of the profile
  kSyscallUnimplemented,  // the Sentry has no such call, or not this form of it
  kFileRead,              // hidden, or outside what is mounted
  kFileWrite,
  kFileExec,
  kNetConnect,
  kNetBind,
  kNetDns,
  kLimitMemory,
  kLimitCpuTime,
  kLimitProcesses,
  kLimitOpenFiles,
  kLimitFileSize,
  kLimitOutput,
  kLimitTmpSize,
  kLimitOverlaySize,
  kLimitTimeout,
  kProcessLost,  // the host process that a guest's ran in died, or could not be had
};
inline constexpr Kind kLastKind = Kind::kProcessLost;

// "file.read", "limit.cpu_time" ...
std::string_view kind_name(Kind kind);
// The severity of a kind unless a rule says otherwise.
Severity default_severity(Kind kind);
// "low", "medium", "high".
std::string_view severity_name(Severity severity);

// A limit in time as a record's target has it: "0.5s".
std::string limit_text(std::chrono::nanoseconds limit);

// What became of the attempt.
enum class Verdict : uint8_t {
  kDenied,  // the call returned `error`
  kLogged,  // it was let pass and only recorded
  kKilled,  // the process was killed for it
};
inline constexpr Verdict kLastVerdict = Verdict::kKilled;

struct Process {
  int32_t pid = 0;  // in the sandbox
  std::string command;

  bool operator==(const Process&) const = default;
};

// The detail of a record about a path where nothing is mounted. More than text: the monitor, which
// knows the host, looks for it to say why, or that nothing is there either.
inline constexpr const char* kNotMounted = "not mounted";

// One violation: something the target reached for that the profile withholds. Repetitions of the
// same (kind, rule, target) are one record with a count. Every string may hold any byte that the
// target chose; whoever prints one escapes it (escape.h).
struct Record {
  Kind kind = Kind::kSyscallDeny;
  Severity severity = Severity::kLow;
  Verdict verdict = Verdict::kDenied;
  Errno error = Errno::kOk;  // of kDenied: what the call returned
  // The guest's path, "ADDRESS:PORT", or the limit (bytes, "0.5s"); of system calls empty.
  std::string target;
  std::string detail;   // of a path why ("hidden", "read-only"); of an address the host's name
  std::string grant;    // of a path: what an option must name instead; empty: the path itself
  std::string syscall;  // "openat"
  std::string call;     // decoded: openat(AT_FDCWD, "/etc/shadow", O_RDONLY)
  Process process;
  std::vector<Process> chain;  // its parent, that one's parent, ... to the first process
  int64_t first_time = 0;      // nanoseconds since 1970
  uint64_t count = 1;
  std::string rule;  // what decided: "default (built in):21", "--hide ~/.ssh"

  bool operator==(const Record&) const = default;
};

// A file that differs in an overlay when the sandbox ends.
struct Change {
  enum class Op : uint8_t { kAdded, kModified, kDeleted };
  Op op = Op::kAdded;
  std::string path;

  bool operator==(const Change&) const = default;
};

}  // namespace boxrun::report
