#include "sentry/cred/credentials.h"

#include <linux/securebits.h>

#include <algorithm>
#include <utility>

namespace boxrun {
namespace {

constexpr uint64_t bit(int cap) { return uint64_t{1} << cap; }
// The capabilities that follow the fsuid (setfsuid(2), include/linux/capability.h CAP_FS_SET).
constexpr uint64_t kFsCaps = bit(CAP_CHOWN) | bit(CAP_DAC_OVERRIDE) | bit(CAP_DAC_READ_SEARCH) |
                             bit(CAP_FOWNER) | bit(CAP_FSETID) | bit(CAP_LINUX_IMMUTABLE) |
                             bit(CAP_MAC_OVERRIDE) | bit(CAP_MKNOD);

}  // namespace

Credentials::Credentials(const Credentials& o)
    : ruid(o.ruid),
      euid(o.euid),
      suid(o.suid),
      fsuid(o.fsuid),
      rgid(o.rgid),
      egid(o.egid),
      sgid(o.sgid),
      fsgid(o.fsgid),
      groups(o.groups),
      permitted(o.permitted),
      effective(o.effective),
      inheritable(o.inheritable),
      bounding(o.bounding),
      ambient(o.ambient),
      securebits(o.securebits),
      user_ns(o.user_ns) {}

Ref<Credentials> Credentials::clone() const { return adopt_ref(new Credentials(*this)); }

bool Credentials::in_group(gid_t gid) const {
  return gid == fsgid || std::binary_search(groups.begin(), groups.end(), gid);
}

void Credentials::adjust_capabilities_for_uid_change(const Credentials& before) {
  if ((securebits & SECBIT_NO_SETUID_FIXUP) != 0) return;
  const bool had_root = before.ruid == 0 || before.euid == 0 || before.suid == 0;
  const bool has_root = ruid == 0 || euid == 0 || suid == 0;
  if (had_root && !has_root) {
    if ((securebits & SECBIT_KEEP_CAPS) == 0) {
      permitted = {};
      effective = {};
    }
    ambient = {};
  }
  if (before.euid == 0 && euid != 0) effective = {};
  if (before.euid != 0 && euid == 0) effective = permitted;
  if (before.euid == euid && before.fsuid == 0 && fsuid != 0) effective.bits &= ~kFsCaps;
  if (before.euid == euid && before.fsuid != 0 && fsuid == 0) {
    effective.bits |= permitted.bits & kFsCaps;
  }
}

Ref<Credentials> Credentials::create(uid_t uid, gid_t gid, std::vector<gid_t> groups, CapSet caps) {
  auto cred = make_ref<Credentials>();
  cred->ruid = cred->euid = cred->suid = cred->fsuid = uid;
  cred->rgid = cred->egid = cred->sgid = cred->fsgid = gid;
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  cred->groups = std::move(groups);
  cred->bounding = caps;
  if (uid == 0) cred->permitted = cred->effective = caps;
  cred->user_ns = make_ref<UserNamespace>();
  return cred;
}

}  // namespace boxrun
