#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>

#include "src/profile/builtin.h"
#include "src/profile/expand.h"
#include "src/profile/load.h"
#include "src/profile/parse.h"
#include "src/profile/values.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::profile;
using namespace std::chrono_literals;

namespace {

std::vector<Error> no_base(const Located& name, Profile&) { return {{"no base " + name.value}}; }

// The one error of a profile, as text; "" when there is none.
std::string error_of(std::string_view text) {
  Profile profile;
  const std::vector<Error> errors = parse_profile(text, "p.toml", no_base, profile);
  std::string all;
  for (const Error& error : errors) all += (all.empty() ? "" : "\n") + error.text();
  return all;
}

Profile parsed(std::string_view text) {
  Profile profile;
  const std::vector<Error> errors = parse_profile(text, "p.toml", no_base, profile);
  for (const Error& error : errors) FAIL(error.text());
  return profile;
}

// A directory of profile files that is gone at the end of the test.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/boxrun-profile-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Folder() {
    for (const std::string& file : files_) ::unlink(file.c_str());
    ::rmdir(path_.c_str());
  }
  void write(const std::string& name, const std::string& text) {
    files_.push_back(path_ + "/" + name);
    std::ofstream(files_.back()) << text;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::vector<std::string> files_;
};

}  // namespace

TEST_CASE("durations") {
  CHECK(*parse_duration("30s") == 30s);
  CHECK(*parse_duration("1.5m") == 90s);
  CHECK(*parse_duration("500ms") == 500ms);
  CHECK(*parse_duration("250us") == 250us);
  CHECK(*parse_duration("2h") == 2h);
  CHECK(*parse_duration("7") == 7s);
  CHECK(*parse_duration("0s") == 0s);
  for (const char* bad : {"", "s", "-1s", "1 s", "1x", "1e3s", "1.s", ".5s", "1s1"}) {
    CHECK_MESSAGE(!parse_duration(bad).ok(), bad);
  }
  CHECK(parse_duration("5 min").error().text() ==
        "'5 min' is no duration; write it as in 500ms, 30s, 1.5m or 2h");
  CHECK(parse_duration("99999999999999999d").error().text() ==
        "the duration '99999999999999999d' is too long");
  for (const char* same : {"0s", "30s", "90s", "500ms", "2h", "3d"}) {
    CHECK(*parse_duration(to_text(*parse_duration(same))) == *parse_duration(same));
  }
  CHECK(to_text(90s) == "90s");
  CHECK(to_text(120s) == "2m");
}

TEST_CASE("sizes and counts") {
  CHECK(*parse_size("4096") == 4096);
  CHECK(*parse_size("64K") == 65536);
  CHECK(*parse_size("512m") == 512u << 20);
  CHECK(*parse_size("1.5GiB") == 3u << 29);
  CHECK(*parse_size("10B") == 10);
  CHECK(*parse_size("1KB") == 1024);
  for (const char* bad : {"", "K", "-1", "1X", "1KK", "1iB", "B", "1 G"}) {
    CHECK_MESSAGE(!parse_size(bad).ok(), bad);
  }
  CHECK_FALSE(parse_size("99999999999T").ok());
  CHECK(size_to_text(0) == "0");
  CHECK(size_to_text(3u << 29) == "1536M");
  CHECK(size_to_text(1023) == "1023");
  CHECK(*parse_count("256") == 256);
  CHECK_FALSE(parse_count("").ok());
  CHECK_FALSE(parse_count("2.5").ok());
  CHECK_FALSE(parse_count("1234567890123456789").ok());
}

TEST_CASE("syscall actions") {
  CHECK(*parse_action("kill") == SyscallAction{SyscallAction::Kind::kKill, Errno::kPerm});
  CHECK(*parse_action("errno:ENOSYS") == SyscallAction{SyscallAction::Kind::kErrno, Errno::kNoSys});
  CHECK(*parse_action("EACCES") == SyscallAction{SyscallAction::Kind::kErrno, Errno::kAcces});
  CHECK(parse_action("errno:ENOPE").error().text() ==
        "'ENOPE' is no errno name; write it as in errno:EPERM");
  CHECK(parse_action("kil").error().text() ==
        "'kil' is none of allow, errno:NAME, log, kill; did you mean 'kill'?");
  // The errnos that only live inside the Sentry are nobody's to name.
  CHECK_FALSE(parse_action("errno:ERESTARTSYS").ok());
  CHECK(to_text(*parse_action("errno:EPERM")) == "errno:EPERM");
}

TEST_CASE("suggestions are near, or absent") {
  static constexpr std::string_view kNames[] = {"filesystem", "network", "limits", "ro", "rw"};
  CHECK(nearest("filesytem", kNames) == "filesystem");
  CHECK(nearest("netwrok", kNames) == "network");
  CHECK(nearest("nte", std::array<std::string_view, 2>{"run", "net"}) == "net");
  CHECK(nearest("wr", kNames) == "rw");
  CHECK(nearest("ilmist", kNames) == "limits");
  CHECK(nearest("rx", kNames) == "ro");
  CHECK(nearest("colour", kNames).empty());
  CHECK(nearest("", kNames).empty());
  CHECK(nearest(std::string(100000, 'x'), kNames).empty());
}

TEST_CASE("paths") {
  CHECK(expand_home("~", "/home/u") == "/home/u");
  CHECK(expand_home("~/.ssh", "/home/u") == "/home/u/.ssh");
  CHECK(expand_home("~other/x", "/home/u") == "~other/x");
  CHECK(absolute_path("a/../b/./c//", "/x/y") == "/x/y/b/c");
  CHECK(absolute_path("../../../..", "/x/y") == "/");
  CHECK(absolute_path("/a/b/..", "/x") == "/a");
  CHECK(matches_glob("LC_*", "LC_ALL"));
  CHECK_FALSE(matches_glob("LC_*", "LANG"));
  CHECK(expand_glob("/nonexistent").size() == 1);
  CHECK(expand_glob("/nonexistent/*").empty());
  Folder folder;
  folder.write("b.toml", "");
  folder.write("a.toml", "");
  CHECK(expand_glob(folder.path() + "/*.toml") ==
        std::vector<std::string>{folder.path() + "/a.toml", folder.path() + "/b.toml"});
}

TEST_CASE("every key of a profile arrives") {
  const Profile p = parsed(R"(
schema = 1
name = "ai"
[platform]
kind = "ptrace"
[filesystem]
toolchain = "none"
cwd = "rw"
home = "overlay"
overlay_data = "disk"
read = ["/usr", "/lib*"]
write = ["/data"]
hide = ["~/.ssh"]
tmpfs = ["/tmp"]
[[filesystem.mount]]
source = "./data"
target = "/data"
mode = "overlay"
cache = "exclusive"
[[filesystem.mount]]
source = "/srv"
[network]
mode = "none"
[env]
pass = ["PATH", "LC_*"]
set = { A = "1", B = "" }
[limits]
timeout = "10s"
kill_after = "2s"
memory = "1G"
cpu_time = "1m"
processes = 7
open_files = "64"
file_size = 4096
output = "1M"
tmp_size = "2M"
overlay_size = "3M"
[syscalls]
default = "log"
deny = ["ptrace", "@mount"]
action = "kill"
[report]
formats = ["json", "text", "json"]
fail_on = "medium"
)");
  CHECK(p.name == "ai");
  CHECK(p.platform == "ptrace");
  CHECK(p.toolchain == Toolchain::kNone);
  CHECK(p.cwd == CwdMode::kReadWrite);
  CHECK(p.home == HomeMode::kOverlay);
  CHECK(p.overlay_data == OverlayData::kDisk);
  REQUIRE(p.read.size() == 2);
  CHECK(p.read[1].value == "/lib*");
  CHECK(p.read[1].origin == "p.toml:11");
  CHECK(p.write.at(0).value == "/data");
  CHECK(p.hide.at(0).value == "~/.ssh");
  CHECK(p.tmpfs.at(0).value == "/tmp");
  REQUIRE(p.mounts.size() == 2);
  CHECK(p.mounts[0].source == "./data");
  CHECK(p.mounts[0].target == "/data");
  CHECK(p.mounts[0].mode == MountMode::kOverlay);
  CHECK(p.mounts[0].cache == MountCache::kExclusive);
  CHECK(p.mounts[0].origin == "p.toml:15");
  CHECK(p.mounts[1].target.empty());
  CHECK(p.mounts[1].mode == MountMode::kReadOnly);
  CHECK_FALSE(p.mounts[1].cache.has_value());
  CHECK(p.network == NetworkMode::kNone);
  CHECK(p.env_pass == std::vector<std::string>{"PATH", "LC_*"});
  CHECK(p.env_set.size() == 2);
  CHECK(p.limits.timeout == 10s);
  CHECK(p.limits.kill_after == 2s);
  CHECK(p.limits.memory == 1u << 30);
  CHECK(p.limits.cpu_time == 1min);
  CHECK(p.limits.processes == 7);
  CHECK(p.limits.open_files == 64);
  CHECK(p.limits.file_size == 4096);
  CHECK(p.limits.output == 1u << 20);
  CHECK(p.limits.tmp_size == 2u << 20);
  CHECK(p.limits.overlay_size == 3u << 20);
  CHECK(p.syscall_default.kind == SyscallAction::Kind::kLog);
  CHECK(p.syscall_action.kind == SyscallAction::Kind::kKill);
  REQUIRE(p.syscall_rules.size() == 2);
  CHECK(p.syscall_rules[1].pattern == "@mount");
  CHECK(p.syscall_rules[1].origin == "p.toml:40");
  CHECK_FALSE(p.syscall_rules[1].action.has_value());
  CHECK(p.report_formats ==
        std::vector<report::Format>{report::Format::kJson, report::Format::kText});
  CHECK(p.fail_on == report::FailOn::kMedium);
}

TEST_CASE("errors name file, line, column and what may have been meant") {
  CHECK(error_of("schema = 1\n[filesytem]\n") ==
        "p.toml:2:2: unknown key 'filesytem'; did you mean 'filesystem'?");
  CHECK(error_of("schema = 1\n[limits]\n  memroy = \"1G\"\n") ==
        "p.toml:3:3: unknown key 'memroy'; did you mean 'memory'?");
  CHECK(error_of("schema = 1\n[limits]\ncolour = 1\n") == "p.toml:3:1: unknown key 'colour'");
  CHECK(error_of("name = \"x\"\n") == "p.toml:1:1: there is no `schema = 1`");
  CHECK(error_of("schema = 2\n") ==
        "p.toml:1:10: schema 2 is not known; this version reads schema 1");
  CHECK(error_of("schema = \"1\"\n") == "p.toml:1:10: expected an integer, found a string");
  CHECK(error_of("schema = 1\nname = 5\n") == "p.toml:2:8: expected a string, found an integer");
  CHECK(error_of("schema = 1\nlimits = 3\n") == "p.toml:2:10: expected a table, found an integer");
  CHECK(error_of("schema = 1\n[filesystem]\nread = \"/usr\"\n") ==
        "p.toml:3:8: expected an array of strings, found a string");
  CHECK(error_of("schema = 1\n[filesystem]\nread = [\"/usr\", 7]\n") ==
        "p.toml:3:17: expected a string, found an integer");
  CHECK(error_of("schema = 1\n[filesystem]\nread = [\"\"]\n") == "p.toml:3:9: the string is empty");
  CHECK(error_of("schema = 1\n[filesystem]\nread = [\"/a\\u0000b\"]\n") ==
        "p.toml:3:9: the string holds a NUL character");
  CHECK(error_of("schema = 1\n[filesystem]\ncwd = \"overly\"\n") ==
        "p.toml:3:7: 'overly' is none of overlay, ro, rw, none; did you mean 'overlay'?");
  CHECK(error_of("schema = 1\n[[filesystem.mount]]\ntarget = \"/x\"\n") ==
        "p.toml:2:1: the mount has no source");
  CHECK(error_of("schema = 1\n[limits]\ntimeout = \"5 min\"\n") ==
        "p.toml:3:11: '5 min' is no duration; write it as in 500ms, 30s, 1.5m or 2h");
  CHECK(error_of("schema = 1\n[limits]\nprocesses = -1\n") == "p.toml:3:13: must not be negative");
  CHECK(error_of("schema = 1\n[platform]\nkind = \"xen\"\n")
            .starts_with("p.toml:3:8: 'xen' is none of"));
  CHECK(error_of("schema = 1\n[env]\nset = { \"A=B\" = \"1\" }\n") ==
        "p.toml:3:9: 'A=B' is no name of a variable");
  CHECK(error_of("schema = 1\n[syscalls]\naction = \"errno:ENOPE\"\n") ==
        "p.toml:3:10: 'ENOPE' is no errno name; write it as in errno:EPERM");
  CHECK(error_of("schema = 1\nextends = [\"base\"]\n") == "p.toml:2:11: no base base");
}

TEST_CASE("text that is no TOML is one error with its place") {
  CHECK(error_of("schema = \n").starts_with("p.toml:1:"));
  CHECK(error_of("schema = 1\nname = \"x\n").starts_with("p.toml:2:"));
  CHECK(error_of("schema = 1\nschema = 1\n").starts_with("p.toml:2:"));
  CHECK(error_of("schema = 1\nname = \"\xff\xfe\"\n").starts_with("p.toml:2:"));
  CHECK_FALSE(error_of(std::string(100000, '[')).empty());
  CHECK(error_of("schema = 1\nna\xc6\xb1me = 1\n").starts_with("p.toml:2:"));
}

TEST_CASE("all errors of a file are found, in order, and their number is bounded") {
  CHECK(error_of("schema = 1\nb = 1\na = 1\n") ==
        "p.toml:2:1: unknown key 'b'\np.toml:3:1: unknown key 'a'");
  std::string many = "schema = 1\n";
  for (int i = 0; i < 100; ++i) many += "key" + std::to_string(i) + " = 1\n";
  Profile profile;
  CHECK(parse_profile(many, "p.toml", no_base, profile).size() == 20);
}

TEST_CASE("the built-in profiles are valid") {
  for (const Builtin& builtin : builtin_profiles()) {
    const Loaded loaded = load_profiles({{std::string(builtin.name), ""}}, {});
    for (const Error& error : loaded.errors) FAIL(error.text());
    CHECK(loaded.profile.name == builtin.name);
  }
}

TEST_CASE("lists append along extends, scalars are replaced, a profile counts once") {
  Folder folder;
  folder.write("base.toml", "schema = 1\n[filesystem]\nread = [\"/a\"]\ncwd = \"ro\"\n");
  folder.write("left.toml",
               "schema = 1\nextends = [\"base\"]\n[filesystem]\nread = [\"/b\"]\ncwd = \"rw\"\n");
  folder.write("right.toml", "schema = 1\nextends = [\"base\"]\n[filesystem]\nread = [\"/c\"]\n");
  const Loaded loaded = load_profiles({{"left", ""}, {"right", ""}}, {folder.path()});
  REQUIRE(loaded.errors.empty());
  std::string read;
  for (const Located& path : loaded.profile.read) read += path.value;
  CHECK(read == "/a/b/c");
  CHECK(loaded.profile.cwd == CwdMode::kReadWrite);
  CHECK(loaded.profile.read[1].origin == folder.path() + "/left.toml:4");
}

TEST_CASE("each file is a layer over those that it extends") {
  Folder folder;
  folder.write("base.toml",
               "schema = 1\n[filesystem]\nread = [\"/a\"]\nhide = [\"/h\"]\n"
               "[[filesystem.mount]]\nsource = \"/m\"\n");
  folder.write("top.toml", "extends = [\"base\"]\nschema = 1\nfilesystem.read = [\"/b\"]\n");
  const Profile p = load_profiles({{"top", ""}}, {folder.path()}).profile;
  REQUIRE(p.read.size() == 2);
  CHECK(p.hide.at(0).layer == p.read[0].layer);
  CHECK(p.mounts.at(0).layer == p.read[0].layer);
  CHECK(p.read[1].layer > p.read[0].layer);
  using enum Order::Rank;
  CHECK(Order{0, kList} < Order{0, kHide});
  CHECK(Order{0, kHide} < Order{0, kMount});
  CHECK(Order{0, kMount} < Order{1, kList});
}

TEST_CASE("a file names its base relative to itself") {
  Folder folder;
  folder.write("base.toml", "schema = 1\nname = \"base\"\n");
  folder.write("top.toml", "schema = 1\nextends = [\"./base.toml\"]\n");
  const Loaded loaded = load_profiles({{folder.path() + "/top.toml", ""}}, {});
  CHECK(loaded.errors.empty());
  CHECK(loaded.profile.name == "base");
}

TEST_CASE("profiles that cannot be found or read") {
  Folder folder;
  folder.write("a.toml", "schema = 1\nextends = [\"b\"]\n");
  folder.write("b.toml", "schema = 1\nextends = [\"a\"]\n");
  folder.write("strict.toml", "schema = 1\n");
  const auto first_error = [&](const std::string& name) {
    const Loaded loaded = load_profiles({{name, ""}}, {folder.path()});
    return loaded.errors.empty() ? std::string() : loaded.errors[0].text();
  };
  CHECK(first_error("strct") == "there is no profile 'strct'; did you mean 'strict'?");
  CHECK(first_error("defualt") == "there is no profile 'defualt'; did you mean 'default'?");
  CHECK(first_error("/nonexistent.toml") ==
        "profile '/nonexistent.toml' cannot be read: No such file or directory");
  CHECK(first_error(folder.path() + "/") ==
        "profile '" + folder.path() + "/' cannot be read: Is a directory");
  const std::string a = folder.path() + "/a.toml";
  const std::string b = folder.path() + "/b.toml";
  CHECK(first_error("a") ==
        b + ":2:11: profile '" + a + "' extends itself (" + a + " -> " + b + " -> " + a + ")");
}
