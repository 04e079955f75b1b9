// How long what was seen of host files that others may change stays true.
#pragma once
#include <atomic>
#include <cstdint>

#include "src/base/fd.h"

namespace boxrun::fs {

// The bell of a Gofer (gofer::Client::bell), and the order of events around it. A lookup is stamped
// with as_of() from before it was sent; what it found in watched directories is true as long as
// nothing_since() its stamp. Thread-safe, without locks; no call waits.
//
// Collecting stops the bell, so whatever is known by then must count as outdated, by everybody,
// before the server collects. One at a time: two at once could each take the events that the
// lookups of the other needed.
class HostChanges {
 public:
  using Stamp = uint64_t;
  static constexpr Stamp kNever = 0;

  explicit HostChanges(UniqueFd bell) : bell_(std::move(bell)) {}
  HostChanges(const HostChanges&) = delete;
  HostChanges& operator=(const HostChanges&) = delete;

  // For a lookup that does not collect; kNever while another one does.
  Stamp as_of() const;
  bool nothing_since(Stamp stamp) const;
  // For a directory that is watched by now: lookups in it that have this stamp or a later one can
  // be trusted.
  Stamp watched_from_now() { return clock_.fetch_add(1) + 1; }

  // One lookup that tells the Gofer to collect first, if the bell rings and nobody else is at it.
  class Collection {
   public:
    explicit Collection(HostChanges* changes);
    Collection(const Collection&) = delete;
    Collection& operator=(const Collection&) = delete;
    // After the reply, or when there will be none.
    ~Collection();
    bool wanted() const { return changes_ != nullptr; }
    // Of what this lookup finds.
    Stamp stamp() const { return stamp_; }

   private:
    HostChanges* changes_ = nullptr;
    Stamp stamp_ = kNever;
  };

 private:
  bool rings() const;

  const UniqueFd bell_;
  std::atomic<Stamp> clock_{1};
  std::atomic<Stamp> collected_{kNever};  // what is older may have changed
  std::atomic<bool> collecting_{false};
};

}  // namespace boxrun::fs
