#include "src/cli/environment.h"
#include "src/cli/print.h"
#include "src/cli/toolchain.h"
#include "tests/unit/cli_home.h"

using namespace boxrun;
using namespace boxrun::cli;

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
