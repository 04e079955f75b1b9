#include "sentry/kernel/inspect.h"

#include <linux/capability.h>

#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"

namespace boxrun::kernel {

// kernel/ptrace.c: __ptrace_may_access, and cap_ptrace_access_check.
Result<void> may_inspect(Task& target, InspectAs as) {
  Task* reader = Task::current();
  if (reader == nullptr || &reader->group() == &target.group()) return {};
  const Credentials& mine = reader->cred();
  const Ref<Credentials> theirs = target.cred_ref();
  if (mine.has_capability(CAP_SYS_PTRACE)) return {};
  const bool real = as == InspectAs::kReal;
  const uid_t uid = real ? mine.ruid : mine.fsuid;
  const gid_t gid = real ? mine.rgid : mine.fsgid;
  const bool same_user = uid == theirs->euid && uid == theirs->suid && uid == theirs->ruid &&
                         gid == theirs->egid && gid == theirs->sgid && gid == theirs->rgid;
  const bool dumpable = target.group().dumpable.load() == ThreadGroup::Dumpable::kYes;
  const CapSet caps = real ? mine.permitted : mine.effective;
  const bool as_capable = (theirs->permitted.bits & ~caps.bits) == 0;
  return same_user && dumpable && as_capable ? Errno::kOk : Errno::kAcces;
}

}  // namespace boxrun::kernel
