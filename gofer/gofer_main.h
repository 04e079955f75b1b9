// The Gofer process, from its fork to its end.
#pragma once
#include <memory>
#include <vector>

#include "gofer/session.h"
#include "src/base/failure.h"
#include "src/host/filter.h"

namespace boxrun::gofer {

struct GoferSpec {
  std::vector<MountSource> mounts;  // as the client attaches to them, by name
  std::vector<UniqueFd> channels;   // server ends of make_channel_pair(), all of one client
  // kAsRequested when the process has the rights for it (DESIGN 12a) after it was sealed.
  Owners owners = Owners::kOwn;
};

// The order of things: prepare() while /proc can still be opened; then the process seals itself
// with filter_rows() and, as root, host::gofer_capabilities(); then serve().
class Gofer {
 public:
  // What is wrong with a mount, if anything, in words. Also for the launcher, before any fork.
  static MaybeFailure check(const MountSource& mount);

  // Opens what is needed later. Null and `failure` set when it cannot serve.
  static std::unique_ptr<Gofer> prepare(GoferSpec spec, MaybeFailure& failure);

  // What the seccomp filter must allow beyond host::rows_of(ProcessKind::kGofer). Attribute calls
  // are allowed on descriptors only: their pathname is one empty string in read-only memory.
  std::vector<host::FilterRow> filter_rows() const;
  // Descriptors that must survive close_all_but(): channels, mounts, /proc/self/fd.
  const std::vector<int>& kept_descriptors() const { return kept_; }

  // One thread per channel; the calling thread is the first one's. Returns when the client is gone.
  void serve();

 private:
  Gofer(std::unique_ptr<Session> session, std::vector<UniqueFd> channels, std::vector<int> kept,
        int proc_fd, int watches_fd)
      : session_(std::move(session)),
        channels_(std::move(channels)),
        kept_(std::move(kept)),
        proc_fd_(proc_fd),
        watches_fd_(watches_fd) {}

  std::unique_ptr<Session> session_;
  std::vector<UniqueFd> channels_;
  std::vector<int> kept_;
  int proc_fd_;
  int watches_fd_;  // -1: there are none
};

}  // namespace boxrun::gofer
