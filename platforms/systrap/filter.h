#pragma once
#include <linux/filter.h>

#include <vector>

#include "platforms/systrap/layout.h"

namespace boxrun::platform {

// The seccomp filters of stubs (PLATFORMS.md, systrap). Both answer what they do not allow with
// SIGSYS, which a guest thread hands to the Sentry like any system call and which ends a mapper.

// Of every thread of a stub process: what the seed, the mapper and the start of a guest thread
// need, with the arguments that are known beforehand.
std::vector<sock_filter> process_filter(const SystrapLayout& layout);

// On top of it, in every thread that runs guest code: futex on the slots, rt_sigreturn and exit,
// and these only from stub text, because guest code may mean something else by them. What keeps a
// guest inside is the list of calls, not where they come from: it can jump into stub text.
std::vector<sock_filter> thread_filter(const SystrapLayout& layout);

}  // namespace boxrun::platform
