// Which system call a thread is in, for file systems whose answers are true for the length of one.
#pragma once
#include <cstdint>

namespace boxrun::vfs {

// A system call begins on the calling thread.
void begin_call();
// A number that no other call of any thread has; 0 when none has begun on this thread.
uint64_t this_call();

}  // namespace boxrun::vfs
