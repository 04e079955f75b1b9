// Which system call a thread is in: for answers that are true for the length of one, and for what
// was refused to one.
#pragma once
#include <cstdint>

namespace boxrun {

// A system call begins on the calling thread.
void begin_call();
// A number that no other call of any thread has; 0 when none has begun on this thread.
uint64_t this_call();

// A limit that makes system calls fail, as seen by who has to explain a failure: limits are
// enforced deep inside, without a task at hand. Of one call the last refusal counts.
class RefusalMark {
 public:
  RefusalMark() = default;
  RefusalMark(const RefusalMark&) = delete;
  RefusalMark& operator=(const RefusalMark&) = delete;
  // The limit refuses something to the call of this thread.
  void set() const;
  // True when it did so in this very call; once.
  bool take() const;
};

}  // namespace boxrun
