#include <asm/prctl.h>
#include <linux/securebits.h>
#include <signal.h>
#include <sys/prctl.h>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/process.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

constexpr size_t kNameSize = 16;  // TASK_COMM_LEN, with the NUL

Result<uint64_t> set_pdeath_signal(Task& task, uint64_t signo) {
  if (signo > kernel::kSignalCount) return Errno::kInval;
  kernel::TreeLock tree(task.kernel().tree());
  task.pdeath_signal = static_cast<int>(signo);
  return uint64_t{0};
}

Result<uint64_t> set_dumpable(Task& task, uint64_t value) {
  if (value > 1) return Errno::kInval;
  task.group().dumpable =
      value == 1 ? kernel::ThreadGroup::Dumpable::kYes : kernel::ThreadGroup::Dumpable::kNo;
  return uint64_t{0};
}

Result<uint64_t> set_name(Task& task, uint64_t addr) {
  // Longer names are cut, not refused: only what fits is read (prctl(2)).
  char name[kNameSize] = {};
  for (size_t i = 0; i + 1 < kNameSize; i++) {
    name[i] = TRY(task.mm().read(UserIn<char>{addr + i}));
    if (name[i] == '\0') break;
  }
  task.set_comm(name);
  return uint64_t{0};
}

Result<uint64_t> get_name(Task& task, uint64_t addr) {
  char name[kNameSize] = {};
  const std::string comm = task.comm();
  comm.copy(name, kNameSize - 1);
  return zero(task.mm().copy_out(addr, as_bytes_of(name, sizeof name)));
}

Result<uint64_t> set_securebits(Task& task, uint64_t bits) {
  const Credentials& old = task.cred();
  constexpr uint64_t kKnown = SECURE_ALL_BITS | SECURE_ALL_LOCKS;
  // security/commoncap.c: cap_task_prctl.
  const uint64_t locked = old.securebits & SECURE_ALL_LOCKS;
  const bool changes_locked = ((locked >> 1) & (old.securebits ^ bits)) != 0;
  const bool drops_lock = (locked & ~bits) != 0;
  if ((bits & ~kKnown) != 0 || changes_locked || drops_lock || !old.has_capability(CAP_SETPCAP)) {
    return Errno::kPerm;
  }
  Ref<Credentials> cred = old.clone();
  cred->securebits = static_cast<uint32_t>(bits);
  task.set_cred(std::move(cred));
  return uint64_t{0};
}

Result<uint64_t> set_keep_caps(Task& task, uint64_t value) {
  if (value > 1) return Errno::kInval;
  if ((task.cred().securebits & SECBIT_KEEP_CAPS_LOCKED) != 0) return Errno::kPerm;
  Ref<Credentials> cred = task.cred().clone();
  cred->securebits = value == 1 ? cred->securebits | SECBIT_KEEP_CAPS
                                : cred->securebits & ~uint32_t{SECBIT_KEEP_CAPS};
  task.set_cred(std::move(cred));
  return uint64_t{0};
}

Result<uint64_t> read_bounding(Task& task, uint64_t cap) {
  if (cap > CAP_LAST_CAP) return Errno::kInval;
  return task.cred().bounding.has(static_cast<int>(cap)) ? 1 : 0;
}

Result<uint64_t> drop_bounding(Task& task, uint64_t cap) {
  if (cap > CAP_LAST_CAP) return Errno::kInval;
  if (!task.cred().has_capability(CAP_SETPCAP)) return Errno::kPerm;
  Ref<Credentials> cred = task.cred().clone();
  cred->bounding.bits &= ~(uint64_t{1} << cap);
  task.set_cred(std::move(cred));
  return uint64_t{0};
}

Result<uint64_t> change_ambient(Task& task, uint64_t operation, uint64_t cap) {
  Ref<Credentials> cred = task.cred().clone();
  if (operation == PR_CAP_AMBIENT_CLEAR_ALL) {
    if (cap != 0) return Errno::kInval;
    cred->ambient = {};
  } else {
    if (cap > CAP_LAST_CAP) return Errno::kInval;
    const uint64_t bit = uint64_t{1} << cap;
    if (operation == PR_CAP_AMBIENT_IS_SET) return (cred->ambient.bits & bit) != 0 ? 1 : 0;
    if (operation == PR_CAP_AMBIENT_RAISE) {
      if ((cred->permitted.bits & cred->inheritable.bits & bit) == 0 ||
          (cred->securebits & SECBIT_NO_CAP_AMBIENT_RAISE) != 0) {
        return Errno::kPerm;
      }
      cred->ambient.bits |= bit;
    } else if (operation == PR_CAP_AMBIENT_LOWER) {
      cred->ambient.bits &= ~bit;
    } else {
      return Errno::kInval;
    }
  }
  task.set_cred(std::move(cred));
  return uint64_t{0};
}

Result<uint64_t> set_subreaper(Task& task, uint64_t value) {
  kernel::TreeLock tree(task.kernel().tree());
  task.group().links(tree).subreaper = value != 0;
  return uint64_t{0};
}

Result<uint64_t> get_subreaper(Task& task, UserOut<int> out) {
  int value = 0;
  {
    kernel::TreeLock tree(task.kernel().tree());
    value = task.group().links(tree).subreaper ? 1 : 0;
  }
  return zero(task.mm().write(out, value));
}

bool any(std::initializer_list<ULong> args) {
  return std::any_of(args.begin(), args.end(), [](ULong a) { return a.value != 0; });
}

// Succeeds for the one value that says how things are.
Result<uint64_t> only(ULong arg, uint64_t value) {
  if (arg.value != value) return Errno::kInval;
  return uint64_t{0};
}

// Kept with the memory and told again; whether pages are huge is the Sentry's business.
Result<uint64_t> huge_pages(Task& task, Command option, ULong arg2, ULong arg3, ULong arg4,
                            ULong arg5) {
  std::atomic<bool>& disabled = task.mm().huge_pages_disabled;
  if (any({arg3, arg4, arg5})) return Errno::kInval;
  if (option.value == PR_SET_THP_DISABLE) {
    disabled = arg2.value != 0;
    return uint64_t{0};
  }
  if (arg2.value != 0) return Errno::kInval;
  return disabled ? 1 : 0;
}

// How speculation is controlled is not known of the host: as if nothing were mitigated, which is
// what /proc/PID/status says.
Result<uint64_t> speculation(ULong feature) {
  switch (feature.value) {
    case PR_SPEC_STORE_BYPASS:
    case PR_SPEC_INDIRECT_BRANCH:
      return uint64_t{PR_SPEC_ENABLE};
    case PR_SPEC_L1D_FLUSH:
      return uint64_t{PR_SPEC_FORCE_DISABLE};
    default:
      return Errno::kNoDev;
  }
}

// What the guest may ask for but not change: it is a matter of the hardware or of the Sentry.
Result<uint64_t> unchanging(Task& task, Command option, ULong arg2, ULong arg3, ULong arg4,
                            ULong arg5) {
  switch (option.value) {
    case PR_GET_SECCOMP:
      return 0;  // no filter of the guest's own
    case PR_GET_TSC:
      return zero(task.mm().write(UserOut<int>{arg2.value}, PR_TSC_ENABLE));
    case PR_SET_TSC:
      return only(arg2, PR_TSC_ENABLE);  // no platform here makes rdtsc fault
    case PR_GET_TIMING:
      return uint64_t{PR_TIMING_STATISTICAL};
    case PR_SET_TIMING:
      return only(arg2, PR_TIMING_STATISTICAL);
    case PR_MCE_KILL_GET:
      if (any({arg2, arg3, arg4, arg5})) return Errno::kInval;
      return uint64_t{PR_MCE_KILL_DEFAULT};
    case PR_GET_SPECULATION_CTRL:
      return any({arg3, arg4, arg5}) ? Errno::kInval : speculation(arg2);
    case PR_SET_SPECULATION_CTRL:
      if (any({arg4, arg5})) return Errno::kInval;
      TRY(speculation(arg2));
      return Errno::kNxIo;  // no control per task (prctl(2))
    // There are no performance events to stop.
    case PR_TASK_PERF_EVENTS_DISABLE:
    case PR_TASK_PERF_EVENTS_ENABLE:
      return uint64_t{0};
    // Naming anonymous memory needs CONFIG_ANON_VMA_NAME, which this Linux lacks; PR_SET_MM needs
    // CAP_SYS_RESOURCE. Programs go on without either.
    default:
      return Errno::kInval;
  }
}

}  // namespace

Result<uint64_t> sys_prctl(Task& task, Command option, ULong arg2, ULong arg3, ULong arg4,
                           ULong arg5) {
  using Dumpable = kernel::ThreadGroup::Dumpable;
  switch (option.value) {
    case PR_SET_PDEATHSIG:
      return set_pdeath_signal(task, arg2.value);
    case PR_GET_PDEATHSIG:
      return zero(task.mm().write(UserOut<int>{arg2.value}, task.pdeath_signal));
    case PR_SET_DUMPABLE:
      return set_dumpable(task, arg2.value);
    case PR_GET_DUMPABLE:
      return task.group().dumpable == Dumpable::kYes ? 1 : 0;
    case PR_SET_NAME:
      return set_name(task, arg2.value);
    case PR_GET_NAME:
      return get_name(task, arg2.value);
    case PR_SET_KEEPCAPS:
      return set_keep_caps(task, arg2.value);
    case PR_GET_KEEPCAPS:
      return (task.cred().securebits & SECBIT_KEEP_CAPS) != 0 ? 1 : 0;
    case PR_SET_SECUREBITS:
      return set_securebits(task, arg2.value);
    case PR_GET_SECUREBITS:
      return uint64_t{task.cred().securebits};
    case PR_CAPBSET_READ:
      return read_bounding(task, arg2.value);
    case PR_CAPBSET_DROP:
      return drop_bounding(task, arg2.value);
    case PR_CAP_AMBIENT:
      if (any({arg4, arg5})) return Errno::kInval;
      return change_ambient(task, arg2.value, arg3.value);
    case PR_SET_NO_NEW_PRIVS:
      if (arg2.value != 1 || any({arg3, arg4, arg5})) return Errno::kInval;
      task.no_new_privs = true;
      return uint64_t{0};
    case PR_GET_NO_NEW_PRIVS:
      if (any({arg2, arg3, arg4, arg5})) return Errno::kInval;
      return task.no_new_privs ? 1 : 0;
    case PR_SET_CHILD_SUBREAPER:
      return set_subreaper(task, arg2.value);
    case PR_GET_CHILD_SUBREAPER:
      return get_subreaper(task, UserOut<int>{arg2.value});
    case PR_SET_TIMERSLACK:
      task.timer_slack = arg2.value == 0 ? 50'000 : static_cast<Nanos>(arg2.value & INT64_MAX);
      return uint64_t{0};
    case PR_GET_TIMERSLACK:
      return static_cast<uint64_t>(task.timer_slack);
    case PR_SET_THP_DISABLE:
    case PR_GET_THP_DISABLE:
      return huge_pages(task, option, arg2, arg3, arg4, arg5);
    case PR_GET_TID_ADDRESS:
      return zero(task.mm().write(UserOut<uint64_t>{arg2.value}, task.clear_child_tid));
    default:
      return unchanging(task, option, arg2, arg3, arg4, arg5);
  }
}

Result<uint64_t> sys_arch_prctl(Task& task, Command code, ULong addr) {
  switch (code.value) {
    case ARCH_SET_FS:
    case ARCH_SET_GS: {
      if (addr.value >= task.mm().user_addresses().end) return Errno::kPerm;
      auto& registers = task.cpu().registers_for_write();
      (code.value == ARCH_SET_FS ? registers.fs_base : registers.gs_base) = addr.value;
      return uint64_t{0};
    }
    case ARCH_GET_FS:
      return zero(task.mm().write(UserOut<uint64_t>{addr.value}, task.cpu().registers().fs_base));
    case ARCH_GET_GS:
      return zero(task.mm().write(UserOut<uint64_t>{addr.value}, task.cpu().registers().gs_base));
    default:
      return Errno::kInval;
  }
}

// Kept and inherited; ADDR_NO_RANDOMIZE takes effect with the next execve.
Result<uint64_t> sys_personality(Task& task, Unsigned persona) {
  constexpr uint32_t kQuery = 0xffffffff;
  const uint32_t before = task.persona;
  if (persona.value != kQuery) task.persona = persona.value;
  return uint64_t{before};
}

}  // namespace boxrun::syscalls
