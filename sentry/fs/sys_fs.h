#pragma once
#include <cstdint>
#include <span>

#include "sentry/fs/tmp_fs.h"

namespace boxrun::fs {

// The part of /sys that ordinary programs read (glibc, python, gcc, nproc, Go, jemalloc): CPUs,
// one NUMA node, transparent huge pages. Made once, of `cpus`, at least one, ascending; to be
// mounted read-only.
Result<Ref<TmpFs>> create_sys_fs(uint64_t device, std::span<const unsigned> cpus,
                                 mm::MemoryFile& memory, const Clock& clock);

}  // namespace boxrun::fs
