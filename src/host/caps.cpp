#include "src/host/caps.h"

#include <sys/capability.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

namespace boxrun::host {
namespace {

struct CapsDeleter {
  void operator()(_cap_struct* caps) const { ::cap_free(caps); }
};
using Caps = std::unique_ptr<_cap_struct, CapsDeleter>;

Failure caps_failure(const char* what) { return {what, "capabilities", last_error(), ""}; }

bool permitted(const Caps& caps, cap_value_t value) {
  cap_flag_value_t set = CAP_CLEAR;
  return ::cap_get_flag(caps.get(), value, CAP_PERMITTED, &set) == 0 && set == CAP_SET;
}

// The bounding set only matters across execve, which the filter forbids: so it is a second line,
// and a process without CAP_SETPCAP goes on without it.
void drop_bounding_set(std::span<const int> keep) {
  for (cap_value_t value = 0; value < static_cast<cap_value_t>(::cap_max_bits()); value++) {
    if (std::find(keep.begin(), keep.end(), value) != keep.end()) continue;
    if (::cap_drop_bound(value) < 0) return;
  }
}

}  // namespace

MaybeFailure drop_capabilities(std::span<const int> keep) {
  const Caps before(::cap_get_proc());
  if (before == nullptr) return caps_failure("read the capabilities");
  drop_bounding_set(keep);
  // EINVAL: a kernel before 4.3 that knows no ambient set. Emptying the inheritable set empties it
  // too.
  if (::cap_reset_ambient() < 0 && errno != EINVAL)
    return caps_failure("clear the ambient capabilities");

  std::vector<cap_value_t> kept;
  for (const int value : keep) {
    if (permitted(before, value)) kept.push_back(value);
  }
  const Caps after(::cap_init());
  if (after == nullptr) return caps_failure("allocate a capability set");
  const int count = static_cast<int>(kept.size());
  if (count > 0 && (::cap_set_flag(after.get(), CAP_PERMITTED, count, kept.data(), CAP_SET) < 0 ||
                    ::cap_set_flag(after.get(), CAP_EFFECTIVE, count, kept.data(), CAP_SET) < 0)) {
    return caps_failure("choose the capabilities to keep");
  }
  if (::cap_set_proc(after.get()) < 0) return caps_failure("drop the capabilities");
  return std::nullopt;
}

bool has_capabilities(std::span<const int> wanted) {
  const Caps caps(::cap_get_proc());
  return caps != nullptr && std::all_of(wanted.begin(), wanted.end(), [&](int value) {
           cap_flag_value_t set = CAP_CLEAR;
           return ::cap_get_flag(caps.get(), value, CAP_EFFECTIVE, &set) == 0 && set == CAP_SET;
         });
}

std::span<const int> gofer_capabilities() {
  static constexpr std::array<int, 6> kKept = {CAP_DAC_OVERRIDE, CAP_CHOWN,  CAP_FOWNER,
                                               CAP_FSETID,       CAP_SETUID, CAP_SETGID};
  return kKept;
}

}  // namespace boxrun::host
