#pragma once
#include <linux/filter.h>

#include <span>
#include <vector>

#include "src/host/filter.h"

namespace boxrun::host {

// The rows as a classic BPF program over struct seccomp_data: a binary search by system call
// number, then the row's checks. What no row allows, and every call of another architecture, kills
// the process; clone3 answers ENOSYS.
//
// Not by libseccomp, which takes 0.3 ms for a table of ours where this takes a hundredth: every
// start of boxrun builds three of them.
std::vector<sock_filter> compile_filter(std::span<const FilterRow> rows);

}  // namespace boxrun::host
