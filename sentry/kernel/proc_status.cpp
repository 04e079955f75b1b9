// What ps and top read: status, stat, statm, limits (fs/proc/array.c).
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "sentry/kernel/job_control.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/proc_node.h"
#include "sentry/kernel/scheduling.h"
#include "sentry/kernel/thread_group.h"
#include "src/base/cpu_list.h"

namespace boxrun::kernel {
namespace {

constexpr Nanos kTick = kSecond / 100;  // USER_HZ

// Whatever the tree lock guards of a process.
struct Family {
  pid_t parent = 0, group = 0, session = 0, foreground = -1;
  bool terminal = false;
  int exit_signal = 0, exit_status = 0;
  Accounting own, children;
};

Family family_of(ThreadGroup& group) {
  TreeLock tree(group.kernel().tree());
  ThreadGroup::Links& links = group.links(tree);
  Family family;
  if (links.parent != nullptr) family.parent = links.parent->tgid;
  if (const ProcessGroup* members = links.process_group.get()) {
    family.group = members->id;
    family.session = members->session->id;
    const Session::Links& session = members->session->links(tree);
    family.terminal = static_cast<bool>(session.terminal);
    if (session.terminal && session.foreground) family.foreground = session.foreground->id;
  }
  family.exit_signal = links.exit_signal;
  family.exit_status = links.exit_status;
  family.own = group.accounting(tree);
  family.children = links.children_usage;
  return family;
}

struct SignalSets {
  SignalSet pending, shared, blocked, ignored, caught;
};

SignalSets signals_of(Task& task) {
  SignalLock lock(task.group());
  const TaskSignals& own = task.signals(lock);
  const Ref<SignalHandlers> handlers = task.group().handlers(lock);
  return {own.pending.set(), task.group().signals(lock).shared.set(), own.blocked,
          handlers->explicitly_ignored(), handlers->caught()};
}

const char* state_name(char letter) {
  switch (letter) {
    case 'R':
      return "R (running)";
    case 'S':
      return "S (sleeping)";
    case 'T':
      return "T (stopped)";
    case 'X':
      return "X (dead)";
    default:
      return "Z (zombie)";
  }
}

// Init is no thread: it waits for its children and for nothing else.
char state_of(Task& task) { return task.tid() == 1 ? 'S' : task.state_letter(); }
size_t threads_of(ThreadGroup& group) { return group.tgid == 1 ? 1 : group.task_count(); }

// Names may hold anything; what would break lines is written as an octal escape or by letter
// (fs/proc/array.c: proc_task_name).
std::string escaped(const std::string& comm) {
  std::string out;
  for (const char c : comm) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\\') {
      out += "\\\\";
    } else {
      out += c;
    }
  }
  return out;
}

std::string identity_lines(Task& task, const Family& family, const TaskResources& has) {
  const Credentials& cred = *has.cred;
  std::string out = fmt::format("Name:\t{}\n", escaped(task.comm()));
  if (has.fs) out += fmt::format("Umask:\t{:04o}\n", has.fs->umask());
  out += fmt::format("State:\t{}\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t0\n",
                     state_name(state_of(task)), task.tgid(), task.tid(), family.parent);
  out += fmt::format("Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\n", cred.ruid, cred.euid,
                     cred.suid, cred.fsuid, cred.rgid, cred.egid, cred.sgid, cred.fsgid);
  out += fmt::format("FDSize:\t{}\nGroups:\t", has.fds ? has.fds->capacity() : 0);
  for (const gid_t group : cred.groups) out += fmt::format("{} ", group);
  if (cred.groups.empty()) out += ' ';
  out += fmt::format("\nNStgid:\t{}\nNSpid:\t{}\nNSpgid:\t{}\nNSsid:\t{}\nKthread:\t0\n",
                     task.tgid(), task.tid(), family.group, family.session);
  return out;
}

std::string memory_lines(mm::MemoryManager& memory) {
  const mm::Usage usage = memory.usage();
  const mm::Layout layout = memory.layout();
  const uint64_t code = layout.end_code - std::min(layout.start_code, layout.end_code);
  std::string out;
  const auto add = [&](const char* name, uint64_t bytes) {
    out += fmt::format("{}:\t{:>8} kB\n", name, bytes / 1024);
  };
  add("VmPeak", usage.peak_virtual_bytes);
  add("VmSize", usage.virtual_bytes);
  add("VmLck", usage.locked_bytes);
  add("VmPin", 0);
  add("VmHWM", usage.resident_bytes);
  add("VmRSS", usage.resident_bytes);
  add("RssAnon", usage.resident_bytes);
  add("RssFile", 0);
  add("RssShmem", 0);
  add("VmData", usage.data_bytes);
  add("VmStk", usage.stack_bytes);
  add("VmExe", code);
  add("VmLib", usage.exec_bytes - std::min(code, usage.exec_bytes));
  add("VmPTE", 0);
  add("VmSwap", 0);
  add("HugetlbPages", 0);
  return out + "CoreDumping:\t0\nTHP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n";
}

std::string signal_lines(Task& task) {
  const SignalSets sets = signals_of(task);
  return fmt::format(
      "Threads:\t{}\nSigQ:\t{}/{}\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{:016x}\n"
      "SigIgn:\t{:016x}\nSigCgt:\t{:016x}\n",
      threads_of(task.group()), task.kernel().queued_signals().load(),
      task.group().limits().soft(RLIMIT_SIGPENDING), sets.pending.bits, sets.shared.bits,
      sets.blocked.bits, sets.ignored.bits, sets.caught.bits);
}

std::string privilege_lines(Task& task, const Credentials& cred) {
  return fmt::format(
      "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\n"
      "NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\n"
      "Speculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\talways enabled\n",
      cred.inheritable.bits, cred.permitted.bits, cred.effective.bits, cred.bounding.bits,
      cred.ambient.bits, task.no_new_privs.load() ? 1 : 0);
}

std::vector<unsigned> cpus_of(Task& task, std::vector<unsigned> cpus) {
  const Scheduling scheduling = task.scheduling();
  if (scheduling.has_affinity) {
    std::erase_if(cpus, [&](unsigned cpu) { return !CPU_ISSET(cpu, &scheduling.affinity); });
  }
  return cpus;
}

}  // namespace

Result<std::string> proc_status(const ProcSubject& subject) {
  const Ref<Task> task = TRY(subject.task());
  const TaskResources has = task->resources();
  std::string out = identity_lines(*task, family_of(task->group()), has);
  if (has.mm) out += memory_lines(*has.mm);
  out += signal_lines(*task) + privilege_lines(*task, *has.cred);
  const std::vector<unsigned> all = sandbox_cpus();
  const std::vector<unsigned> cpus = cpus_of(*task, all);
  const Accounting used = task->accounting();
  out += fmt::format(
      "Cpus_allowed:\t{}\nCpus_allowed_list:\t{}\nMems_allowed:\t1\nMems_allowed_list:\t0\n"
      "voluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}\n",
      cpu_mask(cpus, all.back() + 1), cpu_list(cpus), used.voluntary_switches,
      used.involuntary_switches);
  return out;
}

// The fields in the order and with the numbers of proc_pid_stat(5).
Result<std::string> proc_stat(const ProcSubject& subject) {
  const Ref<Task> task = TRY(subject.task());
  ThreadGroup& group = task->group();
  const TaskResources has = task->resources();
  const Family family = family_of(group);
  const SignalSets sets = signals_of(*task);
  const Accounting used = subject.thread ? task->accounting() : family.own;
  const mm::Usage usage = has.mm ? has.mm->usage() : mm::Usage{};
  // Addresses are only for those who may inspect the process.
  const bool open = has.mm && may_inspect(*task).ok();
  const mm::Layout at = open ? has.mm->layout() : mm::Layout{};
  const int nice = group.nice.load();
  constexpr int kDevTty = 5 << 8;  // the terminal is known as /dev/tty only

  std::string out = fmt::format("{} ({}) {} {} {} {} {} {} {}", task->tid(), task->comm(),
                                state_of(*task), family.parent, family.group, family.session,
                                family.terminal ? kDevTty : 0, family.foreground, 0x400000);
  out += fmt::format(" {} {} 0 0 {} {} {} {}", used.minor_faults, family.children.minor_faults,
                     used.cpu.user / kTick, used.cpu.system / kTick,
                     family.children.cpu.user / kTick, family.children.cpu.system / kTick);
  out += fmt::format(" {} {} {} 0 {} {} {} {}", 20 + nice, nice, threads_of(group),
                     group.start_time() / kTick, usage.virtual_bytes,
                     usage.resident_bytes / kPageSize, group.limits().soft(RLIMIT_RSS));
  out += fmt::format(" {} {} {} 0 0", at.start_code, at.end_code, at.start_stack);  // 26 to 30
  const auto low = [](SignalSet set) { return set.bits & 0x7fffffff; };
  out += fmt::format(" {} {} {} {} 0 0 0", low(sets.pending), low(sets.blocked), low(sets.ignored),
                     low(sets.caught));
  out += fmt::format(" {} 0 0 0 0 0 0", subject.thread ? -1 : family.exit_signal);  // 38 to 44
  out += fmt::format(" {} {} {} {} {} {} {} {}\n", at.start_data, at.end_data, at.start_brk,
                     at.args.start, at.args.end, at.env.start, at.env.end,
                     open ? family.exit_status : 0);
  return out;
}

Result<std::string> proc_statm(const ProcSubject& subject) {
  const Ref<mm::MemoryManager> memory = TRY(subject.task())->resources().mm;
  if (!memory) return std::string("0 0 0 0 0 0 0\n");
  const mm::Usage usage = memory->usage();
  const mm::Layout layout = memory->layout();
  const uint64_t code = layout.end_code - std::min(layout.start_code, layout.end_code);
  return fmt::format("{} {} 0 {} 0 {} 0\n", usage.virtual_bytes / kPageSize,
                     usage.resident_bytes / kPageSize, (code + kPageSize - 1) / kPageSize,
                     (usage.data_bytes + usage.stack_bytes) / kPageSize);
}

Result<std::string> proc_limits(const ProcSubject& subject) {
  struct Row {
    int resource;
    const char *name, *unit;
  };
  constexpr Row kRows[] = {
      {RLIMIT_CPU, "Max cpu time", "seconds"},
      {RLIMIT_FSIZE, "Max file size", "bytes"},
      {RLIMIT_DATA, "Max data size", "bytes"},
      {RLIMIT_STACK, "Max stack size", "bytes"},
      {RLIMIT_CORE, "Max core file size", "bytes"},
      {RLIMIT_RSS, "Max resident set", "bytes"},
      {RLIMIT_NPROC, "Max processes", "processes"},
      {RLIMIT_NOFILE, "Max open files", "files"},
      {RLIMIT_MEMLOCK, "Max locked memory", "bytes"},
      {RLIMIT_AS, "Max address space", "bytes"},
      {RLIMIT_LOCKS, "Max file locks", "locks"},
      {RLIMIT_SIGPENDING, "Max pending signals", "signals"},
      {RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"},
      {RLIMIT_NICE, "Max nice priority", ""},
      {RLIMIT_RTPRIO, "Max realtime priority", ""},
      {RLIMIT_RTTIME, "Max realtime timeout", "us"},
  };
  const Ref<Task> task = TRY(subject.task());
  std::string out =
      fmt::format("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
  const auto text = [](uint64_t value) {
    return value == RLIM_INFINITY ? std::string("unlimited") : std::to_string(value);
  };
  for (const Row& row : kRows) {
    const ResourceLimit limit = TRY(task->group().limits().get(row.resource));
    out += fmt::format("{:<25} {:<20} {:<20} {:<10}\n", row.name, text(limit.soft),
                       text(limit.hard), row.unit);
  }
  return out;
}

}  // namespace boxrun::kernel
