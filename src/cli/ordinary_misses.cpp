// Neither the Sentry nor the Gofer can tell an unmounted path that exists from one that does not:
// they see what is mounted and nothing else. The monitor is the user himself outside the sandbox
// and has the right to look, once the target has ended, when nobody learns from the time it takes.
// The paths come from the Sentry, the less trusted side: they are only looked at, never opened, and
// their number and length are bounded by the collector and the wire format.
#include "src/cli/ordinary_misses.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

namespace boxrun::cli {
namespace {

// A lookup that the profile withheld, as the Sentry describes it: of a file, or of the folder that
// one was to be made or removed in. Creating a file in a folder that is there is an attempt to
// write whether or not the name is taken (EROFS), and is not one of these.
bool is_unmounted_lookup(const report::Record& record) {
  return record.error == Errno::kNoEnt && record.detail == report::kNotMounted;
}

enum class Step { kAbsent, kDirectory, kUnknown };

Step look_at(const std::string& path) {
  constexpr int kQuietly = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
  struct statx found {};
  if (::statx(AT_FDCWD, path.c_str(), kQuietly, STATX_TYPE, &found) != 0) {
    return errno == ENOENT ? Step::kAbsent : Step::kUnknown;
  }
  // Looking below a trigger would mount, which may take for ever (autofs).
  const bool trigger = (found.stx_attributes & STATX_ATTR_AUTOMOUNT) != 0;
  return S_ISDIR(found.stx_mode) && !trigger ? Step::kDirectory : Step::kUnknown;
}

}  // namespace

bool is_absent_on_host(const std::string& path) {
  if (!path.starts_with('/') || path.find('\0') != path.npos) return false;
  // Every folder on the way is looked at before anything below it.
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const Step step = look_at(path.substr(0, end));
    if (step == Step::kAbsent) return true;
    if (step == Step::kUnknown || end == path.npos) return false;
  }
}

void drop_ordinary_misses(std::vector<report::Record>& records) {
  std::erase_if(records, [](const report::Record& record) {
    return is_unmounted_lookup(record) &&
           is_absent_on_host(record.grant.empty() ? record.target : record.grant);
  });
}

}  // namespace boxrun::cli
