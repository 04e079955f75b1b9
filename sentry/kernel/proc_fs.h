#pragma once
#include <cstdint>
#include <string>

#include "sentry/kernel/fwd.h"
#include "sentry/vfs/file_system.h"
#include "sentry/vfs/inode.h"
#include "src/base/ref.h"

namespace boxrun::kernel {

// /proc (proc(5)) of one kernel: everything in it is made when it is looked at, from the state of
// the sandbox and never from the host's /proc. The Kernel outlives every use of the tree, not the
// tree itself.
class ProcFs final : public vfs::FileSystem {
 public:
  static Ref<ProcFs> create(Kernel& kernel, uint64_t device);

  Ref<vfs::Inode> root() override;
  Result<vfs::Statistics> statistics() override;

  Kernel& kernel() const { return kernel_; }
  // random/boot_id: the same for as long as the sandbox runs.
  const std::string& boot_id() const { return boot_id_; }

 private:
  ProcFs(Kernel& kernel, uint64_t device);
  Kernel& kernel_;
  const std::string boot_id_;
};

}  // namespace boxrun::kernel
