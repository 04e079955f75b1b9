#pragma once
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "sentry/mm/memory_manager.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::kernel {

// One resource limit as prlimit64(2) has it: struct rlimit64. UINT64_MAX is "no limit".
struct ResourceLimit {
  uint64_t soft = RLIM_INFINITY;
  uint64_t hard = RLIM_INFINITY;
};

// The resource limits of one process (getrlimit(2)). Soft limits are read on hot paths without a
// lock; a pair is read and changed under the lock. Thread-safe.
class ResourceLimits {
 public:
  static constexpr int kCount = RLIM_NLIMITS;

  ResourceLimits();  // Linux's defaults for the first process (include/asm-generic/resource.h)
  // For fork(2).
  void copy_from(const ResourceLimits& other);

  uint64_t soft(int resource) const { return soft_[resource].load(std::memory_order_relaxed); }
  // EINVAL for an unknown resource.
  Result<ResourceLimit> get(int resource) const EXCLUDES(mutex_);
  // Returns the previous pair. EINVAL: unknown resource, soft above hard. EPERM: raising the hard
  // limit without `may_raise` (CAP_SYS_RESOURCE), or RLIMIT_NOFILE above kMaxOpenFiles.
  Result<ResourceLimit> set(int resource, ResourceLimit wanted, bool may_raise) EXCLUDES(mutex_);

  // What the memory manager wants to know.
  mm::Limits memory() const;

  static constexpr uint64_t kMaxOpenFiles = 1'048'576;  // fs.nr_open

 private:
  void set_locked(int resource, ResourceLimit limit) REQUIRES(mutex_);

  mutable Mutex mutex_{Rank::kTask};
  std::array<std::atomic<uint64_t>, kCount> soft_;
  std::array<uint64_t, kCount> hard_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::kernel
