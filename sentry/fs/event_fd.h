#pragma once
#include <cstdint>

#include "sentry/vfs/file_description.h"
#include "sentry/vfs/mount.h"

namespace boxrun::fs {

// eventfd2(2), of EFD_SEMAPHORE and EFD_NONBLOCK; EINVAL for other flags but EFD_CLOEXEC. `mount`
// is the kernel's AnonymousFileSystem.
Result<Ref<vfs::FileDescription>> create_event_fd(const Ref<vfs::Mount>& mount, uint32_t initial,
                                                  int flags, Ref<Credentials> credentials);

}  // namespace boxrun::fs
