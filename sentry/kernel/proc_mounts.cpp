// /proc/PID/mounts and mountinfo (fs/proc_namespace.c): mounts below the process's root.
#include <fmt/format.h>
#include <sys/sysmacros.h>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/proc_node.h"
#include "sentry/vfs/walk.h"

namespace boxrun::kernel {
namespace {

// Fields end at blanks (seq_escape with " \t\n\\", and "#" in mounts' source).
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\\' || c == '#') {
      out += fmt::format("\\{:03o}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out;
}

std::string mount_options(const vfs::Mount& mount) {
  using vfs::MountFlags;
  std::string out = mount.read_only() ? "ro" : "rw";
  if (mount.has(MountFlags::kNoSuid)) out += ",nosuid";
  if (mount.has(MountFlags::kNoDev)) out += ",nodev";
  if (mount.has(MountFlags::kNoExec)) out += ",noexec";
  if (mount.has(MountFlags::kNoAtime)) out += ",noatime";
  if (mount.has(MountFlags::kNoDirAtime)) out += ",nodiratime";
  return mount.has(MountFlags::kNoAtime) ? out : out + ",relatime";
}

std::string super_options(const vfs::Mount& mount) {
  std::string out = mount.file_system().properties().read_only ? "ro" : "rw";
  if (!mount.options().empty()) out += "," + mount.options();
  return out;
}

// Calls `add(entry, mount point)` for what lies below the root of the subject.
template <class Add>
Result<void> each_mount(const ProcSubject& subject, Add add) {
  const Ref<vfs::FsContext> context = TRY(subject.task())->resources().fs;
  if (!context) return Errno::kInval;  // fs/proc_namespace.c: mounts_open_common
  const vfs::MountNamespace& mounts = *subject.kernel().root();
  for (const vfs::MountNamespace::Entry& entry : mounts.list()) {
    bool reachable = true;
    const vfs::Path top{entry.mount, entry.mount->root()};
    const std::string point = vfs::path_of(mounts, context->root(), top, &reachable);
    if (reachable) add(entry, point);
  }
  return {};
}

}  // namespace

Result<std::string> proc_mounts(const ProcSubject& subject) {
  std::string out;
  TRY(each_mount(subject, [&](const auto& entry, const std::string& point) {
    const vfs::Mount& mount = *entry.mount;
    std::string options = mount_options(mount);
    if (!mount.options().empty()) options += "," + mount.options();
    out += fmt::format("{} {} {} {} 0 0\n", escaped(mount.source()), escaped(point),
                       mount.file_system().properties().type, options);
  }));
  return out;
}

Result<std::string> proc_mountinfo(const ProcSubject& subject) {
  std::string out;
  TRY(each_mount(subject, [&](const auto& entry, const std::string& point) {
    const vfs::Mount& mount = *entry.mount;
    const uint64_t device = mount.file_system().device();
    out += fmt::format("{} {} {}:{} / {} {} - {} {} {}\n", entry.id, entry.parent_id, major(device),
                       minor(device), escaped(point), mount_options(mount),
                       mount.file_system().properties().type, escaped(mount.source()),
                       super_options(mount));
  }));
  return out;
}

}  // namespace boxrun::kernel
