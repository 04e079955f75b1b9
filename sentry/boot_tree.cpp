#include "sentry/boot_tree.h"

#include <fcntl.h>

#include <algorithm>

#include "sentry/fs/dev_fs.h"
#include "sentry/fs/sys_fs.h"
#include "sentry/kernel/scheduling.h"
#include "sentry/vfs/operations.h"

namespace boxrun::sentry {
namespace {

using vfs::MountFlags;

constexpr uint64_t kDefaultTmpSize = uint64_t{1} << 40;  // bounded by memory or disk anyway

Failure cannot(const std::string& what, Errno error) { return {what, "sentry", error, ""}; }

// Builds the tree as the guest's root would, with every right.
class Builder {
 public:
  Builder(const BootSpec& spec, const TreeResources& resources, Ref<vfs::Mount> root, Tree& tree)
      : limits_(spec.limits),
        resources_(resources),
        tree_(tree),
        mounts_(vfs::MountNamespace::create(std::move(root))),
        fs_(make_ref<vfs::FsContext>(mounts_->root(), mounts_->root(), 0)),
        caller_{*fs_, Credentials::create(0, 0, {}, CapSet::all()), *mounts_,
                resources.special_files} {}

  const Ref<vfs::MountNamespace>& mounts() const { return mounts_; }

  // Makes what is missing on the way to `path`, and at it.
  MaybeFailure make_mountpoint(const std::string& path, bool directory) {
    for (size_t at = path.find('/', 1); at != path.npos; at = path.find('/', at + 1)) {
      if (auto failure = make_one(path.substr(0, at), true)) return failure;
    }
    return make_one(path, directory);
  }

  Result<vfs::Path> place_of(const std::string& path) {
    return vfs::walk(caller_, mounts_->root(), path, {});
  }

  MaybeFailure attach(const std::string& target, vfs::Mount::Config config, bool directory) {
    if (auto failure = make_mountpoint(target, directory)) return failure;
    const auto place = vfs::walk(caller_, mounts_->root(), target, {});
    if (!place.ok()) return cannot("find the mount point " + target, place.error());
    const auto done = mounts_->attach(vfs::Mount::create(std::move(config)), *place);
    if (!done.ok()) return cannot("mount at " + target, done.error());
    return {};
  }

  MaybeFailure make_symlink(const BootSymlink& link) {
    if (auto failure = make_mountpoint(parent_of(link.path), true)) return failure;
    const auto done = vfs::make_symlink(caller_, {mounts_->root(), link.path}, link.text);
    if (!done.ok() && done.error() != Errno::kExist) {
      return cannot("make the symbolic link " + link.path, done.error());
    }
    return {};
  }

  // A tmpfs of its own, or the upper layer of an overlay: `kind` says which limit it is held to.
  Ref<fs::TmpFs> make_tmpfs(mode_t mode, uid_t uid, gid_t gid, report::Kind kind) {
    const uint64_t size =
        kind == report::Kind::kLimitOverlaySize ? limits_.overlay_size : limits_.tmp_size;
    fs::TmpFs::Config config;
    config.device = resources_.devices.allocate();
    config.size_limit = size != 0 ? size : kDefaultTmpSize;
    if (kind == report::Kind::kLimitOverlaySize &&
        resources_.memory.limit(mm::Storage::kDisk) > 0) {
      config.storage = mm::Storage::kDisk;
    }
    config.root_mode = mode;
    config.uid = uid;
    config.gid = gid;
    auto files = fs::TmpFs::create(config, resources_.memory, resources_.clock);
    tree_.quotas.emplace_back(kind, files->quota());
    return files;
  }

 private:
  static std::string parent_of(const std::string& path) {
    const size_t slash = path.find_last_of('/');
    return slash == 0 || slash == path.npos ? "/" : path.substr(0, slash);
  }

  MaybeFailure make_one(const std::string& path, bool directory) {
    if (path == "/") return {};
    if (vfs::walk(caller_, mounts_->root(), path, {}).ok()) return {};
    const vfs::At at{mounts_->root(), path};
    const auto made = directory ? vfs::make_directory(caller_, at, 0755)
                                : vfs::make_node(caller_, at, vfs::FileType::kRegular, 0644, 0);
    if (made.ok() || made.error() == Errno::kExist) return {};
    return cannot("make the mount point " + path, made.error());
  }

  const BootLimits& limits_;
  const TreeResources& resources_;
  Tree& tree_;
  const Ref<vfs::MountNamespace> mounts_;
  const Ref<vfs::FsContext> fs_;
  vfs::Caller caller_;
};

// Something to be put at a path, in the order of depth.
struct Item {
  std::string target;
  const BootMount* mount = nullptr;
  const BootTmpfs* tmpfs = nullptr;
  const BootSymlink* symlink = nullptr;
  size_t depth() const {
    return static_cast<size_t>(std::count(target.begin(), target.end(), '/'));
  }
};

// A tmpfs at / is the root itself, which then may be written to: the mounts are in it as before.
bool is_at_root(const BootTmpfs& tmpfs) { return tmpfs.path == "/"; }

std::vector<Item> in_order(const BootSpec& spec) {
  std::vector<Item> items;
  for (const BootSymlink& link : spec.symlinks)
    items.push_back({.target = link.path, .symlink = &link});
  for (const BootTmpfs& tmpfs : spec.tmpfs) {
    if (!is_at_root(tmpfs)) items.push_back({.target = tmpfs.path, .tmpfs = &tmpfs});
  }
  for (const BootMount& mount : spec.mounts)
    items.push_back({.target = mount.target, .mount = &mount});
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.depth() < b.depth(); });
  return items;
}

// A file system of the host's files, as it is or under an overlay. Setuid bits and device nodes of
// the host mean nothing inside (DESIGN 12a).
MaybeFailure mount_host_files(Builder& builder, const BootMount& mount,
                              const TreeResources& resources, const BootSpec& spec, Tree& tree) {
  fs::P9Fs::Config config;
  config.device = resources.devices.allocate();
  config.mount = std::to_string(mount.gofer_mount);
  config.cache =
      mount.cache == BootMount::Cache::kShared ? fs::P9Cache::kShared : fs::P9Cache::kExclusive;
  config.unmapped_uid = spec.unmapped_uid;
  config.unmapped_gid = spec.unmapped_gid;
  config.read_only = mount.mode != BootMount::Mode::kReadWrite;
  auto files = fs::P9Fs::create(std::move(config), resources.gofer);
  if (!files.ok()) return cannot("attach to the mount " + mount.source, files.error());

  vfs::Mount::Config attached;
  attached.source = mount.source;
  attached.flags = MountFlags::kNoSuid | MountFlags::kNoDev;
  if (mount.mode == BootMount::Mode::kOverlay) {
    auto upper = builder.make_tmpfs(0755, spec.uid, spec.gid, report::Kind::kLimitOverlaySize);
    auto overlay =
        fs::OverlayFs::create(resources.devices.allocate(), std::move(*files), std::move(upper));
    tree.overlays.push_back({mount.target, overlay});
    attached.file_system = std::move(overlay);
  } else {
    if (mount.mode == BootMount::Mode::kReadOnly)
      attached.flags = attached.flags | MountFlags::kReadOnly;
    attached.file_system = std::move(*files);
  }
  return builder.attach(mount.target, std::move(attached), mount.is_directory);
}

MaybeFailure mount_item(Builder& builder, const Item& item, const TreeResources& resources,
                        const BootSpec& spec, Tree& tree) {
  if (item.symlink != nullptr) return builder.make_symlink(*item.symlink);
  if (item.mount != nullptr) return mount_host_files(builder, *item.mount, resources, spec, tree);
  const bool owned = item.tmpfs->owned_by_user;
  vfs::Mount::Config config;
  config.file_system = builder.make_tmpfs(item.tmpfs->mode, owned ? spec.uid : 0,
                                          owned ? spec.gid : 0, report::Kind::kLimitTmpSize);
  config.source = "tmpfs";
  config.flags = MountFlags::kNoSuid | MountFlags::kNoDev;
  return builder.attach(item.target, std::move(config), true);
}

MaybeFailure mount_dev(Builder& builder, const TreeResources& resources) {
  auto dev = fs::create_dev_fs(resources.devices.allocate(), resources.memory, resources.clock);
  if (!dev.ok()) return cannot("make /dev", dev.error());
  vfs::Mount::Config config;
  config.file_system = std::move(*dev);
  config.source = "devtmpfs";
  config.flags = MountFlags::kNoSuid;
  if (auto failure = builder.attach("/dev", std::move(config), true)) return failure;
  vfs::Mount::Config shm;
  shm.file_system = builder.make_tmpfs(01777, 0, 0, report::Kind::kLimitTmpSize);
  shm.source = "tmpfs";
  shm.flags = MountFlags::kNoSuid | MountFlags::kNoDev;
  return builder.attach("/dev/shm", std::move(shm), true);
}

MaybeFailure mount_sys(Builder& builder, const TreeResources& resources) {
  const std::vector<unsigned> cpus = kernel::sandbox_cpus();
  auto sys =
      fs::create_sys_fs(resources.devices.allocate(), cpus, resources.memory, resources.clock);
  if (!sys.ok()) return cannot("make /sys", sys.error());
  vfs::Mount::Config config;
  config.file_system = std::move(*sys);
  config.source = "sysfs";
  config.flags =
      MountFlags::kReadOnly | MountFlags::kNoSuid | MountFlags::kNoDev | MountFlags::kNoExec;
  return builder.attach("/sys", std::move(config), true);
}

// The files at /: what `tmpfs` declares, or without one a skeleton that only holds mount points.
Ref<fs::TmpFs> root_files(const BootSpec& spec, const BootTmpfs* tmpfs,
                          const TreeResources& resources, Tree& tree) {
  fs::TmpFs::Config config;
  config.device = resources.devices.allocate();
  config.root_mode = 0755;
  if (tmpfs == nullptr) return fs::TmpFs::create(config, resources.memory, resources.clock);
  config.root_mode = tmpfs->mode;
  if (tmpfs->owned_by_user) {
    config.uid = spec.uid;
    config.gid = spec.gid;
  }
  config.size_limit = spec.limits.tmp_size != 0 ? spec.limits.tmp_size : kDefaultTmpSize;
  auto files = fs::TmpFs::create(config, resources.memory, resources.clock);
  tree.quotas.emplace_back(report::Kind::kLimitTmpSize, files->quota());
  return files;
}

}  // namespace

MaybeFailure build_tree(const BootSpec& spec, const TreeResources& resources, Tree& tree) {
  const auto found = std::find_if(spec.tmpfs.begin(), spec.tmpfs.end(), is_at_root);
  const BootTmpfs* tmpfs_at_root = found != spec.tmpfs.end() ? &*found : nullptr;
  vfs::Mount::Config root_config;
  root_config.file_system = root_files(spec, tmpfs_at_root, resources, tree);
  root_config.source = "none";
  const Ref<vfs::Mount> root = vfs::Mount::create(std::move(root_config));

  Builder builder(spec, resources, root, tree);
  tree.mounts = builder.mounts();
  if (auto failure = mount_dev(builder, resources)) return failure;
  for (const Item& item : in_order(spec)) {
    if (auto failure = mount_item(builder, item, resources, spec, tree)) return failure;
  }
  // After the declared mounts: one at / must not hide them.
  if (auto failure = mount_sys(builder, resources)) return failure;
  if (auto failure = builder.make_mountpoint("/proc", true)) return failure;
  auto proc = builder.place_of("/proc");
  if (!proc.ok()) return cannot("find the mount point /proc", proc.error());
  tree.proc = std::move(*proc);
  // From here on the skeleton is what was withheld: names that are missing in it are reported.
  const MountFlags flags = MountFlags::kNoSuid | MountFlags::kNoDev | MountFlags::kReportMissing;
  root->set_flags(tmpfs_at_root != nullptr ? flags : flags | MountFlags::kReadOnly);
  return {};
}

}  // namespace boxrun::sentry
