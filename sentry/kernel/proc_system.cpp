// The files of /proc that are about the whole sandbox. Sizes are the sandbox's limits; counters
// that nobody keeps are zero.
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/proc_fs.h"
#include "sentry/kernel/proc_node.h"
#include "sentry/kernel/scheduling.h"
#include "sentry/kernel/thread_group.h"

namespace boxrun::kernel {
namespace {

using Kind = ProcNode::Kind;

constexpr char kRelease[] = "6.1.0-boxrun";  // the same as uname(2) says
constexpr char kVersion[] = "#1 SMP PREEMPT_DYNAMIC boxrun";
constexpr Nanos kTick = kSecond / 100;

// A file that always says the same.
template <size_t size>
struct Literal {
  char text[size];
  consteval Literal(const char (&from)[size]) {  // NOLINT(google-explicit-constructor)
    std::copy_n(from, size, text);
  }
};
template <Literal literal>
Result<std::string> fixed(const ProcSubject&) {
  return std::string(literal.text);
}

Result<std::string> release(const ProcSubject&) { return std::string(kRelease) + "\n"; }
Result<std::string> build(const ProcSubject&) { return std::string(kVersion) + "\n"; }
template <uint64_t value>
Result<std::string> number(const ProcSubject&) {
  return std::to_string(value) + "\n";
}

Result<std::string> version(const ProcSubject&) {
  return fmt::format("Linux version {} (boxrun) (boxrun) {}\n", kRelease, kVersion);
}

Result<std::string> self_link(const ProcSubject&) {
  const Task* reader = Task::current();
  if (reader == nullptr) return Errno::kNoEnt;
  return std::to_string(reader->tgid());
}
Result<std::string> thread_self_link(const ProcSubject&) {
  const Task* reader = Task::current();
  if (reader == nullptr) return Errno::kNoEnt;
  return fmt::format("{}/task/{}", reader->tgid(), reader->tid());
}

Result<std::string> meminfo(const ProcSubject& subject) {
  const mm::MemoryFile& memory = subject.kernel().memory_file();
  const uint64_t total = memory.limit();
  const uint64_t used = total - memory.available();
  std::string out;
  const auto add = [&](const char* name, uint64_t bytes) {
    out += fmt::format("{:<16}{:>8} kB\n", std::string(name) + ":", bytes / 1024);
  };
  add("MemTotal", total);
  add("MemFree", total - used);
  add("MemAvailable", total - used);
  for (const char* name : {"Buffers", "Cached", "SwapCached"}) add(name, 0);
  add("Active", used);
  add("Inactive", 0);
  add("Active(anon)", used);
  for (const char* name : {"Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable",
                           "Mlocked", "SwapTotal", "SwapFree", "Dirty", "Writeback"}) {
    add(name, 0);
  }
  add("AnonPages", used);
  for (const char* name : {"Mapped", "Shmem", "KReclaimable", "Slab", "SReclaimable", "SUnreclaim",
                           "KernelStack", "PageTables", "NFS_Unstable", "Bounce", "WritebackTmp"}) {
    add(name, 0);
  }
  add("CommitLimit", total);
  add("Committed_AS", used);
  add("VmallocTotal", uint64_t{34359738367} << 10);
  add("VmallocUsed", 0);
  add("VmallocChunk", 0);
  out +=
      "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\n"
      "HugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:               0 kB\n";
  return out;
}

// What all processes that are there now have used.
Accounting usage(Kernel& kernel) {
  TreeLock tree(kernel.tree());
  Accounting sum;
  for (ThreadGroup* group : kernel.pids().groups(tree)) {
    sum.add(group->accounting(tree));
    sum.add(group->links(tree).children_usage);
  }
  return sum;
}

// In the order of mm/vmstat.c: vmstat_text.
Result<std::string> vmstat(const ProcSubject& subject) {
  const mm::MemoryFile& memory = subject.kernel().memory_file();
  const uint64_t total = memory.limit() / kPageSize;
  const uint64_t used = std::min(memory.used() / kPageSize, total);
  std::string out;
  const auto add = [&](const char* name, uint64_t value) {
    out += fmt::format("{} {}\n", name, value);
  };
  add("nr_free_pages", total - used);
  add("nr_inactive_anon", 0);
  add("nr_active_anon", used);
  for (const char* name : {"nr_inactive_file", "nr_active_file", "nr_unevictable",
                           "nr_slab_reclaimable", "nr_slab_unreclaimable"}) {
    add(name, 0);
  }
  add("nr_anon_pages", used);
  for (const char* name : {"nr_mapped", "nr_file_pages", "nr_dirty", "nr_writeback", "nr_shmem",
                           "nr_kernel_stack", "nr_page_table_pages", "pgpgin", "pgpgout", "pswpin",
                           "pswpout", "pgalloc_normal", "pgfree"}) {
    add(name, 0);
  }
  add("pgfault", usage(subject.kernel()).minor_faults);
  add("pgmajfault", 0);
  add("oom_kill", 0);
  return out;
}

// Tasks by what they do: running, and all of them.
struct Census {
  size_t running = 0, tasks = 0;
  pid_t newest = 0;
};
Census census(Kernel& kernel) {
  std::vector<Ref<Task>> tasks;
  Census out;
  {
    TreeLock tree(kernel.tree());
    for (ThreadGroup* group : kernel.pids().groups(tree)) {
      for (const Ref<Task>& task : group->links(tree).tasks) tasks.push_back(task);
    }
  }
  out.tasks = tasks.size();
  for (const Ref<Task>& task : tasks) {
    out.newest = std::max(out.newest, task->tid());
    if (task->tid() != 1 && task->state_letter() == 'R') out.running++;
  }
  return out;
}

Result<std::string> stat(const ProcSubject& subject) {
  Kernel& kernel = subject.kernel();
  const CpuTimes busy = usage(kernel).cpu;
  const std::vector<unsigned> cpus = sandbox_cpus();
  const auto count = static_cast<Nanos>(cpus.size());
  const Nanos up = kernel.clock().boottime();
  const auto idle = [&](Nanos of_cpus) {
    return std::max<Nanos>(0, up * of_cpus - (busy.user + busy.system) * of_cpus / count);
  };
  std::string out = fmt::format("cpu  {} 0 {} {} 0 0 0 0 0 0\n", busy.user / kTick,
                                busy.system / kTick, idle(count) / kTick);
  for (const unsigned cpu : cpus) {
    out += fmt::format("cpu{} {} 0 {} {} 0 0 0 0 0 0\n", cpu, busy.user / count / kTick,
                       busy.system / count / kTick, idle(1) / kTick);
  }
  const Census now = census(kernel);
  out += fmt::format(
      "intr 0\nctxt 0\nbtime {}\nprocesses {}\nprocs_running {}\nprocs_blocked 0\n"
      "softirq 0 0 0 0 0 0 0 0 0 0 0\n",
      (kernel.clock().realtime() - up) / kSecond, now.newest, now.running);
  return out;
}

Result<std::string> uptime(const ProcSubject& subject) {
  Kernel& kernel = subject.kernel();
  const Nanos up = kernel.clock().boottime();
  const CpuTimes busy = usage(kernel).cpu;
  const auto count = static_cast<Nanos>(sandbox_cpus().size());
  const Nanos idle = std::max<Nanos>(0, up * count - busy.user - busy.system);
  const auto hundredths = [](Nanos t) { return t % kSecond / kTick; };
  return fmt::format("{}.{:02} {}.{:02}\n", up / kSecond, hundredths(up), idle / kSecond,
                     hundredths(idle));
}

Result<std::string> loadavg(const ProcSubject& subject) {
  const Census now = census(subject.kernel());
  return fmt::format("0.00 0.00 0.00 {}/{} {}\n", now.running, now.tasks, now.newest);
}

Result<std::string> hostname(const ProcSubject& subject) {
  return subject.kernel().hostname() + "\n";
}
Result<std::string> domainname(const ProcSubject& subject) {
  return subject.kernel().domainname() + "\n";
}
Result<std::string> threads_max(const ProcSubject& subject) {
  const uint64_t limit = subject.kernel().max_tasks();
  return fmt::format("{}\n", std::min<uint64_t>(limit, PidNamespace::kMaxPid));
}
Result<std::string> boot_id(const ProcSubject& subject) { return subject.fs->boot_id() + "\n"; }
Result<std::string> uuid(const ProcSubject&) {
  std::array<unsigned char, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != 16) return Errno::kIo;
  return format_uuid(bytes) + "\n";
}

ProcNode file(const char* name, ProcNode::Text text) { return {.name = name, .text = text}; }
ProcNode directory(const char* name, std::span<const ProcNode> children) {
  return {.name = name, .kind = Kind::kDirectory, .mode = 0555, .children = children};
}
ProcNode link(const char* name, ProcNode::Text text) {
  return {.name = name, .kind = Kind::kLink, .mode = 0777, .text = text};
}

std::span<const ProcNode> sysctl_nodes() {
  static const ProcNode random[] = {file("boot_id", boot_id), file("uuid", uuid),
                                    file("entropy_avail", fixed<"256\n">),
                                    file("poolsize", fixed<"256\n">)};
  static const ProcNode kernel[] = {file("ostype", fixed<"Linux\n">),
                                    file("osrelease", release),
                                    file("version", build),
                                    file("hostname", hostname),
                                    file("domainname", domainname),
                                    file("pid_max", number<PidNamespace::kMaxPid>),
                                    file("cap_last_cap", number<CAP_LAST_CAP>),
                                    file("ngroups_max", fixed<"65536\n">),
                                    file("threads-max", threads_max),
                                    file("randomize_va_space", fixed<"2\n">),
                                    file("core_pattern", fixed<"core\n">),
                                    file("overflowuid", fixed<"65534\n">),
                                    file("overflowgid", fixed<"65534\n">),
                                    file("shmmax", fixed<"18446744073692774399\n">),
                                    file("sem", fixed<"32000\t1024000000\t500\t32000\n">),
                                    directory("random", random)};
  static const ProcNode vm[] = {
      file("overcommit_memory", fixed<"0\n">), file("max_map_count", fixed<"65530\n">),
      file("mmap_min_addr", fixed<"65536\n">), file("swappiness", fixed<"60\n">)};
  static const ProcNode fs[] = {
      file("nr_open", number<ResourceLimits::kMaxOpenFiles>),
      file("file-max", fixed<"9223372036854775807\n">), file("pipe-max-size", fixed<"1048576\n">),
      file("pipe-user-pages-soft", fixed<"16384\n">), file("pipe-user-pages-hard", fixed<"0\n">)};
  static const ProcNode core[] = {file("somaxconn", fixed<"4096\n">)};
  static const ProcNode net[] = {directory("core", core)};
  static const ProcNode all[] = {directory("fs", fs), directory("kernel", kernel),
                                 directory("net", net), directory("vm", vm)};
  return all;
}

}  // namespace

std::string format_uuid(std::array<unsigned char, 16> bytes) {
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
  std::string out;
  for (size_t i = 0; i < bytes.size(); i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += fmt::format("{:02x}", bytes[i]);
  }
  return out;
}

std::span<const ProcNode> network_nodes() {
  static const ProcNode nodes[] = {
      file("tcp", fixed<"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when "
                        "retrnsmt   uid  timeout "
                        "inode                                                     \n">),
      file("tcp6", fixed<"  sl  local_address                         remote_address               "
                         "         st "
                         "tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n">),
      file("udp", fixed<"   sl  local_address rem_address   st tx_queue rx_queue tr tm->when "
                        "retrnsmt   uid  timeout "
                        "inode ref pointer drops             \n">),
      file(
          "udp6",
          fixed<"  sl  local_address                         remote_address                        "
                "st "
                "tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n">),
      file("unix", fixed<"Num       RefCount Protocol Flags    Type St Inode Path\n">),
      file("route", fixed<"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\t"
                          "Window\tIRTT                                                       \n">),
      file("if_inet6", fixed<"">),
      file("packet", fixed<"sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n">)};
  return nodes;
}

std::span<const ProcNode> system_nodes() {
  static const ProcNode nodes[] = {
      link("self", self_link),
      link("thread-self", thread_self_link),
      link("mounts", fixed<"self/mounts">),
      link("net", fixed<"self/net">),
      file("cmdline", fixed<"boxrun\n">),
      file("cpuinfo", proc_cpuinfo),
      file("filesystems", fixed<"nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\n"
                                "nodev\tpipefs\nnodev\tsockfs\nnodev\toverlay\nnodev\t9p\n">),
      file("loadavg", loadavg),
      file("meminfo", meminfo),
      file("stat", stat),
      file("swaps", fixed<"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n">),
      file("uptime", uptime),
      file("version", version),
      file("vmstat", vmstat),
      directory("sys", sysctl_nodes())};
  return nodes;
}

}  // namespace boxrun::kernel
