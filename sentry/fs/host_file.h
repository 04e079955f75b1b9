// The caller's standard streams, and whatever else he left open for the target: open files over
// inherited host descriptors. The host's file offset and O_APPEND stay in force, so that output
// after a redirection lands where it should; O_NONBLOCK of the shared description is never changed.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "sentry/fs/fd_notifier.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/file_system.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/terminal.h"
#include "src/base/fd.h"

namespace boxrun::fs {

// Asked before anything is written to the caller's streams: the limit on output.
class OutputMeter {
 public:
  // How many of `bytes` may be written now; an error to fail the write with.
  virtual Result<size_t> admit(size_t bytes) = 0;

 protected:
  ~OutputMeter() = default;
};

// One host descriptor and who waits for it. Shared by the open files over it.
struct HostHandle final : public RefCounted {
  UniqueFd fd;
  int flags = 0;  // of the host's open file: access mode, O_APPEND, O_NONBLOCK
  vfs::FileType type = vfs::FileType::kUnknown;
  bool seekable = false;
  OutputMeter* meter = nullptr;
  WaitQueue queue;
  std::unique_ptr<FdNotifier::Watch> watch;  // null: never blocks
};

// An open file over `handle`, at another inode perhaps (/dev/tty). EACCES for access that the
// host's descriptor does not have. `terminal`: null for what is none.
Result<Ref<vfs::FileDescription>> open_host_handle(const vfs::OpenRequest& request,
                                                   Ref<vfs::Inode> inode, Ref<HostHandle> handle,
                                                   Ref<vfs::Terminal> terminal);

// The file system that such files belong to. One per kernel.
class HostFiles final : public vfs::FileSystem {
 public:
  // `notifier` and `meter` (null: no limit) outlive it; in no namespace.
  static Ref<HostFiles> create(uint64_t device, FdNotifier& notifier, OutputMeter* meter);

  // The controlling terminal, before the streams that are the same device: `fd` is an open file
  // of /dev/tty that nobody shares, O_NONBLOCK.
  Result<Ref<vfs::Terminal>> adopt_terminal(UniqueFd fd, uint64_t rdev);

  // An open file over `fd`, which `name` describes ("/dev/pts/3", "pipe:[17]": what readlink of
  // /proc/self/fd said). Descriptors of one terminal share its Terminal. Before sealing.
  Result<Ref<vfs::FileDescription>> adopt(const Ref<vfs::Mount>& mount, UniqueFd fd,
                                          std::string name, Ref<Credentials> credentials);

  Ref<vfs::Inode> root() override { return root_; }
  Result<vfs::Statistics> statistics() override { return vfs::Statistics{}; }

 private:
  HostFiles(uint64_t device, FdNotifier& notifier, OutputMeter* meter);
  Result<Ref<HostHandle>> make_handle(UniqueFd fd) const;
  Result<Ref<vfs::Terminal>> terminal_of(const HostHandle& handle, uint64_t rdev);

  FdNotifier& notifier_;
  OutputMeter* const meter_;
  Ref<vfs::Inode> root_;
  std::map<uint64_t, Ref<vfs::Terminal>> terminals_;  // by device; start-up only
};

}  // namespace boxrun::fs
