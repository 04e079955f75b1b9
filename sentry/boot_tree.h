// The file tree that a sandbox starts with: a skeleton in memory, and the declared mounts on it.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sentry/boot.h"
#include "sentry/fs/overlay_fs.h"
#include "sentry/fs/p9_fs.h"
#include "sentry/fs/special_files.h"
#include "sentry/mm/memory_file.h"
#include "sentry/time/clock.h"
#include "sentry/vfs/mount.h"
#include "src/base/failure.h"
#include "src/base/ref.h"
#include "src/report/record.h"

namespace boxrun::sentry {

// What file systems of one sandbox are made from. Borrowed.
struct TreeResources {
  mm::MemoryFile& memory;
  const Clock& clock;
  vfs::AnonymousDevices& devices;
  vfs::SpecialFiles& special_files;
  Ref<fs::P9Connection> gofer;  // null when nothing is mounted
};

struct Tree {
  Ref<vfs::MountNamespace> mounts;
  // The overlays and where they are, for the list of changes.
  struct Overlay {
    std::string target;
    Ref<fs::OverlayFs> file_system;
  };
  std::vector<Overlay> overlays;
  // Of each file system in memory, and which limit it is.
  std::vector<std::pair<report::Kind, Ref<fs::SpaceQuota>>> quotas;
  vfs::Path proc;  // where /proc is to be mounted once there is a kernel
};

// Mounts everything of `spec`, parents before children. Of two mounts with one target the later one
// is on top.
MaybeFailure build_tree(const BootSpec& spec, const TreeResources& resources, Tree& tree);

}  // namespace boxrun::sentry
