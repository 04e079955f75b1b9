#pragma once
#include <atomic>
#include <bitset>
#include <functional>
#include <string>

#include "src/base/errno.h"
#include "src/base/fd.h"

namespace boxrun::trace {

// Prints system calls as they enter and return, in the manner of strace: one line each, one write
// per line, so that lines of several tasks do not mix.
class Tracer {
 public:
  // Traces the groups in `groups` (indices of syscalls::Group) to `sink`. `lost` is called once, at
  // the first line that cannot be written, by the task that made the call.
  Tracer(UniqueFd sink, std::bitset<64> groups, std::function<void(Errno)> lost = {})
      : sink_(std::move(sink)), groups_(groups), lost_(std::move(lost)) {}

  bool wants(size_t group) const { return groups_.test(group); }
  // "[pid] name(args) = result" with a newline added.
  void line(const std::string& text);

 private:
  const UniqueFd sink_;
  const std::bitset<64> groups_;
  const std::function<void(Errno)> lost_;
  std::atomic<bool> incomplete_ = false;
};

}  // namespace boxrun::trace
