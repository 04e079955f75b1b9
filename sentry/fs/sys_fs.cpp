#include "sentry/fs/sys_fs.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "src/base/bytes.h"
#include "src/base/cpu_list.h"

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

// One set of CPUs in both formats.
Result<void> put_set(const Ref<vfs::Inode>& root, std::string_view mask, std::string_view list,
                     std::span<const unsigned> cpus, unsigned possible) {
  TRY(put(root, mask, cpu_mask(cpus, possible) + "\n"));
  return put(root, list, cpu_list(cpus) + "\n");
}

// Every CPU is a core of its own, all of them in one package.
Result<void> put_topology(const Ref<vfs::Inode>& root, std::span<const unsigned> cpus) {
  const unsigned possible = cpus.back() + 1;
  for (const unsigned& cpu : cpus) {
    const std::string topology = fmt::format("devices/system/cpu/cpu{}/topology/", cpu);
    TRY(put(root, topology + "core_id", fmt::format("{}\n", cpu)));
    TRY(put(root, topology + "die_id", "0\n"));
    TRY(put(root, topology + "physical_package_id", "0\n"));
    const std::span<const unsigned> own(&cpu, 1);
    // Each set has an older and a newer name (Documentation/admin-guide/cputopology.rst).
    for (const char* name : {"thread_siblings", "core_cpus"}) {
      TRY(put_set(root, topology + name, topology + name + "_list", own, possible));
    }
    for (const char* name : {"core_siblings", "package_cpus", "die_cpus"}) {
      TRY(put_set(root, topology + name, topology + name + "_list", cpus, possible));
    }
  }
  return {};
}

Result<void> put_cpus(const Ref<vfs::Inode>& root, std::span<const unsigned> cpus) {
  const std::string list = cpu_list(cpus) + "\n";
  const std::string base = "devices/system/cpu/";
  TRY(put(root, base + "online", list));
  TRY(put(root, base + "possible", list));
  TRY(put(root, base + "present", list));
  TRY(put(root, base + "offline", "\n"));
  TRY(put(root, base + "kernel_max", "8191\n"));
  TRY(put_topology(root, cpus));
  const std::string node = "devices/system/node/";
  TRY(put(root, node + "online", "0\n"));
  TRY(put(root, node + "possible", "0\n"));
  return put_set(root, node + "node0/cpumap", node + "node0/cpulist", cpus, cpus.back() + 1);
}

}  // namespace

Result<Ref<TmpFs>> create_sys_fs(uint64_t device, std::span<const unsigned> cpus,
                                 mm::MemoryFile& memory, const Clock& clock) {
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
