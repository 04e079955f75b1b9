// Landlock (landlock(7)): the file boundary that needs no privilege and no namespace.
#pragma once
#include <span>

#include "src/base/failure.h"
#include "src/base/result.h"
#include "src/host/mounts.h"

namespace boxrun::host {

// One file tree that stays reachable.
struct FileGrant {
  int fd = -1;  // O_PATH, of a directory or a single file; borrowed
  MountAccess access = MountAccess::kReadOnly;
};

// The version the host speaks. Errors: ENOSYS (not built in), EOPNOTSUPP (disabled at boot),
// EPERM (a seccomp filter of an older container engine).
Result<int> landlock_abi();

// From here on this process and its children reach no file but those of `grants`, may not use TCP,
// and may not signal, trace or connect to processes outside, as far as the host's version goes.
// Descriptors that are already open keep what they allow. Sets no_new_privs, which it needs.
MaybeFailure restrict_files(std::span<const FileGrant> grants);

}  // namespace boxrun::host
