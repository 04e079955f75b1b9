// The file tree that resolve() decides: mounts, what is hidden in them, empty directories.
#include "src/cli/print.h"
#include "tests/unit/cli_home.h"

using namespace boxrun;
using namespace boxrun::cli;
using profile::Order;
namespace fs = std::filesystem;

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
  named.profile.mounts.push_back(mount("/etc/shadow", "", MountMode::kReadOnly));
  CHECK(mount_at(resolved(named, home.caller()), "/etc")->shown ==
        std::vector<std::string>{"/etc/shadow"});
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

TEST_CASE("a tmpfs takes the place of a mount below it in order") {
  const Home home;
  const std::string data = home.directory("data");
  const auto is_empty = [&](const Request& r, const std::string& path) {
    const RunSpec spec = resolved(r, home.caller());
    CHECK(has_tmpfs(spec, path) == (mount_at(spec, path) == nullptr));
    return has_tmpfs(spec, path);
  };
  Request r = request({"sh"});
  r.profile.read.push_back({data, "p.toml:1", 2});
  for (const auto& [layer, empty] :
       {std::pair{1u, false}, std::pair{2u, true}, std::pair{3u, true}}) {
    r.profile.tmpfs = {{data, "p.toml:2", layer}};
    CHECK(is_empty(r, data) == empty);
  }
  r.profile.mounts = {{data, "", MountMode::kReadOnly, std::nullopt, "p.toml:3", 3}};
  CHECK_FALSE(is_empty(r, data));
  r.profile.tmpfs = {{data, "--tmpfs", Order::kByCommandLine}};
  CHECK(is_empty(r, data));
  r.profile.mounts[0].layer = Order::kByCommandLine;
  CHECK_FALSE(is_empty(r, data));
  // Where boxrun is run counts more than what a profile says, and less than an option.
  const std::string work = home.path() + "/work";
  r.profile.tmpfs = {{work, "p.toml:2", 3}};
  CHECK_FALSE(is_empty(r, work));
  r.profile.tmpfs = {{work, "--tmpfs", Order::kByCommandLine}};
  CHECK(is_empty(r, work));
  r.profile.home = profile::HomeMode::kReadOnly;
  r.profile.tmpfs = {{"~", "p.toml:2", 3}};
  CHECK_FALSE(is_empty(r, home.path()));
}

TEST_CASE("in the place of a mount nothing is found any more") {
  const Home home;
  home.write("work/tool", "#!/bin/sh\n");
  Request r = request({"./tool"});
  r.profile.toolchain = profile::Toolchain::kNone;
  CHECK(resolved(r, home.caller()).program == "./tool");
  r.profile.tmpfs = {{".", "--tmpfs", Order::kByCommandLine}};
  CHECK(refused(r, home.caller()).status == 127);
}

TEST_CASE("a tmpfs at a link of the root is where that leads") {
  const Home home;
  Request r = request({"sh"});
  r.profile.tmpfs = {{"/bin", "--tmpfs /bin", Order::kByCommandLine}};
  CHECK(has_tmpfs(resolved(r, home.caller()), real_path("/bin")));
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

TEST_CASE("a pattern of the guest's path hides in a mount from elsewhere") {
  const Home home;
  const std::string data = home.directory("data");
  const auto hide_of = [&](std::vector<std::string> globs, const std::string& target) {
    Request r = request({"sh"});
    r.profile.hide.clear();
    for (std::string& glob : globs) r.profile.hide.push_back({std::move(glob), "p.toml:2", 0});
    r.profile.mounts = {mount(data, target, MountMode::kReadOnly)};
    const RunSpec spec = resolved(r, home.caller());
    std::vector<std::string> relative = mount_at(spec, target)->hide;
    std::erase_if(relative, [](const std::string& glob) { return glob.starts_with('/'); });
    return relative;
  };
  using Globs = std::vector<std::string>;
  CHECK(hide_of({"/m/x"}, "/m") == Globs{"x"});
  CHECK(hide_of({"/m/n/x/*.key"}, "/m/n") == Globs{"x/*.key"});
  CHECK(hide_of({"/*/x"}, "/m") == Globs{"x"});
  CHECK(hide_of({"/m/**/x"}, "/m") == Globs{"**/x", "x"});
  CHECK(hide_of({"/**/m/x", "/**/x"}, "/m") == Globs{"x"});
  CHECK(hide_of({"/n/x", "/m/n/x", "/m"}, "/m/o").empty());
  CHECK(hide_of({data + "/x"}, data).empty());
}

TEST_CASE("a pattern of the guest's path of a mount from elsewhere hides it in order") {
  const Home home;
  Request r = request({"sh"});
  r.profile.mounts = {{home.directory("data"), "/m", MountMode::kReadOnly, std::nullopt, "p:1", 1}};
  r.profile.hide.push_back({"/m", "p:2", 1});
  CHECK(mount_at(resolved(r, home.caller()), "/m") != nullptr);
  r.profile.hide.back().layer = 2;
  CHECK(mount_at(resolved(r, home.caller()), "/m") == nullptr);
}

TEST_CASE("patterns that can hide nothing") {
  const Home home;
  const auto message = [&](const std::string& glob) {
    Request r = request({"sh"});
    r.profile.hide.push_back({glob, "--hide", Order::kByCommandLine});
    return refused(r, home.caller()).message;
  };
  for (const std::string own : {"/proc", "/sys", "/dev"}) {
    for (const std::string& path : {own, own + "/x/y"}) {
      CHECK(message(path) == "--hide: '" + path + "' cannot be hidden: " + own +
                                 " is the sandbox's own, without files of the host");
    }
  }
  CHECK(message("/dev/*") == "");
  CHECK(message("/device") == "");
  for (const std::string glob : {"[", "a[b", "[a/b]", "[]", "\\[[!]"}) {
    CHECK(message(glob) ==
          "--hide: '" + glob + "' has a '[' without its ']'; '\\[' is the character itself");
  }
  for (const std::string glob : {"[a]", "[]]", "\\[", "]", "[[]"}) CHECK(message(glob) == "");
  Request mounted = request({"sh"});
  mounted.profile.mounts = {mount(home.directory("data"), "/dev/data", MountMode::kReadOnly)};
  mounted.profile.hide.push_back({"/dev/data/x", "--hide", Order::kByCommandLine});
  CHECK(std::ranges::count(mount_at(resolved(mounted, home.caller()), "/dev/data")->hide, "x") ==
        1);
}

TEST_CASE("hide globs") {
  CHECK(absolute_hide_glob("x*", "/h", "/w[1]") == "/w\\[1]/x*");
  CHECK(absolute_hide_glob("~/x", "/h*", "/w") == "/h\\*/x");
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
