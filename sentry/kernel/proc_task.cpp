// The directory of one process or thread, and its smaller files (fs/proc/base.c).
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>

#include <algorithm>
#include <charconv>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/proc_fs.h"
#include "sentry/kernel/proc_node.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/walk.h"

namespace boxrun::kernel {

Kernel& ProcSubject::kernel() const { return fs->kernel(); }

bool ProcSubject::exists() const {
  if (!group) return true;
  TreeLock tree(kernel().tree());
  const Task* task = kernel().pids().find_task(tree, id);
  if (thread) return task == thread.get();
  return task != nullptr && &task->group() == group.get();
}

Result<Ref<Task>> ProcSubject::task() const {
  if (!group) return Errno::kSrch;
  TreeLock tree(kernel().tree());
  Task* task = thread ? thread.get() : group->links(tree).leader;
  if (task == nullptr || kernel().pids().find_task(tree, task->tid()) != task) return Errno::kSrch;
  return Ref<Task>(task);
}

Result<Ref<mm::MemoryManager>> ProcSubject::memory() const {
  Ref<mm::MemoryManager> memory = TRY(task())->resources().mm;
  if (!memory) return Errno::kSrch;
  return memory;
}

Result<Ref<vfs::FileDescription>> ProcSubject::file() const {
  const Ref<vfs::FdTable> fds = TRY(task())->resources().fds;
  if (!fds) return Errno::kNoEnt;
  auto file = fds->get_raw(fd);
  if (!file.ok()) return Errno::kNoEnt;
  return file;
}

std::string path_for_reader(Kernel& kernel, const vfs::Path& path) {
  const Task* reader = Task::current();
  const vfs::Path root = reader != nullptr ? reader->fs().root() : kernel.root()->root();
  return vfs::path_of(*kernel.root(), root, path);
}

namespace {

using Kind = ProcNode::Kind;
using Guard = ProcNode::Guard;

constexpr size_t kMaxArguments = size_t{8} << 20;  // more than execve takes by default
constexpr uint64_t kFirstNamespace = 4026531832;   // PROC_MNT_INIT_INO

Result<std::string> zero_line(const ProcSubject&) { return std::string("0\n"); }
Result<std::string> whole_id_map(const ProcSubject&) {
  return fmt::format("{:>10} {:>10} {:>10}\n", 0, 0, UINT32_MAX);
}

// --- links
Result<vfs::Path> exe_place(const ProcSubject& subject) {
  const Ref<vfs::FileDescription> exe = TRY(subject.task())->group().exe();
  if (!exe) return Errno::kNoEnt;  // as threads of the kernel have it
  return exe->path();
}
Result<vfs::Path> cwd_place(const ProcSubject& subject) {
  const Ref<vfs::FsContext> context = TRY(subject.task())->resources().fs;
  if (!context) return Errno::kNoEnt;
  return context->cwd();
}
Result<vfs::Path> root_place(const ProcSubject& subject) {
  const Ref<vfs::FsContext> context = TRY(subject.task())->resources().fs;
  if (!context) return Errno::kNoEnt;
  return context->root();
}
Result<vfs::Path> fd_place(const ProcSubject& subject) { return TRY(subject.file())->path(); }

// --- memory
Result<std::string> bytes_at(mm::MemoryManager& memory, Range range) {
  std::string text(std::min<uint64_t>(range.size(), kMaxArguments), '\0');
  const auto done = memory.peek(range.start, std::as_writable_bytes(std::span(text)));
  if (!done.ok()) text.clear();  // unmapped meanwhile
  return text;
}
Result<std::string> cmdline_text(const ProcSubject& subject) {
  const Ref<mm::MemoryManager> memory = TRY(subject.task())->resources().mm;
  if (!memory) return std::string();
  const mm::Layout layout = memory->layout();
  std::string text = TRY(bytes_at(*memory, layout.args));
  if (text.empty() || text.back() == '\0') return text;
  // fs/proc/base.c: get_mm_cmdline. setproctitle has written over the end, into the environment.
  text += TRY(bytes_at(*memory, layout.env));
  return text.substr(0, std::min(text.find('\0'), text.size()));
}
Result<std::string> environ_text(const ProcSubject& subject) {
  const Ref<mm::MemoryManager> memory = TRY(subject.task())->resources().mm;
  if (!memory) return std::string();
  return bytes_at(*memory, memory->layout().env);
}
Result<std::string> auxv_text(const ProcSubject& subject) {
  const Ref<mm::MemoryManager> memory = TRY(subject.task())->resources().mm;
  if (!memory) return std::string();
  const std::vector<std::byte> auxv = memory->layout().auxv;
  return std::string(reinterpret_cast<const char*>(auxv.data()), auxv.size());
}

// --- names and knobs
Result<std::string> comm_text(const ProcSubject& subject) {
  return TRY(subject.task())->comm() + "\n";
}
Result<void> set_comm(const ProcSubject& subject, std::string_view text) {
  const Ref<Task> task = TRY(subject.task());
  const Task* writer = Task::current();
  if (writer == nullptr || &writer->group() != &task->group()) return Errno::kInval;
  task->set_comm(text.substr(0, text.find('\0')));
  return {};
}

Result<std::string> oom_score_adj_text(const ProcSubject& subject) {
  return fmt::format("{}\n", TRY(subject.task())->group().oom_score_adj.load());
}
Result<void> set_oom_score_adj(const ProcSubject& subject, std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(" \t\n"), text.size());
  text = text.substr(begin, text.find_last_not_of(" \t\n\0") + 1 - begin);
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return Errno::kInval;
  if (value < -1000 || value > 1000) return Errno::kInval;
  ThreadGroup& group = TRY(subject.task())->group();
  const Task* writer = Task::current();
  const bool may_lower = writer != nullptr && writer->cred().has_capability(CAP_SYS_RESOURCE);
  if (value < group.oom_score_adj.load() && !may_lower) return Errno::kAcces;
  group.oom_score_adj.store(value);
  return {};
}

// --- descriptors
Result<std::string> fdinfo_text(const ProcSubject& subject) {
  const Ref<vfs::FdTable> fds = TRY(subject.task())->resources().fds;
  if (!fds) return Errno::kNoEnt;
  const Ref<vfs::FileDescription> file = TRY(subject.file());
  const auto on_exec = fds->on_exec(subject.fd);
  const bool closes = on_exec.ok() && *on_exec == vfs::FdTable::OnExec::kClose;
  const vfs::Path path = file->path();
  const auto attributes = file->attributes();
  return fmt::format("pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{}\nino:\t{}\n{}", file->position(),
                     file->flags() | (closes ? O_CLOEXEC : 0), path.mount ? path.mount->id() : 0,
                     attributes.ok() ? attributes->ino : 0, file->describe());
}

// Counters that nobody keeps are zero, as they are for a process that never touched a file.
Result<std::string> io_text(const ProcSubject& subject) {
  TRY(subject.task());
  return std::string(
      "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\n"
      "cancelled_write_bytes: 0\n");
}

// --- namespaces: there is one of each kind, with the numbers of Linux's first ones.
template <uint64_t number>
Result<std::string> namespace_text(const ProcSubject& subject) {
  constexpr const char* kNames[] = {"mnt", "net", "time", "cgroup", "pid", "user", "uts", "ipc"};
  TRY(subject.task());
  return fmt::format("{}:[{}]", kNames[number], kFirstNamespace + number);
}

constexpr ProcNode namespace_link(const char* name, ProcNode::Text text) {
  return {.name = name, .kind = Kind::kLink, .mode = 0777, .text = text, .guard = Guard::kInspect};
}
const ProcNode kNamespaces[] = {
    namespace_link("net", namespace_text<1>),
    namespace_link("uts", namespace_text<6>),
    namespace_link("ipc", namespace_text<7>),
    namespace_link("pid", namespace_text<4>),
    namespace_link("pid_for_children", namespace_text<4>),
    namespace_link("user", namespace_text<5>),
    namespace_link("mnt", namespace_text<0>),
    namespace_link("cgroup", namespace_text<3>),
    namespace_link("time", namespace_text<2>),
    namespace_link("time_for_children", namespace_text<2>),
};

ProcNode magic(const char* name, ProcNode::Place place) {
  return {
      .name = name, .kind = Kind::kLink, .mode = 0777, .guard = Guard::kInspect, .place = place};
}
ProcNode file(const char* name, ProcNode::Text text, mode_t mode = 0444, Guard guard = Guard::kNone,
              ProcNode::Write write = nullptr) {
  return {.name = name, .mode = mode, .text = text, .guard = guard, .write = write};
}

std::vector<ProcNode> make_nodes(bool process) {
  std::vector<ProcNode> nodes = {
      {.name = "fd", .kind = Kind::kFds, .mode = 0500},
      {.name = "fdinfo", .kind = Kind::kFdInfos, .mode = 0555, .guard = Guard::kInspect},
      {.name = "ns", .kind = Kind::kDirectory, .mode = 0511, .children = kNamespaces},
      {.name = "net", .kind = Kind::kDirectory, .mode = 0555, .children = network_nodes()},
      {.name = "mem", .kind = Kind::kMemory, .mode = 0600, .guard = Guard::kInspect},
      magic("cwd", cwd_place),
      magic("root", root_place),
      magic("exe", exe_place),
      file("environ", environ_text, 0400, Guard::kInspect),
      file("auxv", auxv_text, 0400, Guard::kInspect),
      file("status", proc_status),
      file(
          "personality",
          [](const ProcSubject& subject) -> Result<std::string> {
            return fmt::format("{:08x}\n", TRY(subject.task())->persona.load());
          },
          0400, Guard::kInspect),
      file("limits", proc_limits),
      file("comm", comm_text, 0644, Guard::kNone, set_comm),
      file("cmdline", cmdline_text),
      file("stat", proc_stat),
      file("statm", proc_statm),
      file("maps", proc_maps, 0444, Guard::kInspect),
      file("mounts", proc_mounts),
      file("mountinfo", proc_mountinfo),
      file("wchan", [](const ProcSubject&) -> Result<std::string> { return std::string("0"); }),
      file("cgroup",
           [](const ProcSubject&) -> Result<std::string> { return std::string("0::/\n"); }),
      file("oom_score", zero_line),
      file("oom_score_adj", oom_score_adj_text, 0644, Guard::kNone, set_oom_score_adj),
      // Nobody has logged in: AUDIT_UID_UNSET.
      file("loginuid",
           [](const ProcSubject&) -> Result<std::string> { return std::string("4294967295"); }),
      file("sessionid",
           [](const ProcSubject&) -> Result<std::string> { return std::string("4294967295"); }),
      file("io", io_text, 0400, Guard::kInspect),
      file("uid_map", whole_id_map),
      file("gid_map", whole_id_map),
      file("setgroups",
           [](const ProcSubject&) -> Result<std::string> { return std::string("allow\n"); }),
  };
  if (process) nodes.insert(nodes.begin(), {.name = "task", .kind = Kind::kTasks, .mode = 0555});
  return nodes;
}

}  // namespace

std::span<const ProcNode> process_nodes() {
  static const std::vector<ProcNode> kNodes = make_nodes(true);
  return kNodes;
}

std::span<const ProcNode> thread_nodes() {
  static const std::vector<ProcNode> kNodes = make_nodes(false);
  return kNodes;
}

const ProcDescriptorNodes& descriptor_nodes() {
  static const ProcDescriptorNodes kNodes = {
      {.kind = Kind::kLink, .mode = 0700, .guard = Guard::kInspect, .place = fd_place},
      {.mode = 0444, .text = fdinfo_text, .guard = Guard::kInspect}};
  return kNodes;
}

}  // namespace boxrun::kernel
