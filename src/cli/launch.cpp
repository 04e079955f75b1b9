#include "src/cli/launch.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "src/host/process.h"
#include "src/host/seal.h"
#include "src/host/start_message.h"

namespace boxrun::cli {
namespace {

struct SocketPair {
  UniqueFd ours, theirs;
};

Result<SocketPair> make_sockets() {
  std::array<int, 2> ends{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) < 0) return last_error();
  return SocketPair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Failure launch_failure(const char* what, Errno error) {
  return {what, "monitor", error,
          error == Errno::kMFile ? "raise the limit of open files (ulimit -n)" : ""};
}

// All that connects the processes, made before any fork.
struct Sockets {
  SocketPair gofer_start, sentry_start, control, report;
  std::array<SocketPair, kGoferChannels> channels;

  static Result<Sockets> create() {
    Sockets sockets;
    for (SocketPair* pair :
         {&sockets.gofer_start, &sockets.sentry_start, &sockets.control, &sockets.report}) {
      *pair = TRY(make_sockets());
    }
    for (SocketPair& pair : sockets.channels) pair = TRY(make_sockets());
    return sockets;
  }
};

// In the child, never returns. What only the monitor needs is closed, not destroyed.
[[noreturn]] void run_child(const char* name, const ProcessMain& main, ProcessStart start,
                            MaybeFailure failure, std::vector<int> keep) {
  ::prctl(PR_SET_NAME, name);
  host::die_with_parent(start.parent.get());
  host::shield_from_group_signals();
  for (const UniqueFd* fd : {&start.start, &start.control, &start.report, &start.parent}) {
    keep.push_back(fd->get());
  }
  for (const UniqueFd& channel : start.channels) keep.push_back(channel.get());
  if (const Result<void> closed = host::close_all_but(keep); !closed && !failure) {
    failure = Failure{"close inherited descriptors", name, closed.error(), "needs Linux 5.9"};
  }
  if (failure) {
    static_cast<void>(host::send_start_message(start.start.get(), {failure, start.layers, ""}));
    ::_exit(125);
  }
  ::_exit(main(std::move(start)));
}

bool has_children() {
  siginfo_t info;
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
}

}  // namespace

Child& Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
    status_ = other.status_;
  }
  return *this;
}

bool Child::ended() const {
  pollfd entry = {pidfd_.get(), POLLIN, 0};
  return pid_ < 0 || ::poll(&entry, 1, 0) == 1;
}

void Child::kill() const {
  if (pid_ >= 0) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
}

int Child::end() {
  if (pid_ < 0) return status_;
  kill();
  while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  pidfd_.reset();
  return status_;
}

sigset_t block_forwarded_signals() {
  sigset_t forward;
  sigset_t blocked;
  ::sigemptyset(&forward);
  ::sigemptyset(&blocked);
  for (const int signo :
       {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT, SIGWINCH}) {
    struct sigaction action = {};
    ::sigaction(signo, nullptr, &action);
    ::sigaddset(&blocked, signo);
    // As under nohup: a signal that the caller ignores is not ours to deliver.
    if (action.sa_handler != SIG_IGN) ::sigaddset(&forward, signo);
  }
  // Writing a report from the background must not stop the monitor.
  ::sigaddset(&blocked, SIGTTOU);
  ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  return forward;
}

MaybeFailure launch(const Roles& roles, Sandbox& sandbox) {
  Result<UniqueFd> self = host::pidfd_of_self();
  if (!self) return launch_failure("open a descriptor of the own process", self.error());
  Result<Sockets> made = Sockets::create();
  if (!made) return launch_failure("make the sockets between the processes", made.error());
  Sockets sockets = std::move(made).take();
  sandbox.all_children_are_ours = !has_children();
  // Stubs that outlive the Sentry are reparented to us, and reaped.
  if (const Result<void> done = host::become_subreaper(); !done) {
    return launch_failure("become a child subreaper", done.error());
  }

  // The Gofer first: while the Sentry's namespaces are made it already opens its mounts. It has no
  // network namespace: that one costs more than all others, and it can make no network call.
  host::NamespaceRequest gofer_namespaces = {.ids = host::IdMap::kAll};
  gofer_namespaces.wanted.remove(host::Layer::kNetNamespace);
  Result<host::Forked> gofer = host::fork_into_namespaces(gofer_namespaces);
  if (!gofer) return launch_failure("fork the gofer", gofer.error());
  if (gofer->in_child()) {
    ProcessStart start;
    start.start = std::move(sockets.gofer_start.theirs);
    for (SocketPair& channel : sockets.channels)
      start.channels.push_back(std::move(channel.theirs));
    start.parent = std::move(*self);
    start.layers = gofer->namespaces;
    start.ids = gofer->ids;
    run_child("boxrun-gofer", roles.gofer, std::move(start), std::move(gofer->failure), {});
  }
  sandbox.gofer = Child(gofer->pid, std::move(gofer->pidfd));

  const host::UnmappedIds unmapped = host::unmapped_ids(gofer->ids);
  Result<host::Forked> sentry = host::fork_into_namespaces({});
  if (!sentry) return launch_failure("fork the sentry", sentry.error());
  if (sentry->in_child()) {
    ProcessStart start;
    start.start = std::move(sockets.sentry_start.theirs);
    start.control = std::move(sockets.control.theirs);
    start.report = std::move(sockets.report.theirs);
    for (SocketPair& channel : sockets.channels) start.channels.push_back(std::move(channel.ours));
    start.parent = std::move(*self);
    start.layers = sentry->namespaces;
    start.ids = sentry->ids;
    start.unmapped = unmapped;
    run_child("boxrun-sentry", roles.sentry, std::move(start), std::move(sentry->failure),
              roles.sentry_keeps);
  }
  sandbox.sentry = Child(sentry->pid, std::move(sentry->pidfd));
  sandbox.gofer_start = std::move(sockets.gofer_start.ours);
  sandbox.sentry_start = std::move(sockets.sentry_start.ours);
  sandbox.control = std::move(sockets.control.ours);
  sandbox.report = std::move(sockets.report.ours);
  return std::nullopt;
}

MaybeFailure seal_monitor(host::LayerSet& in_force) {
  host::release_standard_streams();
  if (MaybeFailure failure = host::drop_rights({.kind = host::ProcessKind::kMonitor}, in_force))
    return failure;
  return host::check_layers(host::ProcessKind::kMonitor, in_force);
}

}  // namespace boxrun::cli
