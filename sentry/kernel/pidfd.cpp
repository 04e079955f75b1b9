#include "sentry/kernel/pidfd.h"

#include <fcntl.h>

#include <string>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/vfs/anonymous.h"
#include "sentry/vfs/file_description.h"

namespace boxrun::kernel {
namespace {

class PidFd final : public vfs::FileDescription {
 public:
  PidFd(const vfs::OpenRequest& request, Ref<vfs::Inode> inode, Ref<ThreadGroup> process)
      : FileDescription(request, std::move(inode), Positioning::kStream),
        process_(std::move(process)) {}

  const Ref<ThreadGroup>& process() const { return process_; }

  Events ready() override {
    TreeLock tree(process_->kernel().tree());
    switch (process_->links(tree).state) {
      case ThreadGroup::State::kRunning:
        return 0;
      case ThreadGroup::State::kZombie:
        return kReadable;
      default:
        return kReadable | kHangup;  // reaped: since Linux 6.9
    }
  }
  WaitQueue* queue() override { return &process_->exit_events(); }
  std::string describe() override {
    TreeLock tree(process_->kernel().tree());
    const bool gone = process_->links(tree).state == ThreadGroup::State::kReaped;
    const std::string pid = gone ? "-1" : std::to_string(process_->tgid);
    return "Pid:\t" + pid + "\nNSpid:\t" + pid + "\n";
  }

 private:
  const Ref<ThreadGroup> process_;
};

}  // namespace

Ref<vfs::FileDescription> open_pidfd(Ref<ThreadGroup> process, Ref<Credentials> cred, int flags) {
  vfs::Path path =
      vfs::AnonymousFileSystem::make(process->kernel().anonymous_files(), vfs::FileType::kUnknown,
                                     0600, "anon_inode:[pidfd]", *cred);
  Ref<vfs::Inode> inode = path.dentry->inode();
  const vfs::OpenRequest request{O_RDWR | (flags & O_NONBLOCK), std::move(path), std::move(cred)};
  return make_ref<PidFd>(request, std::move(inode), std::move(process));
}

Result<Ref<vfs::FileDescription>> open_pidfd(Task& task, pid_t pid, int flags) {
  if (pid <= 0 || (flags & ~O_NONBLOCK) != 0) return Errno::kInval;
  Ref<ThreadGroup> process = task.kernel().find_group(pid);
  if (!process) return task.kernel().find_task(pid) ? Errno::kInval : Errno::kSrch;
  return open_pidfd(std::move(process), task.resources().cred, flags);
}

Result<Ref<ThreadGroup>> process_of(vfs::FileDescription& file) {
  auto* pidfd = dynamic_cast<PidFd*>(&file);
  if (pidfd == nullptr) return Errno::kBadF;
  return pidfd->process();
}

}  // namespace boxrun::kernel
