#include "src/host/seal.h"

#include <sys/prctl.h>

#include "src/base/log.h"
#include "src/host/caps.h"
#include "src/host/mounts.h"
#include "src/host/process.h"

namespace boxrun::host {

MaybeFailure confine_files(std::span<const FileGrant> grants, LayerSet& in_force) {
  if (in_force.has(Layer::kMountNamespace)) {
    if (const MaybeFailure failure = enter_empty_root()) {
      LOG(kInfo, "going on without an empty root: {}", to_string(*failure));
    } else {
      in_force.add(Layer::kEmptyRoot);
    }
  }
  if (const MaybeFailure failure = restrict_files(grants)) {
    LOG(kInfo, "going on without Landlock: {}", to_string(*failure));
  } else {
    in_force.add(Layer::kLandlock);
  }
  if (const Result<void> limited = set_resource_limits(); !limited) {
    return Failure{"set resource limits", "resource limits", limited.error(), ""};
  }
  in_force.add(Layer::kResourceLimits);
  wipe_environment();
  return std::nullopt;
}

MaybeFailure drop_rights(const Rights& rights, LayerSet& in_force) {
  if (::prctl(PR_SET_DUMPABLE, 0) < 0) {
    return Failure{"become non-dumpable", "non-dumpable", last_error(), ""};
  }
  in_force.add(Layer::kNonDumpable);
  if (MaybeFailure failure = drop_capabilities(rights.capabilities)) return failure;
  in_force.add(Layer::kNoCapabilities);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    return Failure{"set no_new_privs", "no new privileges", last_error(), ""};
  }
  in_force.add(Layer::kNoNewPrivileges);
  if (rights.parent_pidfd >= 0) die_with_parent(rights.parent_pidfd);
  if (MaybeFailure failure = install_filter(all_rows(rights.kind, rights.filter_rows)))
    return failure;
  in_force.add(Layer::kSeccomp);
  return std::nullopt;
}

LayerSet required_layers(ProcessKind kind) {
  LayerSet required = {Layer::kNoNewPrivileges, Layer::kSeccomp};
  if (kind != ProcessKind::kMonitor) {
    required =
        required | LayerSet{Layer::kResourceLimits, Layer::kNonDumpable, Layer::kNoCapabilities};
  }
  return required;
}

MaybeFailure check_layers(ProcessKind kind, LayerSet in_force) {
  const std::string who(process_name(kind));
  if (const LayerSet missing = in_force.missing(required_layers(kind)); !missing.empty()) {
    return Failure{"seal the " + who + ": missing " + missing.names(), who, Errno::kOk, ""};
  }
  if (kind != ProcessKind::kMonitor && !in_force.has(Layer::kEmptyRoot) &&
      !in_force.has(Layer::kLandlock)) {
    return Failure{
        "close the file system to the " + who, who, Errno::kOk,
        "allow user namespaces, or use Linux 5.13 with Landlock enabled and not filtered "
        "by the container engine"};
  }
  return std::nullopt;
}

}  // namespace boxrun::host
