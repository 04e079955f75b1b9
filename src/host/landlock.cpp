#include "src/host/landlock.h"

#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace boxrun::host {
namespace {

// Debian 12's header ends at version 1. These are from landlock(7).
constexpr uint64_t kTruncate = 1 << 14;  // version 3
constexpr uint64_t kIoctlDev = 1 << 15;  // version 5
constexpr uint64_t kBindTcp = 1 << 0;    // version 4, handled_access_net
constexpr uint64_t kConnectTcp = 1 << 1;
constexpr uint64_t kScopeAbstractUnix = 1 << 0;  // version 6, scoped
constexpr uint64_t kScopeSignal = 1 << 1;

constexpr uint64_t kReadRights = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
// Neither device nodes nor ioctls on them: a mount grants files.
constexpr uint64_t kWriteRights =
    kReadRights | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
    LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM |
    LANDLOCK_ACCESS_FS_REFER | kTruncate;
// What a rule on a single file may name (security/landlock/fs.c: ACCESS_FILE).
constexpr uint64_t kFileRights =
    LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate;

struct RulesetAttributes {
  uint64_t fs;
  uint64_t net;
  uint64_t scoped;
};

// Everything that a host of this version can handle, and so refuse where no rule grants it.
RulesetAttributes everything(int abi) {
  RulesetAttributes handled{};
  handled.fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
  if (abi >= 2) handled.fs |= LANDLOCK_ACCESS_FS_REFER;
  if (abi >= 3) handled.fs |= kTruncate;
  if (abi >= 5) handled.fs |= kIoctlDev;
  if (abi >= 4) handled.net = kBindTcp | kConnectTcp;
  if (abi >= 6) handled.scoped = kScopeAbstractUnix | kScopeSignal;
  return handled;
}

size_t attributes_size(int abi) {
  if (abi >= 6) return sizeof(RulesetAttributes);
  return abi >= 4 ? offsetof(RulesetAttributes, scoped) : offsetof(RulesetAttributes, net);
}

Failure landlock_failure(const char* what, Errno error) {
  return {what, "landlock", error,
          "needs Linux 5.13 with landlock among its security modules (lsm=)"};
}

MaybeFailure add_rule(int ruleset, const FileGrant& grant, uint64_t handled) {
  struct stat status = {};
  if (::fstat(grant.fd, &status) < 0) return landlock_failure("look at a mount", last_error());
  uint64_t rights = grant.access == MountAccess::kReadWrite ? kWriteRights : kReadRights;
  if (!S_ISDIR(status.st_mode)) rights &= kFileRights;
  landlock_path_beneath_attr rule = {};
  rule.allowed_access = rights & handled;
  rule.parent_fd = grant.fd;
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0) {
    return landlock_failure("grant a mount", last_error());
  }
  return std::nullopt;
}

}  // namespace

Result<int> landlock_abi() {
  return host_result(static_cast<int>(
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION)));
}

MaybeFailure restrict_files(std::span<const FileGrant> grants) {
  const Result<int> abi = landlock_abi();
  if (!abi) return landlock_failure("use Landlock", abi.error());
  const RulesetAttributes handled = everything(*abi);
  const Result<UniqueFd> ruleset = own_fd(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &handled, attributes_size(*abi), 0)));
  if (!ruleset) return landlock_failure("make a Landlock ruleset", ruleset.error());
  for (const FileGrant& grant : grants) {
    if (MaybeFailure failure = add_rule((*ruleset).get(), grant, handled.fs)) return failure;
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    return landlock_failure("set no_new_privs", last_error());
  }
  if (::syscall(SYS_landlock_restrict_self, (*ruleset).get(), 0) < 0) {
    return landlock_failure("enforce the Landlock ruleset", last_error());
  }
  return std::nullopt;
}

}  // namespace boxrun::host
