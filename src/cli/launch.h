// Starting the processes of one sandbox: the Gofer and the Sentry, forked from the monitor.
#pragma once
#include <signal.h>
#include <sys/types.h>

#include <functional>
#include <utility>
#include <vector>

#include "src/base/failure.h"
#include "src/base/fd.h"
#include "src/host/namespaces.h"

namespace boxrun::cli {

// What a forked process starts with. It has its namespaces, dies with the monitor, holds nothing
// but the descriptors here and the standard streams, and is not sealed yet.
struct ProcessStart {
  UniqueFd start;    // SEQPACKET: host::StartMessage to the monitor
  UniqueFd control;  // SEQPACKET: sentry::ControlMessage, both ways; the Sentry's only
  UniqueFd report;   // SEQPACKET: report::Message to the monitor; the Sentry's only
  std::vector<UniqueFd> channels;       // SEQPACKET, between Sentry and Gofer
  UniqueFd parent;                      // pidfd of the monitor, for host::Rights
  host::LayerSet layers;                // the namespaces
  host::IdMap ids = host::IdMap::kOwn;  // which users exist here
  host::UnmappedIds unmapped;           // owners that the Gofer cannot name; the Sentry's only
};

// Runs in the new process; the result is its exit status.
using ProcessMain = std::function<int(ProcessStart)>;

struct Roles {
  ProcessMain gofer;
  ProcessMain sentry;
  std::vector<int> sentry_keeps;  // descriptors that `sentry` brings along; borrowed
};

// A forked process. Destroyed in the monitor it is killed and reaped.
class Child {
 public:
  Child() = default;
  Child(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  Child(Child&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}
  Child& operator=(Child&& other) noexcept;
  ~Child() { end(); }

  // Readable once it has ended; -1 after end().
  int pidfd() const { return pidfd_.get(); }
  bool ended() const;
  void kill() const;
  // Kills it if it still runs, waits for it, and returns its wait status; the same one every time.
  int end();

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  int status_ = 0;
};

// Blocks the signals that the monitor takes for the target, and returns which to read from a
// signalfd: without those that the caller ignores.
sigset_t block_forwarded_signals();

// The monitor's ends.
struct Sandbox {
  UniqueFd gofer_start;
  UniqueFd sentry_start;
  UniqueFd control;
  UniqueFd report;
  Child gofer;
  Child sentry;
  // The process had no children before: all that it gets are of the sandbox.
  bool all_children_are_ours = false;
};

// How many requests of the Sentry can be at the Gofer at once: one thread there serves each
// channel.
inline constexpr size_t kGoferChannels = 4;

// Forks both. The caller is single-threaded and has blocked the forwarded signals. On failure
// nothing is left running.
MaybeFailure launch(const Roles& roles, Sandbox& sandbox);

// The monitor's own sealing, once everything is forked and report files are open: it decodes what
// the less trusted Sentry sends. Standard input and output are let go; stderr stays.
MaybeFailure seal_monitor(host::LayerSet& in_force);

}  // namespace boxrun::cli
