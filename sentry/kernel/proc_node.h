// What the files of /proc are, as tables: proc_fs.cpp makes inodes of them, proc_task*.cpp and
// proc_system.cpp fill them.
#pragma once
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/kernel/fwd.h"
#include "sentry/kernel/inspect.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/mount.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::kernel {

class ProcFs;

// Whom a file is about: nobody (the system), a process, or one thread. Copied freely.
struct ProcSubject {
  ProcFs* fs = nullptr;
  Ref<ThreadGroup> group = nullptr;  // null: the system
  Ref<Task> thread = nullptr;        // null: the process, seen through its leader
  pid_t id = 0;                      // in the path: of the process, or of the thread
  int fd = -1;                       // of an entry of fd/ and fdinfo/

  Kernel& kernel() const;
  // The number still belongs to it; always true of the system.
  bool exists() const;
  // The thread or leader; ESRCH once it was reaped.
  Result<Ref<Task>> task() const;
  // ESRCH without any: the task has exited, or is init.
  Result<Ref<mm::MemoryManager>> memory() const;
  Result<Ref<vfs::FileDescription>> file() const;  // `fd` of the task: ENOENT
};

struct ProcNode {
  enum class Kind : uint8_t {
    kFile,
    kLink,
    kDirectory,
    kMemory,   // mem
    kRoot,     // and the processes
    kTasks,    // task/
    kFds,      // fd/
    kFdInfos,  // fdinfo/
  };
  // kInspect asks may_inspect() on open, or when a link is read or followed.
  enum class Guard : uint8_t { kNone, kInspect };
  using Text = Result<std::string> (*)(const ProcSubject&);
  using Place = Result<vfs::Path> (*)(const ProcSubject&);
  using Write = Result<void> (*)(const ProcSubject&, std::string_view);

  const char* name = "";
  Kind kind = Kind::kFile;
  mode_t mode = 0444;
  Text text = nullptr;  // of a file its contents, of a link what readlink shows
  Guard guard = Guard::kNone;
  Write write = nullptr;
  Place place = nullptr;  // of a magic link: where it leads
  std::span<const ProcNode> children = {};
};

// The entries of fd/ and of fdinfo/, whatever their number.
struct ProcDescriptorNodes {
  ProcNode link, info;
};

std::span<const ProcNode> system_nodes();   // the root's, without processes
std::span<const ProcNode> process_nodes();  // of /proc/PID
std::span<const ProcNode> thread_nodes();   // of /proc/PID/task/TID
const ProcDescriptorNodes& descriptor_nodes();
std::span<const ProcNode> network_nodes();

// --- files of one task (proc_status.cpp, proc_maps.cpp, proc_mounts.cpp)
Result<std::string> proc_status(const ProcSubject& subject);
Result<std::string> proc_stat(const ProcSubject& subject);
Result<std::string> proc_statm(const ProcSubject& subject);
Result<std::string> proc_limits(const ProcSubject& subject);
Result<std::string> proc_maps(const ProcSubject& subject);
Result<std::string> proc_mounts(const ProcSubject& subject);
Result<std::string> proc_mountinfo(const ProcSubject& subject);
// --- of the system (proc_cpuinfo.cpp)
Result<std::string> proc_cpuinfo(const ProcSubject& subject);

// As RFC 9562 writes a random one; its fixed bits are set here.
std::string format_uuid(std::array<unsigned char, 16> bytes);

// A path as the reader sees it: from his own root.
std::string path_for_reader(Kernel& kernel, const vfs::Path& path);

}  // namespace boxrun::kernel
