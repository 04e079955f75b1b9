// What the tests of resolve() share: somebody's home directory, and requests from there.
#pragma once
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "src/cli/caller.h"
#include "src/cli/mount_plan.h"
#include "src/cli/resolve.h"
#include "src/profile/load.h"
#include "tests/unit/test.h"

namespace boxrun::cli {

// A home directory of somebody, below /var/tmp because /tmp is private in the sandbox.
class Home {
 public:
  Home() {
    char name[] = "/var/tmp/boxrun-cli-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path_ = real_path(name);
  }
  ~Home() { std::filesystem::remove_all(path_); }

  std::string write(const std::string& name, const std::string& text, mode_t mode = 0755) const {
    const std::string path = path_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }
  std::string link(const std::string& name, const std::string& text) const {
    const std::string path = path_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    REQUIRE(::symlink(text.c_str(), path.c_str()) == 0);
    return path;
  }
  std::string directory(const std::string& name) const {
    std::filesystem::create_directories(path_ + "/" + name);
    return path_ + "/" + name;
  }
  Caller caller() const {
    Caller caller;
    caller.environment = {"HOME=" + path_, "PATH=" + path_ + "/bin:/usr/bin:/bin", "SECRET=1"};
    caller.cwd = path_ + "/work";
    std::filesystem::create_directories(caller.cwd);
    caller.uid = ::getuid();
    caller.gid = ::getgid();
    return caller;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline Request request(std::vector<std::string> command) {
  Request request;
  profile::Loaded loaded = profile::load_profiles({{"default", ""}}, {});
  REQUIRE(loaded.errors.empty());
  request.profile = std::move(loaded.profile);
  request.command = std::move(command);
  return request;
}

inline RunSpec resolved(const Request& request, const Caller& caller) {
  int status = 0;
  const profile::Expected<RunSpec> spec = resolve(request, caller, status);
  if (!spec.ok()) FAIL(spec.error().message);
  return *spec;
}

struct Refused {
  int status = 0;
  std::string message;
};
inline Refused refused(const Request& request, const Caller& caller) {
  Refused refused;
  const profile::Expected<RunSpec> spec = resolve(request, caller, refused.status);
  if (!spec.ok()) refused.message = spec.error().message;
  return refused;
}

inline const MountSpec* mount_at(const RunSpec& spec, const std::string& target) {
  const auto found = std::ranges::find(spec.mounts, target, &MountSpec::target);
  return found == spec.mounts.end() ? nullptr : &*found;
}
inline bool has_tmpfs(const RunSpec& spec, const std::string& path) {
  return std::ranges::find(spec.tmpfs, path, &TmpfsSpec::path) != spec.tmpfs.end();
}

inline profile::Mount mount(std::string source, std::string target, MountMode mode) {
  return {std::move(source), std::move(target), mode, std::nullopt, "--mount"};
}

}  // namespace boxrun::cli
