#include "gofer/gofer_main.h"

#include <fcntl.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

namespace boxrun::gofer {
namespace {

constexpr long kFchmodat2 = 452;
// A request needs little stack; a directory read has its buffer there, and a symlink text.
constexpr size_t kStackSize = size_t{256} * 1024;

Failure failed(std::string what, Errno error, std::string remedy = {}) {
  return {std::move(what), "gofer", error, std::move(remedy)};
}

struct Work {
  Session* session;
  std::unique_ptr<PacketChannel> channel;
};

void* serve_one(void* argument) {
  const std::unique_ptr<Work> work(static_cast<Work*>(argument));
  work->session->serve(*work->channel);
  return nullptr;
}

}  // namespace

MaybeFailure Gofer::check(const MountSource& mount) {
  const std::string what = "serve the mount source " + mount.host_path;
  const Result<void> source = check_mount_source(mount.root.get());
  if (source.error() == Errno::kAcces) {
    return failed(what, Errno::kAcces,
                  "proc, sysfs, cgroup and similar file systems are interfaces to the host kernel "
                  "and cannot be mounted; the sandbox has its own");
  }
  if (!source.ok()) return failed(what, source.error());
  if (!HidePatterns::create(mount.hide, mount.shown).ok()) {
    return failed("read the hide patterns of " + mount.host_path, Errno::kInval,
                  "a pattern is empty or has more than 62 components");
  }
  return {};
}

std::unique_ptr<Gofer> Gofer::prepare(GoferSpec spec, MaybeFailure& failure) {
  std::vector<int> kept;
  for (const MountSource& mount : spec.mounts) {
    if ((failure = check(mount))) return nullptr;
    kept.push_back(mount.root.get());
  }
  for (const UniqueFd& channel : spec.channels) kept.push_back(channel.get());
  rlimit descriptors{};
  getrlimit(RLIMIT_NOFILE, &descriptors);
  const Result<Limits> limits = Limits::for_descriptors(descriptors.rlim_cur);
  if (!limits.ok()) {
    failure = failed("share out the file descriptors", limits.error(), "ulimit -n 256");
    return nullptr;
  }
  // Without this, setfsuid to a user would take DAC_OVERRIDE away: the Sentry decides who may do
  // what, with supplementary groups that we do not know (capabilities(7), SECBIT_NO_SETUID_FIXUP).
  if (spec.owners == Owners::kAsRequested) prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP);
  umask(0);
  // A write beyond RLIMIT_FSIZE is an errno for the client, not our end.
  signal(SIGXFSZ, SIG_IGN);

  ProcFds proc = ProcFds::open_own();
  const int proc_fd = proc.number();
  if (proc) kept.push_back(proc_fd);
  std::unique_ptr<Watches> watches = Watches::create();
  const int watches_fd = watches ? watches->number() : -1;
  if (watches) kept.push_back(watches_fd);
  Result<std::unique_ptr<Tree>> tree =
      Tree::create(std::move(spec.mounts), std::move(proc), limits->held);
  if (!tree.ok()) {
    failure = failed("look at the mount sources", tree.error());
    return nullptr;
  }
  auto session =
      std::make_unique<Session>(std::move(tree).take(), *limits, spec.owners, std::move(watches));
  return std::unique_ptr<Gofer>(new Gofer(std::move(session), std::move(spec.channels),
                                          std::move(kept), proc_fd, watches_fd));
}

std::vector<host::FilterRow> Gofer::filter_rows() const {
  using host::arg32_is;
  const host::ArgCheck nameless = host::arg_is(1, reinterpret_cast<uint64_t>(kEmptyPath));
  const host::ArgCheck in_proc = arg32_is(0, static_cast<uint32_t>(proc_fd_));
  const host::ArgCheck watches = arg32_is(0, static_cast<uint32_t>(watches_fd_));
  std::vector<host::FilterRow> rows = {
      {SYS_recvmsg, "channels"},
      {SYS_sendmsg, "channels"},
      {SYS_shutdown, "channels, at the end"},
      {SYS_sched_setaffinity, "a serving thread follows its client", {arg32_is(0, 0)}},
      {SYS_openat, "every step of a walk, opening files"},
      {SYS_statx, "attributes", {nameless}},
      {SYS_readlinkat, "text of symbolic links", {nameless}},
      {SYS_fstatfs, "statfs, and where a walk may not go"},
      {SYS_getdents64, "directories"},
      {SYS_pread64, "reads of peers that take no descriptors"},
      {SYS_pwrite64, "writes of peers that take no descriptors"},
      {SYS_fsync, "fsync"},
      {SYS_fdatasync, "fdatasync"},
      {SYS_ftruncate, "truncate"},
      {kFchmodat2, "chmod", {nameless}},
      {SYS_fchmodat, "chmod before Linux 6.6, through /proc/self/fd", {in_proc}},
      {SYS_fchownat, "chown", {nameless}},
      {SYS_utimensat, "times", {nameless}},
      {SYS_mkdirat, "mkdir"},
      {SYS_mknodat, "FIFOs, sockets, files"},
      {SYS_symlinkat, "symlink"},
      {SYS_linkat, "link, through /proc/self/fd", {in_proc}},
      {SYS_unlinkat, "unlink, rmdir"},
      {SYS_renameat2, "rename"},
      {SYS_fgetxattr, "extended attributes"},
      {SYS_flistxattr, "extended attributes"},
      {SYS_fsetxattr, "extended attributes"},
      {SYS_fremovexattr, "extended attributes"},
      {SYS_fcntl, "locks", {arg32_is(1, F_OFD_SETLK)}},
      {SYS_fcntl, "locks", {arg32_is(1, F_OFD_GETLK)}},
      {SYS_inotify_add_watch, "changes by others", {watches}},
      {SYS_inotify_rm_watch, "changes by others: one too many", {watches}},
      {SYS_fchdir, "inotify_add_watch takes nothing but paths", {in_proc}},
      {SYS_geteuid, "owner of files when the peer names none"},
      {SYS_setfsuid, "owner of new files"},
      {SYS_setfsgid, "group of new files"},
  };
  return rows;
}

void Gofer::serve() {
  session_->before_requests();
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackSize);
  std::vector<pthread_t> threads;
  std::vector<std::unique_ptr<Work>> works;
  for (UniqueFd& channel : channels_) {
    works.push_back(std::make_unique<Work>(
        Work{session_.get(), std::make_unique<PacketChannel>(std::move(channel))}));
  }
  for (size_t i = 1; i < works.size(); i++) {
    pthread_t thread;
    Work* work = works[i].release();
    if (pthread_create(&thread, &attributes, serve_one, work) == 0) {
      threads.push_back(thread);
    } else {
      // Closing the channel makes the client see a dead peer rather than wait for one.
      delete work;
    }
  }
  pthread_attr_destroy(&attributes);
  if (!works.empty()) serve_one(works[0].release());
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
}

}  // namespace boxrun::gofer
