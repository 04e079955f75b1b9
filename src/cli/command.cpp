#include "src/cli/command.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "src/base/errno_text.h"
#include "src/profile/expand.h"

namespace boxrun::cli {

using profile::Error;
using profile::Expected;

namespace {

// 0 when the guest path can be executed, else the errno that execve(2) would give.
int try_execute(const std::string& guest_path, const MountPlan& plan, bool beyond_mounts) {
  const std::optional<std::string> mounted = plan.host_path(guest_path);
  if (!mounted && !beyond_mounts) return ENOENT;
  const std::string& host_path = mounted ? *mounted : guest_path;
  struct stat status {};
  if (::stat(host_path.c_str(), &status) != 0) return errno;
  // execve gives EACCES for everything that is no regular file.
  if (!S_ISREG(status.st_mode)) return EACCES;
  return ::access(host_path.c_str(), X_OK) == 0 ? 0 : errno;
}

// Mounts are compared by text, so "." and ".." have to go. ".." after a symbolic link means the
// parent of where the link leads; by text only where the host does not know the directory.
std::string without_dots(const std::string& name, const std::string& cwd) {
  const std::string whole = name.starts_with('/') ? name : cwd + "/" + name;
  if (whole.find("/../") != std::string::npos) {
    const size_t slash = whole.rfind('/');
    if (const std::string folder = real_path(whole.substr(0, slash)); !folder.empty()) {
      return profile::absolute_path(whole.substr(slash + 1), folder);
    }
  }
  return profile::absolute_path(whole, "/");
}

Error refuse(const std::string& command, int error, int& status) {
  status = error == ENOENT || error == ENOTDIR ? kNotFound : kNotExecutable;
  return {fmt::format("'{}': {}", command, errno_text(from_host(error)))};
}

}  // namespace

Expected<Program> find_program(const std::string& command, std::string_view path,
                               const std::string& cwd, const MountPlan& plan, bool beyond_mounts,
                               int& status) {
  if (command.find('/') != std::string::npos) {
    const std::string location = without_dots(command, cwd);
    const int error = try_execute(location, plan, beyond_mounts);
    if (error != 0) return refuse(command, error, status);
    return Program{command, location};
  }
  // execvp(3): goes on after ENOENT, ENOTDIR and EACCES, and remembers an EACCES.
  int error = ENOENT;
  std::string_view rest = path.empty() ? "/bin:/usr/bin" : path;
  while (!command.empty()) {
    const size_t colon = std::min(rest.find(':'), rest.size());
    const std::string folder(rest.substr(0, colon));  // empty is the current directory
    const std::string candidate = folder.empty() ? command : fmt::format("{}/{}", folder, command);
    const std::string location = without_dots(candidate, cwd);
    const int tried = try_execute(location, plan, beyond_mounts);
    if (tried == 0) return Program{candidate, location};
    if (tried == EACCES) error = EACCES;
    if (colon == rest.size()) break;
    rest.remove_prefix(colon + 1);
  }
  if (error == ENOENT) {
    status = kNotFound;
    return Error{fmt::format("'{}': command not found", command)};
  }
  return refuse(command, error, status);
}

}  // namespace boxrun::cli
