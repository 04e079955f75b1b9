#pragma once
#include <cstdint>

#include "sentry/fs/tmp_fs.h"

namespace boxrun::fs {

// The part of /sys that ordinary programs read (glibc, python, gcc, nproc, Go, jemalloc): CPUs,
// one NUMA node, transparent huge pages. Made once, of `cpus` CPUs; to be mounted read-only.
Result<Ref<TmpFs>> create_sys_fs(uint64_t device, unsigned cpus, mm::MemoryFile& memory,
                                 const Clock& clock);

}  // namespace boxrun::fs
