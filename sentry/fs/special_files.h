#pragma once
#include "sentry/fs/pipe.h"
#include "sentry/vfs/caller.h"

namespace boxrun::fs {

// Opens FIFOs and the character devices that exist: null, zero, full, random, urandom, tty
// (Documentation/admin-guide/devices.txt). Thread-safe.
class DeviceFiles final : public vfs::SpecialFiles {
 public:
  explicit DeviceFiles(PipeSystem pipes) : pipes_(std::move(pipes)) {}
  const PipeSystem& pipes() const { return pipes_; }

  Result<Ref<vfs::FileDescription>> open(vfs::Inode& inode,
                                         const vfs::OpenRequest& request) override;

 private:
  const PipeSystem pipes_;
};

}  // namespace boxrun::fs
