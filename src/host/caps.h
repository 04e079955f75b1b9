#pragma once
#include <span>

#include "src/base/failure.h"

namespace boxrun::host {

// Gives up every capability that is not in `keep` (CAP_* of <sys/capability.h>) from the effective,
// permitted, inheritable, ambient and, where CAP_SETPCAP allows it, bounding sets. Capabilities in
// `keep` that the process does not have are not an error.
MaybeFailure drop_capabilities(std::span<const int> keep);

// Whether all of them are in effect.
bool has_capabilities(std::span<const int> wanted);

// What the Gofer keeps when it runs as root, to act for the guest's users on writable mounts.
std::span<const int> gofer_capabilities();

}  // namespace boxrun::host
