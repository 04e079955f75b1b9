#include "sentry/fs/sys_fs.h"

#include <fcntl.h>

#include <string>
#include <string_view>

#include "src/base/bytes.h"

namespace boxrun::fs {
namespace {

constexpr mode_t kFileMode = 0444;
constexpr mode_t kDirectoryMode = 0755;

// The directory `name` in `parent`, made when it is not there yet.
Result<Ref<vfs::Inode>> directory(vfs::Inode& parent, std::string_view name) {
  Result<Ref<vfs::Inode>> there = parent.lookup(name);
  if (there.ok()) return there;
  return parent.create(name, {.type = vfs::FileType::kDirectory, .mode = kDirectoryMode});
}

// Puts `text` at `path`, relative to `root`, with the directories on the way.
Result<void> put(const Ref<vfs::Inode>& root, std::string_view path, std::string_view text) {
  Ref<vfs::Inode> at = root;
  for (size_t slash = path.find('/'); slash != std::string_view::npos; slash = path.find('/')) {
    at = TRY(directory(*at, path.substr(0, slash)));
    path.remove_prefix(slash + 1);
  }
  const Ref<vfs::Inode> file = TRY(at->create(path, {.mode = kFileMode}));
  IoBuffers from(as_bytes_of(text.data(), text.size()));
  FileData::Write where;
  TRY(static_cast<TmpInode&>(*file).data()->write(from, where));
  return {};
}

// "0-3\n", as lib/bitmap.c prints the first `cpus` bits.
std::string cpu_list(unsigned cpus) {
  return cpus <= 1 ? "0\n" : "0-" + std::to_string(cpus - 1) + "\n";
}

Result<void> put_cpus(const Ref<vfs::Inode>& root, unsigned cpus) {
  const std::string list = cpu_list(cpus);
  const std::string base = "devices/system/cpu/";
  TRY(put(root, base + "online", list));
  TRY(put(root, base + "possible", list));
  TRY(put(root, base + "present", list));
  TRY(put(root, base + "offline", "\n"));
  TRY(put(root, base + "kernel_max", "8191\n"));
  for (unsigned cpu = 0; cpu < cpus; cpu++) {
    const std::string topology = base + "cpu" + std::to_string(cpu) + "/topology/";
    const std::string own = std::to_string(cpu) + "\n";
    TRY(put(root, topology + "core_id", own));
    TRY(put(root, topology + "physical_package_id", "0\n"));
    TRY(put(root, topology + "thread_siblings_list", own));
    TRY(put(root, topology + "core_siblings_list", list));
  }
  TRY(put(root, "devices/system/node/online", "0\n"));
  TRY(put(root, "devices/system/node/possible", "0\n"));
  TRY(put(root, "devices/system/node/node0/cpulist", list));
  return {};
}

}  // namespace

Result<Ref<TmpFs>> create_sys_fs(uint64_t device, unsigned cpus, mm::MemoryFile& memory,
                                 const Clock& clock) {
  Ref<TmpFs> fs =
      TmpFs::create({.device = device, .root_mode = 0555, .type = "sysfs"}, memory, clock);
  const Ref<vfs::Inode> root = fs->root();
  TRY(put_cpus(root, cpus));
  const std::string huge = "kernel/mm/transparent_hugepage/";
  TRY(put(root, huge + "enabled", "always [madvise] never\n"));
  TRY(put(root, huge + "shmem_enabled", "always within_size [advise] never deny force\n"));
  TRY(put(root, huge + "hpage_pmd_size", "2097152\n"));
  for (const std::string_view name : {"block", "bus", "class", "dev", "firmware", "fs", "module"}) {
    TRY(directory(*root, name));
  }
  return fs;
}

}  // namespace boxrun::fs
