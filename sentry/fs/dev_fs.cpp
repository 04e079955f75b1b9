#include "sentry/fs/dev_fs.h"

#include <sys/sysmacros.h>

#include <string_view>

namespace boxrun::fs {
namespace {

struct Node {
  std::string_view name;
  unsigned major, minor;
};
constexpr Node kNodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                           {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

struct Link {
  std::string_view name, target;
};
constexpr Link kLinks[] = {{"fd", "/proc/self/fd"},
                           {"stdin", "/proc/self/fd/0"},
                           {"stdout", "/proc/self/fd/1"},
                           {"stderr", "/proc/self/fd/2"}};

constexpr std::string_view kDirectories[] = {"shm", "pts", "mqueue"};

}  // namespace

Result<Ref<TmpFs>> create_dev_fs(uint64_t device, mm::MemoryFile& memory, const Clock& clock) {
  Ref<TmpFs> fs = TmpFs::create({.device = device,
                                 .size_limit = uint64_t{1} << 20,
                                 .max_inodes = 1024,
                                 .root_mode = 0755,
                                 .type = "devtmpfs"},
                                memory, clock);
  const Ref<vfs::Inode> root = fs->root();
  for (const Node& node : kNodes) {
    TRY(root->create(node.name, {.type = vfs::FileType::kCharDevice,
                                 .mode = 0666,
                                 .rdev = makedev(node.major, node.minor)}));
  }
  for (const Link& link : kLinks) {
    TRY(root->create(link.name, {.type = vfs::FileType::kSymlink,
                                 .mode = 0777,
                                 .symlink_target = std::string(link.target)}));
  }
  for (const std::string_view name : kDirectories) {
    TRY(root->create(name, {.type = vfs::FileType::kDirectory, .mode = 0755}));
  }
  return fs;
}

}  // namespace boxrun::fs
