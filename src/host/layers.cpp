#include "src/host/layers.h"

namespace boxrun::host {

std::string_view layer_name(Layer layer) {
  switch (layer) {
    case Layer::kUserNamespace:
      return "user namespace";
    case Layer::kMountNamespace:
      return "mount namespace";
    case Layer::kPidNamespace:
      return "pid namespace";
    case Layer::kNetNamespace:
      return "network namespace";
    case Layer::kIpcNamespace:
      return "ipc namespace";
    case Layer::kUtsNamespace:
      return "uts namespace";
    case Layer::kEmptyRoot:
      return "empty root";
    case Layer::kReadOnlyMounts:
      return "read-only mounts";
    case Layer::kLandlock:
      return "landlock";
    case Layer::kResourceLimits:
      return "resource limits";
    case Layer::kNonDumpable:
      return "non-dumpable";
    case Layer::kNoCapabilities:
      return "no capabilities";
    case Layer::kNoNewPrivileges:
      return "no new privileges";
    case Layer::kSeccomp:
      return "seccomp filter";
  }
  return "unknown layer";
}

std::string LayerSet::names() const {
  std::string text;
  for (int i = 0; i < kLayerCount; i++) {
    const Layer layer = static_cast<Layer>(i);
    if (!has(layer)) continue;
    if (!text.empty()) text += ", ";
    text += layer_name(layer);
  }
  return text.empty() ? "none" : text;
}

}  // namespace boxrun::host
