#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "src/cli/caller.h"
#include "src/cli/command.h"
#include "src/cli/environment.h"
#include "src/cli/mount_plan.h"
#include "src/cli/print.h"
#include "src/cli/resolve.h"
#include "src/cli/toolchain.h"
#include "src/profile/load.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::cli;
using profile::Order;
namespace fs = std::filesystem;

namespace {

// A home directory of somebody, below /var/tmp because /tmp is private in the sandbox.
class Home {
 public:
  Home() {
    char name[] = "/var/tmp/boxrun-cli-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path_ = real_path(name);
  }
  ~Home() { fs::remove_all(path_); }

  std::string write(const std::string& name, const std::string& text, mode_t mode = 0755) const {
    const std::string path = path_ + "/" + name;
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }
  std::string link(const std::string& name, const std::string& text) const {
    const std::string path = path_ + "/" + name;
    fs::create_directories(fs::path(path).parent_path());
    REQUIRE(::symlink(text.c_str(), path.c_str()) == 0);
    return path;
  }
  std::string directory(const std::string& name) const {
    fs::create_directories(path_ + "/" + name);
    return path_ + "/" + name;
  }
  Caller caller() const {
    Caller caller;
    caller.environment = {"HOME=" + path_, "PATH=" + path_ + "/bin:/usr/bin:/bin", "SECRET=1"};
    caller.cwd = path_ + "/work";
    fs::create_directories(caller.cwd);
    caller.uid = ::getuid();
    caller.gid = ::getgid();
    return caller;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Request request(std::vector<std::string> command) {
  Request request;
  profile::Loaded loaded = profile::load_profiles({{"default", ""}}, {});
  REQUIRE(loaded.errors.empty());
  request.profile = std::move(loaded.profile);
  request.command = std::move(command);
  return request;
}

RunSpec resolved(const Request& request, const Caller& caller) {
  int status = 0;
  const profile::Expected<RunSpec> spec = resolve(request, caller, status);
  if (!spec.ok()) FAIL(spec.error().message);
  return *spec;
}

struct Refused {
  int status = 0;
  std::string message;
};
Refused refused(const Request& request, const Caller& caller) {
  Refused refused;
  const profile::Expected<RunSpec> spec = resolve(request, caller, refused.status);
  if (!spec.ok()) refused.message = spec.error().message;
  return refused;
}

const MountSpec* mount_at(const RunSpec& spec, const std::string& target) {
  const auto found = std::ranges::find(spec.mounts, target, &MountSpec::target);
  return found == spec.mounts.end() ? nullptr : &*found;
}
bool has_tmpfs(const RunSpec& spec, const std::string& path) {
  return std::ranges::find(spec.tmpfs, path, &TmpfsSpec::path) != spec.tmpfs.end();
}

profile::Mount mount(std::string source, std::string target, MountMode mode) {
  return {std::move(source), std::move(target), mode, std::nullopt, "--mount"};
}

}  // namespace

TEST_CASE("the default sandbox") {
  const Home home;
  const RunSpec spec = resolved(request({"sh", "-c", "true"}), home.caller());
  REQUIRE(mount_at(spec, "/usr") != nullptr);
  CHECK(mount_at(spec, "/usr")->mode == MountMode::kReadOnly);
  CHECK(mount_at(spec, "/usr")->cache == MountCache::kExclusive);
  CHECK(mount_at(spec, "/etc")->mode == MountMode::kReadOnly);
  const MountSpec* cwd = mount_at(spec, home.path() + "/work");
  REQUIRE(cwd != nullptr);
  CHECK(cwd->mode == MountMode::kOverlay);
  CHECK(cwd->cache == MountCache::kShared);
  CHECK(mount_at(spec, home.path()) == nullptr);
  CHECK(has_tmpfs(spec, home.path()));
  CHECK(has_tmpfs(spec, "/tmp"));
  CHECK(spec.network == NetworkMode::kLoopback);
  CHECK(spec.argv == std::vector<std::string>{"sh", "-c", "true"});
  CHECK(spec.env_withheld == 1);
  CHECK(spec.identity.home == home.path());
  CHECK(std::ranges::is_sorted(
      spec.mounts, {}, [](const MountSpec& m) { return std::ranges::count(m.target, '/'); }));
  CHECK(describe(spec).find("syscalls  bpf errno:EPERM") != std::string::npos);
}

TEST_CASE("the other names of /run are there as on the host, unless something else is") {
  const Home home;
  const auto link_at = [](const RunSpec& spec, const char* path) {
    const auto found = std::ranges::find(spec.symlinks, path, &SymlinkSpec::path);
    return found == spec.symlinks.end() ? std::string() : found->text;
  };
  for (const char* path : {"/var/run", "/var/lock"}) {
    std::error_code error;
    const fs::path text = fs::read_symlink(path, error);
    CHECK(link_at(resolved(request({"sh"}), home.caller()), path) == text.string());
    if (error) continue;
    Request r = request({"sh"});
    r.profile.mounts = {mount(home.path(), std::string(path) + "/x", MountMode::kReadOnly)};
    CHECK(link_at(resolved(r, home.caller()), path).empty());
    r.profile.mounts = {mount(home.path(), "/var", MountMode::kReadOnly)};
    CHECK(link_at(resolved(r, home.caller()), path).empty());
    r.profile.mounts = {};
    r.profile.tmpfs.push_back({path, ""});
    CHECK(link_at(resolved(r, home.caller()), path).empty());
    r.profile.tmpfs = {};
    CHECK(link_at(resolved(r, home.caller()), path).empty());
  }
}

TEST_CASE("secrets are hidden in every mount they can be in") {
  const Home home;
  const RunSpec spec = resolved(request({"sh"}), home.caller());
  const auto hides = [&](const std::string& target, const std::string& path) {
    return is_hidden(mount_at(spec, target)->hide, path);
  };
  CHECK(hides("/etc", "/etc/shadow"));
  CHECK(hides("/etc", "/etc/ssh/ssh_host_rsa_key"));
  CHECK_FALSE(hides("/etc", "/etc/passwd"));
  CHECK(hides(home.path() + "/work", home.path() + "/work/deep/.env"));
  CHECK_FALSE(hides(home.path() + "/work", home.path() + "/work/env"));
}

TEST_CASE("naming a hidden file shows it, being in a hidden directory does not") {
  const Home home;
  home.write(".aws/credentials", "key");
  Request named = request({"sh"});
  named.profile.mounts = {mount("~/.aws/credentials", "", MountMode::kReadOnly)};
  const RunSpec spec = resolved(named, home.caller());
  const MountSpec* credentials = mount_at(spec, home.path() + "/.aws/credentials");
  REQUIRE(credentials != nullptr);
  CHECK_FALSE(credentials->is_directory);
  CHECK_FALSE(is_hidden(credentials->hide, credentials->source));
  Caller inside = home.caller();
  inside.cwd = home.directory(".ssh");
  const Refused in_ssh = refused(request({"sh"}), inside);
  CHECK(in_ssh.status == 125);
  CHECK(in_ssh.message.find("is hidden by '") != std::string::npos);
}

TEST_CASE("the later of a list and a pattern counts, and a mount by name over both") {
  const Home home;
  const std::string data = home.directory("data");
  const auto with = [&](uint32_t listed, uint32_t hidden, const std::string& glob) {
    Request r = request({"sh"});
    r.profile.read.push_back({data, "p.toml:1", listed});
    r.profile.hide.push_back({glob, "p.toml:2", hidden});
    return r;
  };
  for (const std::string& glob : {data, home.path() + "/da*", std::string("/**/data")}) {
    for (const auto& [listed, hidden] : {std::pair{1u, 2u}, std::pair{1u, 1u}}) {
      const RunSpec spec = resolved(with(listed, hidden, glob), home.caller());
      CHECK(mount_at(spec, data) == nullptr);
      REQUIRE(spec.hidden.size() == 1);
      CHECK(spec.hidden[0].path == data);
      CHECK(spec.hidden[0].origin == "p.toml:2");
      CHECK(describe(spec).find("hidden    " + data + " (p.toml:2)\n") != std::string::npos);
    }
    const RunSpec shown = resolved(with(2, 1, glob), home.caller());
    REQUIRE(mount_at(shown, data) != nullptr);
    CHECK_FALSE(is_hidden(mount_at(shown, data)->hide, data));
    CHECK(shown.hidden.empty());
  }
  Request named = with(1, 1, data);
  named.profile.mounts = {{data, "", MountMode::kReadOnly, std::nullopt, "p.toml:3", 1}};
  const RunSpec spec = resolved(named, home.caller());
  CHECK(mount_at(spec, data) != nullptr);
  CHECK(spec.hidden.empty());
  named.profile.hide.back().layer = Order::kByCommandLine;
  CHECK(mount_at(resolved(named, home.caller()), data) == nullptr);
  named.profile.mounts[0].layer = Order::kByCommandLine;
  CHECK(mount_at(resolved(named, home.caller()), data) != nullptr);
}

TEST_CASE("below another mount the Gofer hides it") {
  const Home home;
  const std::string inner = home.directory("data/inner");
  Request r = request({"sh"});
  r.profile.read.push_back({home.path() + "/data", "p.toml:1", 1});
  r.profile.read.push_back({inner, "p.toml:1", 1});
  r.profile.hide.push_back({inner, "p.toml:2", 2});
  const RunSpec spec = resolved(r, home.caller());
  CHECK(mount_at(spec, inner) == nullptr);
  CHECK(spec.hidden.empty());
  CHECK(is_hidden(mount_at(spec, home.path() + "/data")->hide, inner));
}

TEST_CASE("a pattern through a symbolic link hides what it leads to") {
  const Home home;
  const std::string data = home.directory("disk/[1]/data");
  const std::string link = home.link("link", "disk/[1]");
  CHECK(real_hide_glob(link + "/data/*.key") == home.path() + "/disk/\\[1]/data/*.key");
  CHECK(real_hide_glob(link + "/no/such") == home.path() + "/disk/\\[1]/no/such");
  CHECK(real_hide_glob(link) == home.path() + "/disk/\\[1]");
  CHECK(real_hide_glob("/**/.env") == "/**/.env");
  CHECK(real_hide_glob("/no-such*/x") == "/no-such*/x");
  Request r = request({"sh"});
  r.profile.hide.push_back({link + "/data/*.key", "p.toml:2", 0});
  r.profile.mounts = {mount(home.path(), "/m", MountMode::kReadOnly)};
  const RunSpec spec = resolved(r, home.caller());
  CHECK(is_hidden(mount_at(spec, "/m")->hide, data + "/a.key"));
  CHECK_FALSE(is_hidden(mount_at(spec, "/m")->hide, data + "/a"));
}

TEST_CASE("hide globs") {
  CHECK(absolute_hide_glob("**/.env", "/h", "/w") == "/**/.env");
  CHECK(absolute_hide_glob("~/.ssh", "/h", "/w") == "/h/.ssh");
  CHECK(absolute_hide_glob("secret*", "/h", "/w") == "/w/secret*");
  CHECK(is_hidden({"/x", "/**/.env"}, "/a/b/.env/below"));
  CHECK_FALSE(is_hidden({"/h/.ssh"}, "/h"));
  const Home home;
  Request r = request({"sh"});
  r.profile.hide = {{std::string(200, '/') + "a", "p.toml:1"}};
  for (int i = 0; i < 100; ++i) r.profile.hide[0].value += "/a";
  CHECK(refused(r, home.caller()).message.starts_with("p.toml:1: '"));
}

TEST_CASE("mounts by name") {
  const Home home;
  home.directory("data");
  home.write("one.txt", "1", 0644);
  Request r = request({"sh"});
  r.profile.mounts = {mount("../data", "/data", MountMode::kReadWrite),
                      mount("~/one.txt", "", MountMode::kReadOnly),
                      mount(".", "", MountMode::kReadWrite),
                      mount("~/data", "/tmp", MountMode::kOverlay)};
  const RunSpec spec = resolved(r, home.caller());
  CHECK(mount_at(spec, "/data")->source == home.path() + "/data");
  CHECK(mount_at(spec, "/data")->cache == MountCache::kShared);
  CHECK_FALSE(mount_at(spec, home.path() + "/one.txt")->is_directory);
  CHECK(mount_at(spec, home.path() + "/work")->mode == MountMode::kReadWrite);
  CHECK(std::ranges::count(spec.mounts, home.path() + "/work", &MountSpec::target) == 1);
  // A mount takes the place of an empty directory.
  CHECK(mount_at(spec, "/tmp")->mode == MountMode::kOverlay);
  CHECK_FALSE(has_tmpfs(spec, "/tmp"));
}

TEST_CASE("mounts that cannot be") {
  const Home home;
  const auto message = [&](profile::Mount m) {
    Request r = request({"sh"});
    r.profile.mounts = {std::move(m)};
    const Refused refusal = refused(r, home.caller());
    CHECK(refusal.status == 125);
    return refusal.message;
  };
  CHECK(message(mount("/nonexistent", "", MountMode::kReadOnly)) ==
        "--mount: the source '/nonexistent' cannot be mounted: No such file or directory");
  CHECK(message(mount("/proc", "/p", MountMode::kReadOnly)).find("is on a proc file system") !=
        std::string::npos);
  CHECK(message(mount("/sys", "/s", MountMode::kReadOnly)).find("is on a sysfs file system") !=
        std::string::npos);
  CHECK(message(mount("/dev/null", "/n", MountMode::kReadOnly)) ==
        "--mount: '/dev/null' is neither a directory nor a regular file");
  CHECK(message(mount("/usr", "/", MountMode::kReadOnly)) ==
        "--mount: nothing can be mounted at /; mount its directories one by one");
  CHECK(message(mount("/etc", "/proc/x", MountMode::kReadOnly)) ==
        "--mount: nothing can be mounted at '/proc/x': /proc is the sandbox's own");
  CHECK(message(mount("/etc", "/sys", MountMode::kReadOnly)) ==
        "--mount: nothing can be mounted at '/sys': /sys is the sandbox's own");
  Request r = request({"sh"});
  r.profile.tmpfs = {{"/proc", "--tmpfs /proc"}};
  CHECK(refused(r, home.caller()).message ==
        "--tmpfs /proc: nothing can be mounted at '/proc': /proc is the sandbox's own");
  r.profile.tmpfs = {{"/system", "--tmpfs /system"}};
  CHECK(has_tmpfs(resolved(r, home.caller()), "/system"));
}

TEST_CASE("the working directory") {
  const Home home;
  Caller caller = home.caller();
  Request r = request({"sh"});
  r.cwd = "~";
  // The home directory itself as working directory is an overlay of it, not an empty one.
  const RunSpec spec = resolved(r, caller);
  CHECK(spec.cwd == home.path());
  CHECK(mount_at(spec, home.path())->mode == MountMode::kOverlay);
  CHECK_FALSE(has_tmpfs(spec, home.path()));
  r.cwd = "/nonexistent";
  CHECK(refused(r, caller).message == "--cwd '/nonexistent': No such file or directory");
  caller.cwd = "/";
  CHECK(mount_at(resolved(request({"sh"}), caller), "/") == nullptr);
}

TEST_CASE("commands are found as env would find them") {
  const Home home;
  home.write("bin/tool", "#!/bin/sh\n");
  home.write("bin/plain", "text", 0644);
  home.write("work/boxrun-script", "#!/bin/sh\n");
  home.directory("bin/folder");
  home.link("bin/loop", "loop");
  const Caller caller = home.caller();
  CHECK(resolved(request({"tool"}), caller).program == home.path() + "/bin/tool");
  CHECK(resolved(request({"./boxrun-script"}), caller).program == "./boxrun-script");
  CHECK(resolved(request({"../bin/tool"}), caller).program == "../bin/tool");
  CHECK(refused(request({"nosuch"}), caller).status == 127);
  CHECK(refused(request({"nosuch"}), caller).message == "'nosuch': command not found");
  CHECK(refused(request({""}), caller).status == 127);
  CHECK(refused(request({"./nosuch"}), caller).status == 127);
  CHECK(refused(request({"plain"}), caller).status == 126);
  CHECK(refused(request({"plain"}), caller).message == "'plain': Permission denied");
  CHECK(refused(request({"folder"}), caller).status == 126);
  CHECK(refused(request({"/etc"}), caller).status == 126);
  CHECK(refused(request({home.path() + "/bin/loop"}), caller).status == 126);
  CHECK(refused(request({"boxrun-script"}), caller).status == 127);  // "." is not in PATH
  Request none = request({"tool"});
  none.profile.toolchain = profile::Toolchain::kNone;
  CHECK(refused(none, caller).status == 127);
}

TEST_CASE("a command is looked up where it will be") {
  const Home home;
  home.write("tools/run", "#!/bin/sh\n");
  Request r = request({"/opt/boxrun-test-tools/run"});
  r.profile.mounts = {mount("~/tools", "/opt/boxrun-test-tools", MountMode::kReadOnly)};
  CHECK(resolved(r, home.caller()).program == "/opt/boxrun-test-tools/run");
  r.command = {"run"};
  r.env = {{"PATH", "/opt/boxrun-test-tools"}};
  CHECK(resolved(r, home.caller()).program == "/opt/boxrun-test-tools/run");
}

TEST_CASE("an interpreter below the home directory is mounted with its installation") {
  const Home home;
  const std::string python = home.write(".pyenv/versions/3.11.7/bin/python3.11",
                                        "\x7f"
                                        "ELF");
  home.link(".pyenv/versions/3.11.7/bin/python3", "python3.11");
  const Caller caller = home.caller();

  SUBCASE("through a link in PATH") {
    home.link("bin/python3", python);
    const RunSpec spec = resolved(request({"python3"}), caller);
    CHECK(mount_at(spec, home.path() + "/.pyenv/versions/3.11.7") != nullptr);
    CHECK(mount_at(spec, home.path() + "/bin") != nullptr);  // not the whole home
    CHECK(mount_at(spec, home.path()) == nullptr);
  }
  SUBCASE("through a shim") {
    home.write(".pyenv/shims/python3", "#!/usr/bin/env bash\nexec pyenv exec\n");
    Caller with_shims = caller;
    with_shims.environment[1] = "PATH=" + home.path() + "/.pyenv/shims:/usr/bin";
    const RunSpec spec = resolved(request({"python3"}), with_shims);
    CHECK(mount_at(spec, home.path() + "/.pyenv") != nullptr);
  }
  SUBCASE("through the #! line of a script") {
    home.write("work/run.py", "#!" + home.path() + "/.pyenv/versions/3.11.7/bin/python3 -I\n");
    const RunSpec spec = resolved(request({"./run.py"}), caller);
    CHECK(mount_at(spec, home.path() + "/.pyenv/versions/3.11.7") != nullptr);
  }
  SUBCASE("through env in the #! line") {
    home.link("bin/python9", python);
    home.write("work/run.py", "#!/usr/bin/env -S python9 -I\n");
    const RunSpec spec = resolved(request({"./run.py"}), caller);
    CHECK(mount_at(spec, home.path() + "/.pyenv/versions/3.11.7") != nullptr);
  }
  SUBCASE("through a venv of links") {
    home.link("venv/bin/python3", python);
    home.write("venv/pyvenv.cfg", "home = " + home.path() + "/.pyenv/versions/3.11.7/bin\n");
    const RunSpec spec = resolved(request({"../venv/bin/python3"}), caller);
    CHECK(mount_at(spec, home.path() + "/venv") != nullptr);
    CHECK(mount_at(spec, home.path() + "/.pyenv/versions/3.11.7") != nullptr);
  }
  SUBCASE("through a venv of copies") {
    home.write("venv/bin/python3",
               "\x7f"
               "ELF");
    home.write("venv/pyvenv.cfg", "home = " + home.path() + "/.pyenv/versions/3.11.7/bin\n");
    const RunSpec spec = resolved(request({"../venv/bin/python3"}), caller);
    CHECK(mount_at(spec, home.path() + "/.pyenv/versions/3.11.7") != nullptr);
  }
}

TEST_CASE("other tool managers") {
  CHECK(installation_of("/h/.nvm/versions/node/v20/bin/node", "/h") == "/h/.nvm/versions/node/v20");
  CHECK(installation_of("/h/.local/bin/tool", "/h") == "/h/.local/bin");
  CHECK(installation_of("/h/bin/tool", "/h") == "/h/bin");
  CHECK(installation_of("/bin/tool", "/h") == "/bin");
  CHECK(installation_of("/h/project/tool", "/h") == "/h/project/tool");
  CHECK(installation_of("/nix/store/abc-x/bin/x", "/h") == "/nix/store");
  CHECK(installation_of("/h/miniconda3/envs/e/bin/python", "/h") == "/h/miniconda3/envs/e");
  const Home home;
  home.write(".cargo/bin/cargo",
             "\x7f"
             "ELF");
  home.directory(".rustup");
  const RunSpec spec = resolved(request({"../.cargo/bin/cargo"}), home.caller());
  CHECK(mount_at(spec, home.path() + "/.cargo") != nullptr);
  CHECK(mount_at(spec, home.path() + "/.rustup") != nullptr);
}

TEST_CASE("links in a circle end") {
  const Home home;
  home.write("work/a", "#!" + home.path() + "/work/b\n");
  home.write("work/b", "#!" + home.path() + "/work/a\n");
  CHECK(resolved(request({"./a"}), home.caller()).program == "./a");
}

TEST_CASE("the environment") {
  Caller caller;
  caller.environment = {"PATH=/bin", "LC_ALL=C", "AWS_KEY=x", "TOKEN=y", "HOME=/h"};
  caller.uid = 1000;
  IdentitySpec self;
  self.uid = 1000;
  Request r;
  r.profile.env_pass = {"PATH", "LC_*", "HOME"};
  r.profile.env_set = {{"LC_ALL", "C.UTF-8"}, {"NEW", "1"}};
  r.env = {{"TOKEN", std::nullopt}, {"NEW", "2"}, {"ABSENT", std::nullopt}};
  const Environment environment = make_environment(caller, r, self);
  CHECK(environment.variables ==
        std::vector<std::string>{"PATH=/bin", "LC_ALL=C.UTF-8", "TOKEN=y", "HOME=/h", "NEW=2"});
  CHECK(environment.withheld == 1);
  IdentitySpec other;
  other.uid = 65534;
  other.home = "/nonexistent";
  other.name = "nobody";
  CHECK(make_environment(caller, r, other).value("HOME") == "/nonexistent");
}

TEST_CASE("identities") {
  Caller root;
  root.environment = {"HOME=/somewhere"};
  const profile::Expected<IdentitySpec> self = resolve_identity(root, "");
  REQUIRE(self.ok());
  CHECK(self->name == "root");
  CHECK(self->home == "/somewhere");
  root.environment.emplace_back("SUDO_UID=65534");
  CHECK(resolve_identity(root, "")->name == "nobody");
  CHECK(resolve_identity(root, "root")->uid == 0);
  CHECK(resolve_identity(root, "nobody")->groups.size() >= 1);
  CHECK(resolve_identity(root, "54321")->uid == 54321);
  CHECK(resolve_identity(root, "54321")->gid == 54321);
  CHECK(resolve_identity(root, "no-such-user").error().message ==
        "there is no user 'no-such-user'");
  Caller user;
  user.uid = user.gid = 1234567;
  CHECK(resolve_identity(user, "")->uid == 1234567);
  CHECK(resolve_identity(user, "root").error().message ==
        "--user root: only root can run as somebody else");
  // SUDO_UID in an ordinary user's environment means nothing.
  user.environment = {"SUDO_UID=0"};
  CHECK(resolve_identity(user, "")->uid == 1234567);
}
