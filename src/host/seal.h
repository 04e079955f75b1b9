// The order in which a forked process of boxrun gives up what it has (DESIGN chapter 12; README.md
// says what each layer is for). Two halves, because some things must be created in between:
//
//   fork_into_namespaces -> die_with_parent -> close_all_but
//   confine_files:  empty root, Landlock, resource limits, environment
//     (here the Sentry makes its memory file, seed stub or VM)
//   drop_rights:    non-dumpable, capabilities, no_new_privs, seccomp filter
//   check_layers:   enough of them in force?
#pragma once
#include <span>

#include "src/base/failure.h"
#include "src/host/filter.h"
#include "src/host/landlock.h"
#include "src/host/layers.h"

namespace boxrun::host {

// Cuts the process off from every file but `grants` and what it holds open. Layers that the host
// does not offer are left out of `in_force`: check_layers decides whether that is acceptable.
MaybeFailure confine_files(std::span<const FileGrant> grants, LayerSet& in_force);

// What a process of a kind keeps to the end.
struct Rights {
  ProcessKind kind = ProcessKind::kSentry;
  std::span<const int> capabilities;       // CAP_*, normally none
  std::span<const FilterRow> filter_rows;  // beyond rows_of(kind): the platform's, the Gofer's
  int parent_pidfd = -1;  // to re-arm die_with_parent after the last change of credentials
};

// The rest, up to the filter. After it the process can do only what its table says.
MaybeFailure drop_rights(const Rights& rights, LayerSet& in_force);

// The layers without which a process of this kind does not start. Besides, Gofer and Sentry need
// one of the two file boundaries: an empty root or Landlock.
LayerSet required_layers(ProcessKind kind);
MaybeFailure check_layers(ProcessKind kind, LayerSet in_force);

}  // namespace boxrun::host
