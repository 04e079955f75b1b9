// An overlay over a tmpfs, and trees as text.
#pragma once
#include <string>

#include "sentry/fs/overlay_fs.h"
#include "tests/unit/vfs_fixture.h"

namespace boxrun::fs::testing {

using vfs::testing::Tree;
using vfs::testing::View;

// `lower` is filled before the overlay is looked at for the first time.
class OverlayTree {
 public:
  Tree lower;
  Ref<OverlayFs> overlay = OverlayFs::create(9, lower.file_system, lower.make(8));
  View view{overlay};
};

// A tree as text, one line a name: what a guest can tell about it but inode numbers, which are
// replaced by the first name of the file, atime, and sizes of directories.
std::string describe(View& view);

// Looks so many names up that nothing stays cached which nobody uses.
void forget_names(View& view);

}  // namespace boxrun::fs::testing
