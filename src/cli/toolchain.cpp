// An interpreter in the home directory is several places: a shim or symbolic link in PATH, the
// script it is, the interpreter of that, and the tree of libraries around the binary. Following
// what the kernel would follow (links, `#!` lines) and mounting the installation around each stop
// covers pyenv, venv, nvm, conda, rustup, Homebrew and ~/.local without knowing most of them.
#include "src/cli/toolchain.h"
#include "src/base/path.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <optional>
#include <vector>

#include "src/base/fd.h"
#include "src/cli/command.h"
#include "src/profile/expand.h"
#include "src/profile/read_file.h"

namespace boxrun::cli {

using profile::absolute_path;
using profile::Expected;

namespace {

constexpr int kMaxStops = 32;  // links and interpreters in all; Linux follows 40 and 5

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}
std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Directories that hold more than one installation, or a person's files.
bool is_broad(const std::string& directory, const std::string& home) {
  static constexpr std::string_view kBroad[] = {
      "/", "/home", "/root", "/usr", "/var", "/var/tmp", "/tmp", "/mnt", "/media", "/srv", "/run"};
  return std::ranges::find(kBroad, directory) != std::end(kBroad) || directory == home ||
         directory == home + "/.local" || is_within(home, directory);
}

// The words of a `#!` line, of which Linux gives the interpreter one argument (fs/binfmt_script.c).
std::vector<std::string> shebang_words(const std::string& host_path) {
  const Result<UniqueFd> fd = own_fd(::open(host_path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return {};
  std::array<char, 256> head;  // BINPRM_BUF_SIZE
  const ssize_t size = ::read(fd->get(), head.data(), head.size());
  std::string_view line(head.data(), size > 0 ? static_cast<size_t>(size) : 0);
  if (!line.starts_with("#!")) return {};
  line =
      line.substr(2, line.find('\n') == std::string_view::npos ? line.npos : line.find('\n') - 2);
  std::vector<std::string> words;
  while (true) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) return words;
    line.remove_prefix(begin);
    const size_t end = std::min(line.find_first_of(" \t\r"), line.size());
    words.emplace_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

// The program that `env [OPTION]... [NAME=VALUE]... PROGRAM` runs.
std::string env_program(const std::vector<std::string>& words) {
  for (size_t i = 1; i < words.size(); ++i) {
    if (!words[i].starts_with('-') && words[i].find('=') == std::string::npos) return words[i];
  }
  return {};
}

class Toolchain {
 public:
  Toolchain(std::string_view path, const std::string& home, MountPlan& plan)
      : path_(path), home_(home), plan_(plan) {}

  Expected<bool> follow(std::string program) {
    while (stops_++ < kMaxStops) {
      Expected<bool> shown = show(program);
      if (!shown.ok()) return shown;
      const std::string host_path = plan_.host_path(program).value_or(program);
      char link[PATH_MAX];
      const ssize_t size = ::readlink(host_path.c_str(), link, sizeof link);
      if (size < 0) {
        // A directory on the way may be a link as well, out of what is mounted.
        if (const std::string real = real_path(host_path); real != host_path && !real.empty()) {
          Expected<bool> real_shown = show(real);
          if (!real_shown.ok()) return real_shown;
        }
        return follow_script(program, host_path);
      }
      // ".." in the link starts where the directory really is.
      const std::string folder = real_path(folder_of(host_path));
      program = absolute_path(std::string_view(link, static_cast<size_t>(size)), folder);
    }
    return true;  // the guest's exec will say ELOOP
  }

 private:
  Expected<bool> follow_script(const std::string& program, const std::string& host_path) {
    const std::vector<std::string> words = shebang_words(host_path);
    if (!words.empty()) {
      const std::string interpreter = absolute_path(words[0], "/");
      // There is nothing to mount; execve says so to whoever waits for the command.
      if (::access(interpreter.c_str(), F_OK) != 0 && errno == ENOENT) return true;
      Expected<bool> followed = follow(interpreter);
      if (!followed.ok()) return followed;
      if (name_of(words[0]) == "env") {
        int ignored = 0;
        const Expected<Program> found =
            find_program(env_program(words), path_, "/", plan_, true, ignored);
        return found.ok() ? follow(found->location) : true;
      }
    }
    return follow_environment(program);
  }

  // A Python environment made with copies instead of links names its base only in pyvenv.cfg.
  Expected<bool> follow_environment(const std::string& program) {
    const std::string prefix = folder_of(folder_of(program));
    const std::string host_prefix = plan_.host_path(prefix).value_or(prefix);
    const Result<std::string> text = profile::read_file(host_prefix + "/pyvenv.cfg");
    if (!text) return true;
    for (std::string_view rest = *text; !rest.empty();) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view line = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      const size_t value = line.find_first_not_of(" =", line.starts_with("home") ? 4 : line.size());
      if (value == std::string_view::npos || line[value] != '/') continue;
      return show(absolute_path(line.substr(value), "/") + "/python3");
    }
    return true;
  }

  // Mounts the installation around `file` unless the guest sees the file already.
  Expected<bool> show(const std::string& file) {
    if (plan_.host_path(file)) return true;
    Expected<bool> added = mount(installation_of(file, home_));
    if (!added.ok()) return added;
    const std::string folder = folder_of(file);
    if (folder == home_ + "/.local/bin") added = mount_if_there(home_ + "/.local/lib");
    // cargo and rustc in ~/.cargo/bin are one program that runs those in ~/.rustup.
    if (added.ok() && folder == home_ + "/.cargo/bin") added = mount_if_there(home_ + "/.rustup");
    return added;
  }
  Expected<bool> mount(const std::string& path) {
    return plan_.add(path, path, MountMode::kReadOnly, MountCache::kExclusive,
                     {MountPlan::Asked::kByInference, MountPlan::kInferred, "toolchain"});
  }
  Expected<bool> mount_if_there(const std::string& path) {
    if (plan_.host_path(path) || ::access(path.c_str(), F_OK) != 0) return true;
    return mount(path);
  }

  std::string_view path_;
  const std::string& home_;
  MountPlan& plan_;
  int stops_ = 0;
};

}  // namespace

std::string installation_of(const std::string& file, const std::string& home) {
  for (const std::string_view store : {"/nix/store", "/gnu/store"}) {
    if (is_within(file, store)) return std::string(store);
  }
  const std::string folder = folder_of(file);
  const std::string name = name_of(folder);
  if (name != "bin" && name != "sbin" && name != "libexec" && name != "shims") return file;
  const std::string prefix = folder_of(folder);
  return is_broad(prefix, home) ? folder : prefix;
}

Expected<bool> mount_toolchain(const std::string& program, std::string_view path,
                               const std::string& home, MountPlan& plan) {
  return Toolchain(path, home, plan).follow(program);
}

}  // namespace boxrun::cli
