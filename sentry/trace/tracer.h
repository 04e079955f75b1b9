#pragma once
#include <bitset>
#include <string>

#include "src/base/fd.h"

namespace boxrun::trace {

// Prints system calls as they enter and return, in the manner of strace: one line each, one write
// per line, so that lines of several tasks do not mix.
class Tracer {
 public:
  // Traces the groups in `groups` (indices of syscalls::Group) to `sink`.
  Tracer(UniqueFd sink, std::bitset<64> groups) : sink_(std::move(sink)), groups_(groups) {}

  bool wants(size_t group) const { return groups_.test(group); }
  // "[pid] name(args) = result" with a newline added.
  void line(const std::string& text) const;

 private:
  const UniqueFd sink_;
  const std::bitset<64> groups_;
};

}  // namespace boxrun::trace
