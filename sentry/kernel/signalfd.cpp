#include "sentry/kernel/signalfd.h"

#include <fcntl.h>
#include <sys/signalfd.h>

#include <atomic>
#include <optional>
#include <string>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/vfs/anonymous.h"
#include "sentry/vfs/file_description.h"

namespace boxrun::kernel {
namespace {

// fs/signalfd.c: signalfd_copyinfo. Which members of the union hold depends on how it was sent.
signalfd_siginfo to_signalfd(const SigInfo& info) {
  signalfd_siginfo out{};
  out.ssi_signo = static_cast<uint32_t>(info.si_signo);
  out.ssi_errno = info.si_errno;
  out.ssi_code = info.si_code;
  const bool fault = info.si_signo == SIGSEGV || info.si_signo == SIGBUS ||
                     info.si_signo == SIGILL || info.si_signo == SIGFPE || info.si_signo == SIGTRAP;
  if (info.si_code == SI_TIMER) {
    out.ssi_tid = static_cast<uint32_t>(info.si_timerid);
    out.ssi_overrun = static_cast<uint32_t>(info.si_overrun);
    out.ssi_ptr = reinterpret_cast<uint64_t>(info.si_ptr);
    out.ssi_int = info.si_int;
  } else if (info.si_signo == SIGCHLD && info.si_code > 0) {
    out.ssi_pid = static_cast<uint32_t>(info.si_pid);
    out.ssi_uid = info.si_uid;
    out.ssi_status = info.si_status;
    out.ssi_utime = static_cast<uint64_t>(info.si_utime);
    out.ssi_stime = static_cast<uint64_t>(info.si_stime);
  } else if (fault && info.si_code > 0) {
    out.ssi_addr = reinterpret_cast<uint64_t>(info.si_addr);
  } else {
    out.ssi_pid = static_cast<uint32_t>(info.si_pid);
    out.ssi_uid = info.si_uid;
    if (info.si_code < 0) {  // SI_QUEUE and its like carry a value
      out.ssi_ptr = reinterpret_cast<uint64_t>(info.si_ptr);
      out.ssi_int = info.si_int;
    }
  }
  return out;
}

class SignalFd final : public vfs::FileDescription {
 public:
  SignalFd(const vfs::OpenRequest& request, Ref<vfs::Inode> inode, Task& task, SignalSet mask)
      : FileDescription(request, std::move(inode), Positioning::kStream),
        task_(&task),
        mask_(mask.bits) {}

  Events ready() override {
    SignalLock lock(process());
    const SignalSet pending =
        task_->signals(lock).pending.set() | process().signals(lock).shared.set();
    return (pending & mask()).empty() ? 0 : kReadable;
  }
  WaitQueue* queue() override { return &process().signal_events(); }
  std::string describe() override {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string line = "sigmask:\t";
    for (int shift = 60; shift >= 0; shift -= 4) line += kDigits[mask().bits >> shift & 15];
    return line + "\n";
  }
  void set_mask(SignalSet mask) {
    mask_.store(mask.bits);
    process().signal_events().notify(kReadable);
  }

 private:
  Result<uint64_t> seek_stream() override { return uint64_t{0}; }
  Result<size_t> do_read(IoBuffers& to, uint64_t) override {
    if (to.remaining() < sizeof(signalfd_siginfo)) return Errno::kInval;
    size_t done = 0;
    while (to.remaining() >= sizeof(signalfd_siginfo)) {
      const std::optional<SigInfo> info = take();
      if (!info) break;
      const signalfd_siginfo out = to_signalfd(*info);
      TRY(to.put(bytes_of(out)));
      done += sizeof out;
    }
    if (done == 0) return Errno::kAgain;
    return done;
  }
  std::optional<SigInfo> take() {
    SignalLock lock(process());
    std::optional<SigInfo> info = task_->signals(lock).pending.take(mask());
    return info ? info : process().signals(lock).shared.take(mask());
  }
  ThreadGroup& process() const { return task_->group(); }
  SignalSet mask() const { return {mask_.load()}; }

  const Ref<Task> task_;
  std::atomic<uint64_t> mask_;
};

}  // namespace

Ref<vfs::FileDescription> open_signalfd(Task& task, SignalSet mask, int flags) {
  const Ref<Credentials> cred = task.cred_ref();
  vfs::Path path =
      vfs::AnonymousFileSystem::make(task.kernel().anonymous_files(), vfs::FileType::kUnknown, 0600,
                                     "anon_inode:[signalfd]", *cred);
  Ref<vfs::Inode> inode = path.dentry->inode();
  const vfs::OpenRequest request{O_RDWR | (flags & O_NONBLOCK), std::move(path), cred};
  return make_ref<SignalFd>(request, std::move(inode), task, mask & ~kUnblockable);
}

Result<void> set_signalfd_mask(vfs::FileDescription& file, SignalSet mask) {
  auto* signalfd = dynamic_cast<SignalFd*>(&file);
  if (signalfd == nullptr) return Errno::kInval;
  signalfd->set_mask(mask & ~kUnblockable);
  return {};
}

}  // namespace boxrun::kernel
