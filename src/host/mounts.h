// What of the host's file tree a process still has: its declared mounts, or nothing.
#pragma once
#include <string>

#include "src/base/failure.h"
#include "src/base/fd.h"

namespace boxrun::host {

enum class MountAccess : uint8_t { kReadOnly, kReadWrite };

struct MountRoot {
  UniqueFd fd;            // O_PATH, of a directory or a single file
  bool enforced = false;  // the kernel enforces the access, nosuid and nodev on everything below fd
};

// Opens the host path `source`, which has no symbolic links left. In a mount namespace of one's own
// (`own_namespace`) the descriptor is of a private copy of the mount with the access set on the
// mount itself, so that no bug of ours can write through a read-only one. noexec is never added:
// it would forbid PROT_EXEC mappings of the file in the guest (mm/mmap.c: path_noexec).
// Errors: those of open(2).
Result<MountRoot> open_mount_root(const std::string& source, MountAccess access,
                                  bool own_namespace);

// Makes an empty read-only tmpfs the root and the working directory; descriptors that are held stay
// usable. Needs a mount namespace of one's own. Where it fails nothing is lost but the layer.
MaybeFailure enter_empty_root();

// The root directory of a new tmpfs that is attached nowhere, so nobody else can see it, and that
// serves large regions with huge pages (PLATFORMS.md: a first touch is ten times cheaper than on a
// memfd): the place of the memory file. At most `size` bytes, without limit for 0. Needs a mount
// namespace of one's own; errors: EPERM, EINVAL where the host does not grant it.
Result<UniqueFd> make_private_tmpfs(uint64_t size);

}  // namespace boxrun::host
