#include "src/base/errno.h"

#include <array>
#include <cstring>
#include <utility>

namespace boxrun {
namespace {

// glibc knows the names; kAgain and kOpNotSupp are the spellings Linux prints for the aliases.
const char* name_of(int e) { return strerrorname_np(e); }

}  // namespace

std::string_view errno_name(Errno e) {
  switch (e) {
    case Errno::kRestartSys:
      return "ERESTARTSYS";
    case Errno::kRestartNoIntr:
      return "ERESTARTNOINTR";
    case Errno::kRestartNoHand:
      return "ERESTARTNOHAND";
    case Errno::kRestartBlock:
      return "ERESTART_RESTARTBLOCK";
    case Errno::kOpNotSupp:
      return "EOPNOTSUPP";
    default:
      break;
  }
  const char* name = name_of(static_cast<int>(e));
  return name != nullptr ? std::string_view(name) : std::string_view("E?");
}

Errno errno_from_name(std::string_view name) {
  if (name == "EWOULDBLOCK") return Errno::kAgain;
  if (name == "EOPNOTSUPP" || name == "ENOTSUP") return Errno::kOpNotSupp;
  for (int e = 1; e < 134; e++) {
    if (const char* known = name_of(e); known != nullptr && name == known) {
      return static_cast<Errno>(e);
    }
  }
  return Errno::kOk;
}

}  // namespace boxrun
