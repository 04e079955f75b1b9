#include "sentry/kernel/limits.h"

namespace boxrun::kernel {

ResourceLimits::ResourceLimits() {
  Lock lock(mutex_);
  for (auto& soft : soft_) soft.store(RLIM_INFINITY, std::memory_order_relaxed);
  hard_.fill(RLIM_INFINITY);
  set_locked(RLIMIT_STACK, {uint64_t{8} << 20, RLIM_INFINITY});
  set_locked(RLIMIT_CORE, {0, RLIM_INFINITY});
  set_locked(RLIMIT_NOFILE, {1024, 4096});
  set_locked(RLIMIT_MEMLOCK, {uint64_t{8} << 20, uint64_t{8} << 20});
  set_locked(RLIMIT_SIGPENDING, {16384, 16384});
  set_locked(RLIMIT_NPROC, {16384, 16384});
  set_locked(RLIMIT_MSGQUEUE, {819200, 819200});
  set_locked(RLIMIT_NICE, {0, 0});
  set_locked(RLIMIT_RTPRIO, {0, 0});
}

void ResourceLimits::set_locked(int resource, ResourceLimit limit) {
  soft_[resource].store(limit.soft, std::memory_order_relaxed);
  hard_[resource] = limit.hard;
}

void ResourceLimits::copy_from(const ResourceLimits& other) {
  std::array<uint64_t, kCount> hard;
  std::array<uint64_t, kCount> soft;
  {
    Lock lock(other.mutex_);
    hard = other.hard_;
    for (int i = 0; i < kCount; i++) soft[i] = other.soft(i);
  }
  Lock lock(mutex_);
  hard_ = hard;
  for (int i = 0; i < kCount; i++) soft_[i].store(soft[i], std::memory_order_relaxed);
}

Result<ResourceLimit> ResourceLimits::get(int resource) const {
  if (resource < 0 || resource >= kCount) return Errno::kInval;
  Lock lock(mutex_);
  return ResourceLimit{soft(resource), hard_[resource]};
}

Result<ResourceLimit> ResourceLimits::set(int resource, ResourceLimit wanted, bool may_raise) {
  if (resource < 0 || resource >= kCount || wanted.soft > wanted.hard) return Errno::kInval;
  if (resource == RLIMIT_NOFILE && wanted.hard > kMaxOpenFiles) return Errno::kPerm;
  Lock lock(mutex_);
  const ResourceLimit old{soft(resource), hard_[resource]};
  if (wanted.hard > old.hard && !may_raise) return Errno::kPerm;
  set_locked(resource, wanted);
  return old;
}

mm::Limits ResourceLimits::memory() const {
  return {.address_space = soft(RLIMIT_AS),
          .data = soft(RLIMIT_DATA),
          .stack = soft(RLIMIT_STACK),
          .memlock = soft(RLIMIT_MEMLOCK)};
}

}  // namespace boxrun::kernel
