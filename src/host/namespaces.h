// Forking into namespaces of one's own, as far as the host grants them.
#pragma once
#include <sys/types.h>

#include <optional>

#include "src/base/failure.h"
#include "src/base/fd.h"
#include "src/host/layers.h"

namespace boxrun::host {

// Which ids of the caller's user namespace exist in the new one. Both maps are the identity, so a
// file's owner looks the same on both sides; ids that are not mapped look like 65534.
enum class IdMap : uint8_t {
  kOwn,  // the caller's effective uid and gid: needs no privilege
  kAll,  // every id the caller has, where it may map them (CAP_SETUID and CAP_SETGID), else kOwn
};

struct NamespaceRequest {
  LayerSet wanted = kAllNamespaces;
  IdMap ids = IdMap::kOwn;
};

// What fork_into_namespaces returns, once in the parent and once in the child.
struct Forked {
  pid_t pid = 0;            // 0 in the child
  UniqueFd pidfd;           // of the child; in the parent only
  LayerSet namespaces;      // those that the child got
  IdMap ids = IdMap::kAll;  // which ids exist in the child: kOwn only in a user namespace
  MaybeFailure failure;     // in the child: the ids could not be mapped, it cannot go on
  bool in_child() const { return pid == 0; }
};

// What stands for owners without a number in a user namespace (user_namespaces(7), "Unmapped user
// and group IDs"). Nothing where the namespace has that number: there it is somebody's own.
struct UnmappedIds {
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
};
// As a child of this process with `ids` sees them.
UnmappedIds unmapped_ids(IdMap ids);

// fork(2) into the wanted namespaces. Where the host refuses them all (default Docker,
// Ubuntu 24.04, user.max_user_namespaces = 0) the child is an ordinary one with an empty set of
// namespaces. The calling process must be single-threaded. Errors: EAGAIN, ENOMEM, as fork.
Result<Forked> fork_into_namespaces(const NamespaceRequest& request);

}  // namespace boxrun::host
