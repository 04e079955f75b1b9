#pragma once
#include <cstdint>
#include <string_view>

#include "sentry/vfs/file_description.h"
#include "sentry/vfs/mount.h"

namespace boxrun::fs {

// memfd_create(2), of MFD_* `flags` without MFD_CLOEXEC. `mount` is one of a TmpFs that is in no
// namespace. EINVAL for unknown flags, huge pages included, and names over 249 bytes.
Result<Ref<vfs::FileDescription>> create_memfd(const Ref<vfs::Mount>& mount, std::string_view name,
                                               uint32_t flags, Ref<Credentials> credentials);

// F_GET_SEALS and F_ADD_SEALS (fcntl(2)): EINVAL for other kinds of files.
Result<uint32_t> seals_of(vfs::FileDescription& file);
Result<void> add_seals(vfs::FileDescription& file, uint32_t seals);

}  // namespace boxrun::fs
