// Small steps that every forked process of boxrun takes before it does anything else.
#pragma once
#include <array>
#include <csignal>
#include <cstdint>
#include <span>

#include "src/base/failure.h"
#include "src/base/fd.h"

namespace boxrun::host {

// A pidfd of the calling process. Taken before a fork, so that the child can tell a live parent
// from a dead one: getppid() is 0 for every parent outside the child's pid namespace.
Result<UniqueFd> pidfd_of_self();

// Has the kernel kill this process when the thread that forked it ends, and ends it at once when
// that happened already. To be repeated after every change of credentials, which disarms it
// (kernel/cred.c: commit_creds). Exits the process with status 125 if the parent is gone.
void die_with_parent(int parent_pidfd);

// Orphaned descendants become children of this process instead of init's.
Result<void> become_subreaper();

// Closes every descriptor but the standard streams and `keep` (any order, -1 is skipped).
Result<void> close_all_but(std::span<const int> keep);

// The signals that this process ignores, bit N - 1 for signal N: what a program that it executes
// inherits (execve(2)).
uint64_t ignored_signals();
// A write to a pipe without a reader is an error of one call, not the end of this process.
void ignore_broken_pipes();

// Default dispositions for all signals and nothing pending inherited from the caller. Blocks
// everything that a terminal or a user may send to the process group: only the monitor answers it.
void shield_from_group_signals();

// Which of the descriptors 0, 1 and 2 the caller had open. Closed ones are filled with /dev/null,
// so that no descriptor of ours ever becomes somebody's standard output. Once, first thing in main.
std::array<bool, 3> occupy_standard_streams();
// Replaces standard input and output by /dev/null: a process that keeps a pipe of the caller's open
// would hide from the other end that the target closed it.
void release_standard_streams();

// Core dumps never reach a file (the limit of 1 stops a piped core_pattern, too, which 0 does not:
// fs/coredump.c), and as many descriptors as the hard limit allows.
Result<void> set_resource_limits();

// Overwrites and forgets the caller's environment: its secrets are none of our processes' business.
void wipe_environment();

}  // namespace boxrun::host
