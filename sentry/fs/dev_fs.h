#pragma once
#include <cstdint>

#include "sentry/fs/tmp_fs.h"
#include "sentry/vfs/mount.h"

namespace boxrun::fs {

// The tree of /dev: null zero full random urandom tty, the links fd stdin stdout stderr, and the
// directories shm and mqueue (to be mounted over) and pts. `device` is its device number.
Result<Ref<TmpFs>> create_dev_fs(uint64_t device, mm::MemoryFile& memory, const Clock& clock);

}  // namespace boxrun::fs
