#pragma once
#include <sys/types.h>

#include <functional>
#include <memory>
#include <vector>

#include "platforms/stub/file_table.h"
#include "platforms/stub/seed.h"
#include "src/base/fd.h"
#include "src/base/sync.h"

namespace boxrun::platform {

// What all stub processes of one platform instance share. Outlives them.
class Stubs {
 public:
  Stubs(std::unique_ptr<Seed> first, int memory_file, pid_t self)
      : seed(std::move(first)), files(*seed, memory_file), sentry(self) {}
  ~Stubs() { bury_all(); }

  const std::unique_ptr<Seed> seed;
  FileTable files;
  const pid_t sentry;

  // Collects a killed stub process: at once if it is already gone, else later, so that nobody waits
  // for the host to tear an address space down. `gone` is called then, by whoever buries.
  void bury(pid_t process, std::function<void()> gone = {});
  // Waits for all of them.
  void bury_all();

 private:
  struct Dying {
    pid_t process;
    std::function<void()> gone;
  };
  Mutex mutex_{Rank::kStubFiles};
  std::vector<Dying> dying_ GUARDED_BY(mutex_);
};

// Ordinary users may not map below it, and neither do our guests.
uint64_t lowest_user_address();

// Every stop of a stub would otherwise send a SIGCHLD to the Sentry.
void silence_child_stops();

// Options::losses, for stubs whose end the host announces by SIGCHLD. Blocks that signal in the
// calling thread and all that it makes from now on, which must be all of the process.
Result<UniqueFd> watch_losses();

}  // namespace boxrun::platform
