#pragma once
#include <sys/types.h>

#include <linux/filter.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "platforms/stub/layout.h"
#include "src/base/fd.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::platform {

// Where the start of a stub failed, for a message to the user.
struct StubError {
  const char* step = "";
  Errno error = Errno::kOk;
};

// What a platform's stubs consist of.
struct SeedOptions {
  int memory_file = -1;   // becomes kStubMemoryFd; -1 for none
  int control_file = -1;  // becomes kStubControlFd; -1 for none
  uint64_t pages = 3;     // StubLayout::pages
  std::function<std::vector<sock_filter>(const StubLayout&)> filter;
  // Writes the pages from StubLayout::extra() on, which are mapped here, writable, for the moment.
  std::function<void(const StubLayout&)> fill_extra;
  // Offsets from StubLayout::extra(): handler of the signals that guest code raises and of the
  // doorbell, and what it returns to. 0: stubs handle no signals.
  uint64_t signal_handler = 0;
  uint64_t signal_restorer = 0;
};

// The first stub process: forked from the Sentry before that is sealed, emptied of everything that
// was the Sentry's, and filtered. It never runs guest code. It forks empty stub processes, whose
// parent is the Sentry, and takes files into the descriptor table that all stubs share: here and
// not in the stubs, where a guest thread could scribble over what recvmsg(2) writes. Thread-safe.
//
// The thread that creates it must live as long as the process: the stubs' parent death signal is
// bound to it (prctl(2), PR_SET_PDEATHSIG).
class Seed {
 public:
  static std::unique_ptr<Seed> create(const SeedOptions& options, StubError& error);
  ~Seed();

  const StubLayout& layout() const { return layout_; }
  // An empty stub process, not traced, parked: its process id.
  Result<pid_t> fork();
  // One whose first thread is a mapper that has its page at page `page` of the control file.
  Result<pid_t> fork_mapper(uint32_t page);
  // Puts a copy of `fd` into the stubs' table: its number there. EMFILE when that is full.
  Result<int> install(int fd);
  void discard(int number);

 private:
  Seed(const StubLayout& layout, pid_t pid, UniqueFd socket);
  Result<int64_t> request(uint32_t what, uint32_t argument, int fd);

  const StubLayout layout_;
  const pid_t pid_;
  Mutex mutex_{Rank::kStubSeed};
  const UniqueFd socket_;  // mutex_: one request at a time
};

}  // namespace boxrun::platform
