// From a path to a place: the only code that knows about "..", symlinks, mounts, trailing slashes
// and search permission (path_resolution(7), openat2(2)).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sentry/vfs/caller.h"
#include "sentry/vfs/mount.h"
#include "src/base/result.h"

namespace boxrun::vfs {

enum class Follow : uint8_t { kNo, kYes };

struct WalkOptions {
  Follow follow = Follow::kYes;  // whether a symlink as the last name is followed
  bool allow_empty = false;      // AT_EMPTY_PATH: "" is the start itself
  bool must_be_directory =
      false;                      // ENOTDIR otherwise (O_DIRECTORY; a trailing slash does the same)
  uint64_t resolve = 0;           // RESOLVE_*
  std::optional<int> open_flags;  // see LookupIntent
};

// Where a path begins, when it is relative: a directory descriptor or the working directory.
// Absolute paths begin at the caller's root.
Result<Path> walk(Caller& caller, const Path& start, std::string_view path,
                  const WalkOptions& options);

// All but the last name, and that name.
struct LastName {
  enum class Kind : uint8_t { kNormal, kDot, kDotDot, kRoot } kind = Kind::kNormal;
  Path directory;  // for kRoot: the root itself
  std::string name;
  bool trailing_slash = false;
};
// For calls that make, remove or rename a name. With Follow::kYes a symlink under the last name is
// followed to the name that it stands for, which need not exist (O_CREAT).
Result<LastName> walk_to_last(Caller& caller, const Path& start, std::string_view path,
                              const WalkOptions& options = {.follow = Follow::kNo});

// The absolute path of a name in `directory`, whether or not it exists.
std::string path_in(const Caller& caller, const Path& directory, std::string_view name);

// EROFS when the mount is read-only; reported for the name, which was to be made or removed.
Result<void> require_writable(Caller& caller, const LastName& last);

// The entry `name` of `directory`, positive or negative, with the directory's mutex held; neither
// follows symlinks nor crosses mounts. ENAMETOOLONG.
Result<Ref<Dentry>> lookup_locked(const Path& directory, std::string_view name);

// The absolute path, as getcwd and /proc/PID/fd show it: up to the caller's root; with
// " (deleted)" once unhashed. `reachable` becomes false when `path` is not below the root
// ("(unreachable)").
std::string path_of(const MountNamespace& mounts, const Path& root, const Path& path,
                    bool* reachable = nullptr);

inline constexpr size_t kMaxPath = 4096;  // PATH_MAX, with the NUL
inline constexpr size_t kMaxName = 255;
inline constexpr int kMaxSymlinks = 40;  // MAXSYMLINKS of fs/namei.c

}  // namespace boxrun::vfs
