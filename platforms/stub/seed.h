#pragma once
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

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

// The first stub process: forked from the Sentry before that is sealed, emptied of everything that
// was the Sentry's, and filtered. It never runs guest code. It forks empty stub processes, whose
// parent is the Sentry, and takes files into the descriptor table that all stubs share: here and
// not in the stubs, where a guest thread could scribble over what recvmsg(2) writes. Thread-safe.
//
// The thread that creates it must live as long as the process: the stubs' parent death signal is
// bound to it (prctl(2), PR_SET_PDEATHSIG).
class Seed {
 public:
  // `memory_file` becomes kStubMemoryFd; -1 for none.
  static std::unique_ptr<Seed> create(int memory_file, StubError& error);
  ~Seed();

  const StubLayout& layout() const { return layout_; }
  // An empty stub process, not traced, parked: its process id.
  Result<pid_t> fork();
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
