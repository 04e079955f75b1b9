// Identity calls (credentials(7), kernel/sys.c) and capabilities (kernel/capability.c).
// Credentials are immutable: each change builds a new set and swaps it in.
#include "sentry/syscalls/cred.h"

#include <algorithm>
#include <array>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

constexpr uint32_t kNoChange = UINT32_MAX;
constexpr int kMaxGroups = 65536;  // NGROUPS_MAX

// Swaps in credentials whose user ids changed.
Result<uint64_t> commit_uids(Task& task, Ref<Credentials> cred) {
  cred->adjust_capabilities_for_uid_change(task.cred());
  task.set_cred(std::move(cred));
  return uint64_t{0};
}
Result<uint64_t> commit(Task& task, Ref<Credentials> cred) {
  task.set_cred(std::move(cred));
  return uint64_t{0};
}

}  // namespace

Result<uint64_t> sys_getuid(Task& task) { return uint64_t{task.cred().ruid}; }
Result<uint64_t> sys_getgid(Task& task) { return uint64_t{task.cred().rgid}; }
Result<uint64_t> sys_geteuid(Task& task) { return uint64_t{task.cred().euid}; }
Result<uint64_t> sys_getegid(Task& task) { return uint64_t{task.cred().egid}; }

Result<uint64_t> sys_setuid(Task& task, Uid uid) {
  if (uid.value == kNoChange) return Errno::kInval;
  const Credentials& old = task.cred();
  Ref<Credentials> cred = old.clone();
  if (old.has_capability(CAP_SETUID)) {
    cred->ruid = cred->suid = uid.value;
  } else if (uid.value != old.ruid && uid.value != old.suid) {
    return Errno::kPerm;
  }
  cred->euid = cred->fsuid = uid.value;
  return commit_uids(task, std::move(cred));
}

Result<uint64_t> sys_setgid(Task& task, Gid gid) {
  if (gid.value == kNoChange) return Errno::kInval;
  const Credentials& old = task.cred();
  Ref<Credentials> cred = old.clone();
  if (old.has_capability(CAP_SETGID)) {
    cred->rgid = cred->sgid = gid.value;
  } else if (gid.value != old.rgid && gid.value != old.sgid) {
    return Errno::kPerm;
  }
  cred->egid = cred->fsgid = gid.value;
  return commit(task, std::move(cred));
}

Result<uint64_t> sys_setreuid(Task& task, Uid ruid, Uid euid) {
  const Credentials& old = task.cred();
  const bool capable = old.has_capability(CAP_SETUID);
  Ref<Credentials> cred = old.clone();
  if (ruid.value != kNoChange) {
    if (!capable && ruid.value != old.ruid && ruid.value != old.euid) return Errno::kPerm;
    cred->ruid = ruid.value;
  }
  if (euid.value != kNoChange) {
    if (!capable && euid.value != old.ruid && euid.value != old.euid && euid.value != old.suid) {
      return Errno::kPerm;
    }
    cred->euid = euid.value;
  }
  // setreuid(2): "the saved set-user-ID is set to the new effective user ID" in these cases.
  if (ruid.value != kNoChange || (euid.value != kNoChange && euid.value != old.ruid)) {
    cred->suid = cred->euid;
  }
  cred->fsuid = cred->euid;
  return commit_uids(task, std::move(cred));
}

Result<uint64_t> sys_setregid(Task& task, Gid rgid, Gid egid) {
  const Credentials& old = task.cred();
  const bool capable = old.has_capability(CAP_SETGID);
  Ref<Credentials> cred = old.clone();
  if (rgid.value != kNoChange) {
    if (!capable && rgid.value != old.rgid && rgid.value != old.egid) return Errno::kPerm;
    cred->rgid = rgid.value;
  }
  if (egid.value != kNoChange) {
    if (!capable && egid.value != old.rgid && egid.value != old.egid && egid.value != old.sgid) {
      return Errno::kPerm;
    }
    cred->egid = egid.value;
  }
  if (rgid.value != kNoChange || (egid.value != kNoChange && egid.value != old.rgid)) {
    cred->sgid = cred->egid;
  }
  cred->fsgid = cred->egid;
  return commit(task, std::move(cred));
}

Result<uint64_t> sys_setresuid(Task& task, Uid ruid, Uid euid, Uid suid) {
  const Credentials& old = task.cred();
  const bool capable = old.has_capability(CAP_SETUID);
  Ref<Credentials> cred = old.clone();
  const auto set = [&](uint32_t wanted, uid_t& field) {
    if (wanted == kNoChange) return true;
    if (!capable && wanted != old.ruid && wanted != old.euid && wanted != old.suid) return false;
    field = wanted;
    return true;
  };
  if (!set(ruid.value, cred->ruid) || !set(euid.value, cred->euid) ||
      !set(suid.value, cred->suid)) {
    return Errno::kPerm;
  }
  cred->fsuid = cred->euid;
  return commit_uids(task, std::move(cred));
}

Result<uint64_t> sys_setresgid(Task& task, Gid rgid, Gid egid, Gid sgid) {
  const Credentials& old = task.cred();
  const bool capable = old.has_capability(CAP_SETGID);
  Ref<Credentials> cred = old.clone();
  const auto set = [&](uint32_t wanted, gid_t& field) {
    if (wanted == kNoChange) return true;
    if (!capable && wanted != old.rgid && wanted != old.egid && wanted != old.sgid) return false;
    field = wanted;
    return true;
  };
  if (!set(rgid.value, cred->rgid) || !set(egid.value, cred->egid) ||
      !set(sgid.value, cred->sgid)) {
    return Errno::kPerm;
  }
  cred->fsgid = cred->egid;
  return commit(task, std::move(cred));
}

Result<uint64_t> sys_getresuid(Task& task, UserOut<uid_t> ruid, UserOut<uid_t> euid,
                               UserOut<uid_t> suid) {
  const Credentials& cred = task.cred();
  TRY(task.mm().write(ruid, cred.ruid));
  TRY(task.mm().write(euid, cred.euid));
  return zero(task.mm().write(suid, cred.suid));
}
Result<uint64_t> sys_getresgid(Task& task, UserOut<gid_t> rgid, UserOut<gid_t> egid,
                               UserOut<gid_t> sgid) {
  const Credentials& cred = task.cred();
  TRY(task.mm().write(rgid, cred.rgid));
  TRY(task.mm().write(egid, cred.egid));
  return zero(task.mm().write(sgid, cred.sgid));
}

// setfsuid(2) and setfsgid(2) cannot fail: they return the previous id.
Result<uint64_t> sys_setfsuid(Task& task, Uid uid) {
  const Credentials& old = task.cred();
  const uint64_t before = old.fsuid;
  const bool allowed = uid.value == old.ruid || uid.value == old.euid || uid.value == old.suid ||
                       uid.value == old.fsuid || old.has_capability(CAP_SETUID);
  if (!allowed || uid.value == kNoChange || uid.value == old.fsuid) return before;
  Ref<Credentials> cred = old.clone();
  cred->fsuid = uid.value;
  TRY(commit_uids(task, std::move(cred)));
  return before;
}
Result<uint64_t> sys_setfsgid(Task& task, Gid gid) {
  const Credentials& old = task.cred();
  const uint64_t before = old.fsgid;
  const bool allowed = gid.value == old.rgid || gid.value == old.egid || gid.value == old.sgid ||
                       gid.value == old.fsgid || old.has_capability(CAP_SETGID);
  if (!allowed || gid.value == kNoChange || gid.value == old.fsgid) return before;
  Ref<Credentials> cred = old.clone();
  cred->fsgid = gid.value;
  TRY(commit(task, std::move(cred)));
  return before;
}

Result<uint64_t> sys_getgroups(Task& task, Int count, UserOut<gid_t> groups) {
  const auto& own = task.cred().groups;
  if (count.value < 0) return Errno::kInval;
  if (count.value == 0) return own.size();
  if (own.size() > static_cast<size_t>(count.value)) return Errno::kInval;
  TRY(task.mm().copy_out(groups.addr, std::as_bytes(std::span(own))));
  return own.size();
}

Result<uint64_t> sys_setgroups(Task& task, Int count, UserIn<gid_t> groups) {
  if (!task.cred().has_capability(CAP_SETGID)) return Errno::kPerm;
  if (count.value < 0 || count.value > kMaxGroups) return Errno::kInval;
  Ref<Credentials> cred = task.cred().clone();
  cred->groups = TRY(task.mm().read_array(groups, static_cast<size_t>(count.value)));
  std::sort(cred->groups.begin(), cred->groups.end());
  return commit(task, std::move(cred));
}

namespace {

constexpr auto low(CapSet set) { return static_cast<uint32_t>(set.bits); }
constexpr auto high(CapSet set) { return static_cast<uint32_t>(set.bits >> 32); }
using CapData = std::array<__user_cap_data_struct, 2>;

// How many 32-bit halves the header's version speaks of; for an unknown version the kernel writes
// its own one back and fails, unless the caller only asked (capget(2)).
Result<size_t> halves_of(Task& task, UserInOut<__user_cap_header_struct> address,
                         __user_cap_header_struct& header) {
  header = TRY(task.mm().read(address.in()));
  switch (header.version) {
    case _LINUX_CAPABILITY_VERSION_1:
      return size_t{1};
    case _LINUX_CAPABILITY_VERSION_2:
    case _LINUX_CAPABILITY_VERSION_3:
      return size_t{2};
    default:
      break;
  }
  __user_cap_header_struct known = header;
  known.version = _LINUX_CAPABILITY_VERSION_3;
  TRY(task.mm().write(address.out(), known));
  return Errno::kInval;
}

}  // namespace

Result<uint64_t> sys_capget(Task& task, UserInOut<__user_cap_header_struct> address,
                            UserOut<__user_cap_data_struct> out) {
  __user_cap_header_struct header{};
  const auto halves = halves_of(task, address, header);
  if (!halves.ok())
    return !out && halves.error() == Errno::kInval ? Result<uint64_t>(0) : halves.error();
  if (header.pid < 0) return Errno::kInval;
  Ref<const Credentials> cred = task.cred_ref();
  if (header.pid != 0 && header.pid != task.tid()) {
    const Ref<Task> other = task.kernel().find_task(header.pid);
    if (!other) return Errno::kSrch;
    cred = other->cred_ref();
  }
  if (!out) return uint64_t{0};
  const CapData data = {{{low(cred->effective), low(cred->permitted), low(cred->inheritable)},
                         {high(cred->effective), high(cred->permitted), high(cred->inheritable)}}};
  return zero(task.mm().copy_out(out.addr, std::as_bytes(std::span(data).first(*halves))));
}

Result<uint64_t> sys_capset(Task& task, UserInOut<__user_cap_header_struct> address,
                            UserIn<__user_cap_data_struct> from) {
  __user_cap_header_struct header{};
  const size_t halves = TRY(halves_of(task, address, header));
  if (header.pid != 0 && header.pid != task.tid()) return Errno::kPerm;
  CapData data{};
  TRY(task.mm().copy_in(from.addr, std::as_writable_bytes(std::span(data).first(halves))));
  const auto join = [](uint32_t lower, uint32_t upper) {
    return CapSet{(uint64_t{upper} << 32 | lower) & CapSet::all().bits};
  };
  const CapSet effective = join(data[0].effective, data[1].effective);
  const CapSet permitted = join(data[0].permitted, data[1].permitted);
  const CapSet inheritable = join(data[0].inheritable, data[1].inheritable);

  const Credentials& old = task.cred();
  const auto within = [](CapSet set, uint64_t bits) { return (set.bits & ~bits) == 0; };
  // security/commoncap.c: cap_capset.
  const bool may_inherit = old.has_capability(CAP_SETPCAP) ||
                           within(inheritable, old.inheritable.bits | old.permitted.bits);
  if (!may_inherit || !within(inheritable, old.inheritable.bits | old.bounding.bits) ||
      !within(permitted, old.permitted.bits) || !within(effective, permitted.bits)) {
    return Errno::kPerm;
  }
  Ref<Credentials> cred = old.clone();
  cred->effective = effective;
  cred->permitted = permitted;
  cred->inheritable = inheritable;
  cred->ambient.bits &= permitted.bits & inheritable.bits;
  return commit(task, std::move(cred));
}

}  // namespace boxrun::syscalls
