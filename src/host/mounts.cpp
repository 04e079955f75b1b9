#include "src/host/mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

namespace boxrun::host {
namespace {

Result<UniqueFd> copy_mount(const std::string& source, MountAccess access) {
  // Recursive: mounts inherited from a more privileged namespace can only be copied with all that
  // lies on top of them (fs/namespace.c: has_locked_children).
  UniqueFd fd = TRY(own_fd(
      ::open_tree(AT_FDCWD, source.c_str(),
                  OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW)));
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (access == MountAccess::kReadOnly) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  if (::mount_setattr(fd.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) <
      0) {
    return last_error();
  }
  return fd;
}

// A tmpfs that is attached nowhere.
Result<UniqueFd> new_tmpfs(std::initializer_list<std::pair<const char*, const char*>> options,
                           unsigned attributes) {
  const UniqueFd context = TRY(own_fd(::fsopen("tmpfs", FSOPEN_CLOEXEC)));
  for (const auto& [key, value] : options) {
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0) < 0) return last_error();
  }
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) return last_error();
  return own_fd(::fsmount(context.get(), /*FSMOUNT_CLOEXEC*/ 1, attributes));
}

Failure root_failure(const char* what) { return {what, "empty root", last_error(), ""}; }

}  // namespace

Result<MountRoot> open_mount_root(const std::string& source, MountAccess access,
                                  bool own_namespace) {
  if (own_namespace) {
    // A refusal (an older kernel, AppArmor) costs the layer, not the mount.
    if (Result<UniqueFd> copy = copy_mount(source, access); copy.ok()) {
      return MountRoot{std::move(copy).take(), true};
    }
  }
  UniqueFd fd = TRY(own_fd(::open(source.c_str(), O_PATH | O_CLOEXEC | O_NOFOLLOW)));
  return MountRoot{std::move(fd), false};
}

MaybeFailure enter_empty_root() {
  // A mount event here must not reach the host, nor the other way round.
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) {
    return root_failure("make the mounts private");
  }
  Result<UniqueFd> root =
      new_tmpfs({{"size", "4k"}, {"nr_inodes", "2"}, {"mode", "0555"}},
                MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  if (!root) return Failure{"mount an empty root", "empty root", root.error(), ""};
  // Stacked on the old root, then the two change places and the old one is dropped with all its
  // mounts (pivot_root(2), "pivot_root(".", ".")").
  if (::move_mount(root->get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
      ::fchdir(root->get()) < 0 || ::syscall(SYS_pivot_root, ".", ".") < 0) {
    return root_failure("change the root");
  }
  if (::umount2(".", MNT_DETACH) < 0 || ::chdir("/") < 0) return root_failure("drop the old root");
  return std::nullopt;
}

Result<UniqueFd> make_private_tmpfs(uint64_t size) {
  const std::string limit = std::to_string(size);
  return new_tmpfs(
      {{"huge", "advise"}, {"size", limit.c_str()}, {"nr_inodes", "16"}, {"mode", "0700"}},
      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

}  // namespace boxrun::host
