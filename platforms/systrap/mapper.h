#pragma once
#include <sys/types.h>

#include <span>

#include "platforms/stub/stubs.h"
#include "platforms/systrap/control_file.h"

namespace boxrun::platform {

// An eventfd that a mapper writes its answers to, and its number in the stubs' table. Guest threads
// cannot write to any descriptor.
struct AnswerFd {
  UniqueFd fd;
  int number = -1;
};

// Answer descriptors of processes that ended, for the next ones. Thread-safe.
class AnswerFds {
 public:
  explicit AnswerFds(Seed& seed) : seed_(seed) {}
  Result<AnswerFd> take();
  void give_back(AnswerFd answer);

 private:
  static constexpr size_t kMaxSpare = 64;
  Seed& seed_;
  Mutex mutex_{Rank::kStubFiles};
  std::vector<AnswerFd> spare_ GUARDED_BY(mutex_);
};

// The mapper thread of one stub process: the one thread that may change its mappings, clone threads
// and fork. It is the process's first and only thread without guest code. Not thread-safe.
class Mapper {
 public:
  Mapper(ControlFile& control, uint32_t page, AnswerFd answer)
      : control_(control), page_(page), answer_(std::move(answer)) {
    control_.page(page_).event_fd = answer_.number;
  }
  AnswerFd take_answer_fd() { return std::move(answer_); }

  struct Answer {
    uint64_t value = 0;        // of the last call, if that was a clone(2)
    size_t done = 0;           // calls before the one that failed; all of them if none did
    Errno error = Errno::kOk;  // of the one that failed; ESRCH: `process` has ended
  };
  // Has the calls made in order, until one fails. On return the host kernel has done them: the
  // answer comes through a descriptor that no guest thread can write to.
  Answer run(pid_t process, std::span<const StubCall> calls);
  // The same without an answer; at most MapperPage::kCapacity calls.
  void post(std::span<const StubCall> calls);

 private:
  // Brings the mapper to the CPU of the calling thread, which will sleep until it has answered.
  void come_here(pid_t process);
  Answer run_some(pid_t process, std::span<const StubCall> calls);
  Result<uint64_t> wait_for_answer(pid_t process);

  ControlFile& control_;
  const uint32_t page_;
  AnswerFd answer_;
  int cpu_ = -1;
};

// Whether a child of ours has ended; it is not reaped.
bool process_ended(pid_t process);

}  // namespace boxrun::platform
