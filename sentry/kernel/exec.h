// What execve(2) needs from the layer above: a Loader turns a file into a memory image; the kernel
// decides what becomes of the task (task_exec.cpp).
#pragma once
#include <fcntl.h>

#include <optional>
#include <string>
#include <vector>

#include "platforms/cpu_state.h"
#include "sentry/cred/credentials.h"
#include "sentry/kernel/fwd.h"
#include "sentry/mm/memory_manager.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::kernel {

struct ExecRequest {
  int dirfd = AT_FDCWD;
  std::string path;
  int flags = 0;  // of execveat(2): AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW
  std::vector<std::string> argv;
  std::vector<std::string> envp;
};

// A program that is ready to run in a memory of its own.
struct ExecImage {
  Ref<mm::MemoryManager> mm;
  platform::Registers registers{};  // as execve leaves them: rip, rsp, segments, the rest zero
  std::string comm;                 // at most 15 bytes count
  Ref<vfs::FileDescription> exe;    // /proc/PID/exe; keeps the file busy (ETXTBSY)
  Ref<Credentials> cred;            // from exec_credentials; null: unchanged
  bool secure = false;              // AT_SECURE: not dumpable, pdeath signal cleared
  bool readable = true;             // the file may be read: otherwise not dumpable
};

// Implemented by sentry/loader.
class Loader {
 public:
  virtual ~Loader() = default;
  // Runs on the task's own thread, or before the task has one. Changes nothing of the task. Errors
  // as in execve(2).
  virtual Result<ExecImage> load(Task& task, const ExecRequest& request) = 0;
};

// Set-user-ID, set-group-ID and capability rules of execve(2) and capabilities(7): the credentials
// of a program whose file has `mode`, `uid` and `gid`. `honour_setid` is false on nosuid mounts.
struct ExecIdentity {
  Ref<Credentials> cred;
  bool secure = false;
};
ExecIdentity exec_credentials(Task& task, mode_t mode, uid_t uid, gid_t gid, bool honour_setid);

}  // namespace boxrun::kernel
