#pragma once
#include <cstdint>
#include <utility>

#include "sentry/fs/host_file.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/vfs/caller.h"
#include "sentry/vfs/terminal.h"
#include "src/base/result.h"

namespace boxrun::fs {

bool is_terminal(int fd);

// The terminal that the caller sits at. Its settings and size are the host's; sessions and
// process groups are the guest's (the IoctlCaller's): the host knows nothing of our processes.
class HostTerminal final : public vfs::Terminal {
 public:
  // Whether the host's job control of this terminal applies to boxrun.
  enum class Role : uint8_t { kControlling, kOther };
  // `handle` is a descriptor of its own, for settings and for /dev/tty; non-blocking where the
  // terminal is the controlling one.
  HostTerminal(Ref<HostHandle> handle, Role role) : handle_(std::move(handle)), role_(role) {}

  bool stops_background_output() override;
  bool sandbox_in_background() override;
  // Nothing to tell the host: its foreground group is boxrun itself, which passes ^C and ^Z on.
  void foreground_changed(pid_t) override {}
  Result<Ref<vfs::FileDescription>> open(const vfs::OpenRequest& request) override;

 private:
  const Ref<HostHandle> handle_;
  const Role role_;
};

// ioctls of a stream on the host: FIONREAD for all, and for terminals a fixed list. ENOTTY for the
// rest, TIOCSTI first of all. `terminal` is null for what is none.
Result<uint64_t> host_ioctl(int fd, vfs::Terminal* terminal, uint32_t command, uint64_t arg,
                            mm::MemoryManager& memory, vfs::IoctlCaller& caller);

}  // namespace boxrun::fs
