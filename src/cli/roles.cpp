#include "src/cli/roles.h"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <string>
#include <utility>

#include "gofer/gofer_main.h"
#include "platforms/factory.h"
#include "src/cli/boot_spec.h"
#include "src/host/caps.h"
#include "src/host/mounts.h"
#include "src/host/process.h"
#include "src/host/seal.h"
#include "src/host/start_message.h"

namespace boxrun::cli {
namespace {

constexpr int kFailed = 125;

// Says why over the start socket. The monitor may be gone; then nobody is left to tell.
int report_failure(const ProcessStart& start, const Failure& failure) {
  static_cast<void>(host::send_start_message(start.start.get(), {failure, start.layers, ""}));
  return kFailed;
}

bool report_ready(const ProcessStart& start, std::string_view platform = {}) {
  return host::send_start_message(start.start.get(),
                                  {std::nullopt, start.layers, std::string(platform)})
      .ok();
}

struct OpenedMounts {
  std::vector<gofer::MountSource> sources;
  std::vector<host::FileGrant> grants;  // borrows the descriptors of `sources`
};

// The mount's own number is its name for the Sentry (BootMount::gofer_mount).
MaybeFailure open_mounts(const RunSpec& spec, host::LayerSet& layers, OpenedMounts& opened) {
  bool all_enforced = true;
  for (const MountSpec& mount : spec.mounts) {
    const bool writable = mount.mode == MountMode::kReadWrite;
    const auto access = writable ? host::MountAccess::kReadWrite : host::MountAccess::kReadOnly;
    Result<host::MountRoot> root =
        host::open_mount_root(mount.source, access, layers.has(host::Layer::kMountNamespace));
    if (!root) {
      return Failure{"open the mount source " + mount.source, "gofer", root.error(),
                     "asked for by " + mount.origin};
    }
    all_enforced = all_enforced && root->enforced;
    opened.grants.push_back({root->fd.get(), access});
    opened.sources.push_back(
        {.name = std::to_string(opened.sources.size()),
         .root = std::move(root->fd),
         .access = writable ? gofer::MountAccess::kReadWrite : gofer::MountAccess::kReadOnly,
         .host_path = mount.source,
         .hide = mount.hide,
         .shown = mount.shown});
  }
  if (all_enforced) layers.add(host::Layer::kReadOnlyMounts);
  return std::nullopt;
}

// Root acts for the guest's users on writable mounts, an ordinary user only for himself: in a user
// namespace he would have the capabilities, too, but over nobody else's files.
bool acts_for_others(const ProcessStart& start) {
  return start.ids == host::IdMap::kAll && ::geteuid() == 0 &&
         host::has_capabilities(host::gofer_capabilities());
}

// glibc's malloc opens files, which no sealed process may: with more than eight arenas it counts
// CPUs in sysfs (arena_get2), and before it gives the end of an arena back it reads
// vm.overcommit_memory (check_may_shrink_heap). A few arenas that keep what they have do neither;
// large blocks are mappings of their own and go back at once.
void keep_malloc_from_opening_files() {
  constexpr int kArenas = 4;
  constexpr int kNeverTrim = INT_MAX;
  // NOLINTBEGIN(concurrency-mt-unsafe): the process has one thread yet
  ::mallopt(M_ARENA_MAX, kArenas);
  ::mallopt(M_TRIM_THRESHOLD, kNeverTrim);
  // NOLINTEND(concurrency-mt-unsafe)
}

}  // namespace

int gofer_role(const RunSpec& spec, ProcessStart start) {
  keep_malloc_from_opening_files();
  host::release_standard_streams();
  // Before the Gofer shares out its descriptors.
  if (const Result<void> raised = host::set_resource_limits(); !raised) {
    return report_failure(start, {"raise the limit of open files", "gofer", raised.error(), ""});
  }
  const bool for_others = acts_for_others(start);
  OpenedMounts mounts;
  if (const MaybeFailure failure = open_mounts(spec, start.layers, mounts)) {
    return report_failure(start, *failure);
  }
  gofer::GoferSpec gofer_spec;
  gofer_spec.mounts = std::move(mounts.sources);
  gofer_spec.channels = std::move(start.channels);
  gofer_spec.owners = for_others ? gofer::Owners::kAsRequested : gofer::Owners::kOwn;
  MaybeFailure failure;
  const std::unique_ptr<gofer::Gofer> gofer = gofer::Gofer::prepare(std::move(gofer_spec), failure);
  if (gofer == nullptr) return report_failure(start, failure.value_or(Failure{"prepare", "gofer"}));

  failure = host::confine_files(mounts.grants, start.layers);
  if (failure) return report_failure(start, *failure);
  const std::vector<host::FilterRow> rows = gofer->filter_rows();
  host::Rights rights = {
      .kind = host::ProcessKind::kGofer, .filter_rows = rows, .parent_pidfd = start.parent.get()};
  if (for_others) rights.capabilities = host::gofer_capabilities();
  failure = host::drop_rights(rights, start.layers);
  if (!failure) failure = host::check_layers(host::ProcessKind::kGofer, start.layers);
  if (failure) return report_failure(start, *failure);
  if (!report_ready(start)) return kFailed;
  gofer->serve();
  return 0;
}

namespace {

// The rows that the platform adds to the Sentry's table.
std::vector<host::FilterRow> rows_of_platform(const platform::Platform& platform) {
  std::vector<host::FilterRow> rows;
  for (const platform::HostSyscall& call : platform.host_syscalls()) {
    rows.push_back({call.number, call.user});
  }
  return rows;
}

// Under a low limit most descriptors are for what the target has open; a kept file has up to two.
size_t files_to_keep() {
  constexpr rlim_t kMost = 4096;
  rlimit descriptors = {};
  if (::getrlimit(RLIMIT_NOFILE, &descriptors) < 0) return 0;
  return std::min<rlim_t>(kMost, descriptors.rlim_max / 8);
}

// --overlay-data disk.
MaybeFailure add_overlay_disk(const RunSpec& spec, mm::MemoryFile::Backing& backing) {
  if (spec.overlay_directory.empty()) return std::nullopt;
  const Result<void> added = mm::MemoryFile::add_disk(backing, spec.overlay_directory.c_str());
  if (added.ok()) return std::nullopt;
  const std::string remedy = added.error() == Errno::kPerm
                                 ? "TMPDIR=DIR on a file system without noexec"
                                 : "TMPDIR=DIR, or --overlay-data memory";
  return Failure{"keep the overlays' data in " + spec.overlay_directory, "overlay_data",
                 added.error(), remedy};
}

// Everything that the sealed Sentry could not make any more, and the sealing around it.
MaybeFailure prepare_sentry(const RunSpec& spec, const std::array<bool, 3>& open_streams,
                            ProcessStart& start, sentry::BootSpec& boot) {
  Result<sentry::HostStreams> streams = sentry::prepare_streams(open_streams);
  if (!streams) return Failure{"look at the standard streams", "sentry", streams.error(), ""};
  boot.streams = std::move(streams).take();
  boot.kept_files = files_to_keep();
  // A private tmpfs has huge pages; without a namespace the memory file is a memfd.
  Result<UniqueFd> tmpfs =
      start.layers.has(host::Layer::kMountNamespace) ? host::make_private_tmpfs(0) : Errno::kPerm;
  Result<mm::MemoryFile::Backing> memory = mm::MemoryFile::make_backing(tmpfs ? tmpfs->get() : -1);
  if (!memory) return Failure{"make the memory file", "sentry", memory.error(), ""};
  boot.memory = std::move(memory).take();
  if (MaybeFailure failure = add_overlay_disk(spec, boot.memory)) return failure;
  if (tmpfs) tmpfs->reset();

  if (MaybeFailure failure = host::confine_files({}, start.layers)) return failure;
  if (const Result<void> done = host::become_subreaper(); !done) {
    return Failure{"become a child subreaper", "sentry", done.error(), ""};
  }
  Failure failure;
  boot.platform = platform::create({.kind = spec.platform,
                                    .memory_file = boot.memory.file.get(),
                                    .losses = &boot.losses,
                                    .preferred = spec.preferred_platform},
                                   failure);
  if (boot.platform == nullptr) return failure;

  const std::vector<host::FilterRow> rows = rows_of_platform(*boot.platform);
  const host::Rights rights = {
      .kind = host::ProcessKind::kSentry, .filter_rows = rows, .parent_pidfd = start.parent.get()};
  if (MaybeFailure refused = host::drop_rights(rights, start.layers)) return refused;
  return host::check_layers(host::ProcessKind::kSentry, start.layers);
}

}  // namespace

int sentry_role(const RunSpec& spec, const KernelEntry& kernel, SentryExtras extras,
                ProcessStart start) {
  keep_malloc_from_opening_files();
  sentry::BootSpec boot = boot_spec(spec);
  if (const MaybeFailure failure = prepare_sentry(spec, extras.streams, start, boot)) {
    return report_failure(start, *failure);
  }
  boot.unmapped_uid = start.unmapped.uid;
  boot.unmapped_gid = start.unmapped.gid;
  boot.trace_sink = std::move(extras.trace_sink);
  boot.gofer_channels = std::move(start.channels);
  boot.report_socket = std::move(start.report);
  boot.control_socket = std::move(start.control);
  if (!report_ready(start, boot.platform->name())) return kFailed;
  if (const MaybeFailure failure = kernel.run(std::move(boot)))
    return report_failure(start, *failure);
  return 0;
}

}  // namespace boxrun::cli
