#include "sentry/vfs/walk.h"

#include "tests/unit/test.h"
#include "tests/unit/vfs_fixture.h"

namespace boxrun::vfs {
namespace {

using testing::Tree;

TEST_CASE("walk: names, dots and slashes") {
  Tree t;
  REQUIRE(t.mkdir("/a") == Errno::kOk);
  REQUIRE(t.mkdir("/a/b") == Errno::kOk);
  REQUIRE(t.write_file("/a/f", "x") == Errno::kOk);
  CHECK(t.name_of("//a/./b//").take() == "/a/b");
  CHECK(t.name_of("/a/b/..").take() == "/a");
  CHECK(t.name_of("/../../a").take() == "/a");
  CHECK(t.name_of("/").take() == "/");
  CHECK(t.place("").error() == Errno::kNoEnt);
  CHECK(t.place("/a/missing").error() == Errno::kNoEnt);
  CHECK(t.place("/missing/x").error() == Errno::kNoEnt);
  CHECK(t.place("/a/f/").error() == Errno::kNotDir);
  CHECK(t.place("/a/f/x").error() == Errno::kNotDir);
  CHECK(t.place("/a/f/.").error() == Errno::kNotDir);
  CHECK(t.place(std::string(256, 'x')).error() == Errno::kNameTooLong);
  CHECK(t.place(std::string(255, 'x')).error() == Errno::kNoEnt);
  CHECK(t.place("/" + std::string(4095, '/')).error() == Errno::kNameTooLong);
}

TEST_CASE("walk: symlinks") {
  Tree t;
  REQUIRE(t.mkdir("/dir") == Errno::kOk);
  REQUIRE(t.write_file("/dir/f", "data") == Errno::kOk);
  REQUIRE(t.symlink("dir", "/rel") == Errno::kOk);
  REQUIRE(t.symlink("/dir/f", "/abs") == Errno::kOk);
  REQUIRE(t.symlink("../rel/f", "/dir/up") == Errno::kOk);
  REQUIRE(t.symlink("loop", "/loop") == Errno::kOk);
  CHECK(t.name_of("/rel/f").take() == "/dir/f");
  CHECK(t.name_of("/dir/up").take() == "/dir/f");
  CHECK(t.place("/loop").error() == Errno::kLoop);
  CHECK(t.place("/abs", Follow::kNo).take().dentry->inode()->type() == FileType::kSymlink);
  // A trailing slash follows, and wants a directory.
  CHECK(path_of(*t.mounts, t.fs_context->root(), t.place("/rel/", Follow::kNo).take()) == "/dir");
  CHECK(t.place("/abs/", Follow::kNo).error() == Errno::kNotDir);
  // Forty links are followed, forty-one are not.
  REQUIRE(t.symlink("dir", "/l0") == Errno::kOk);
  for (int i = 1; i <= 40; i++) {
    REQUIRE(t.symlink("l" + std::to_string(i - 1), "/l" + std::to_string(i)) == Errno::kOk);
  }
  CHECK(t.place("/l39").ok());
  CHECK(t.place("/l40").error() == Errno::kLoop);
}

TEST_CASE("walk: search permission is asked of every directory") {
  Tree t;
  REQUIRE(t.mkdir("/closed", 0700) == Errno::kOk);
  REQUIRE(t.mkdir("/closed/in", 0777) == Errno::kOk);
  t.become(testing::user(1000));
  CHECK(t.place("/closed").ok());
  CHECK(t.place("/closed/.").error() == Errno::kAcces);
  CHECK(t.place("/closed/in").error() == Errno::kAcces);
  CHECK(t.place("/closed/missing").error() == Errno::kAcces);
}

TEST_CASE("walk: mounts are entered and left") {
  Tree t;
  REQUIRE(t.mkdir("/mnt") == Errno::kOk);
  auto other = fs::TmpFs::create({.device = 8, .root_mode = 0755}, *t.memory_file, t.clock);
  auto mount = Mount::create({.file_system = other});
  REQUIRE(t.mounts->attach(mount, t.place("/mnt").take()).ok());
  REQUIRE(t.mkdir("/mnt/sub") == Errno::kOk);
  CHECK(t.stat("/mnt").take().dev == 8);
  CHECK(t.name_of("/mnt/sub").take() == "/mnt/sub");
  CHECK(t.name_of("/mnt/sub/../..").take() == "/");
  CHECK(remove_directory(t.caller, t.at("/mnt")).error() == Errno::kBusy);
  CHECK(rename_at(t.caller, t.at("/mnt"), t.at("/x"), 0).error() == Errno::kBusy);
  CHECK(rename_at(t.caller, t.at("/mnt/sub"), t.at("/x"), 0).error() == Errno::kXDev);
  CHECK(t.mounts->list().size() == 2);
  {
    const Path inside = t.place("/mnt/sub").take();
    CHECK(t.mounts->detach(t.place("/mnt").take(), false).error() == Errno::kBusy);
  }
  mount = nullptr;
  CHECK(t.mounts->detach(t.place("/mnt").take(), false).ok());
  CHECK(t.stat("/mnt").take().dev == 7);
  CHECK(t.mounts->detach(t.place("/mnt").take(), false).error() == Errno::kInval);
}

TEST_CASE("walk: openat2 keeps inside") {
  Tree t;
  REQUIRE(t.mkdir("/jail") == Errno::kOk);
  REQUIRE(t.mkdir("/jail/d") == Errno::kOk);
  REQUIRE(t.write_file("/jail/f", "") == Errno::kOk);
  REQUIRE(t.write_file("/f", "") == Errno::kOk);
  REQUIRE(t.symlink("/f", "/jail/abs") == Errno::kOk);
  REQUIRE(t.symlink("../f", "/jail/out") == Errno::kOk);
  REQUIRE(t.symlink("f", "/jail/in") == Errno::kOk);
  const Path jail = t.place("/jail").take();
  const auto resolve = [&](std::string_view path, uint64_t flags) {
    return walk(t.caller, jail, path, {.resolve = flags});
  };
  const auto name = [&](std::string_view path, uint64_t flags) {
    return path_of(*t.mounts, t.fs_context->root(), resolve(path, flags).take());
  };
  CHECK(resolve("/f", RESOLVE_BENEATH).error() == Errno::kXDev);
  CHECK(resolve("..", RESOLVE_BENEATH).error() == Errno::kXDev);
  CHECK(resolve("d/../..", RESOLVE_BENEATH).error() == Errno::kXDev);
  CHECK(resolve("abs", RESOLVE_BENEATH).error() == Errno::kXDev);
  CHECK(resolve("out", RESOLVE_BENEATH).error() == Errno::kXDev);
  CHECK(name("d/../in", RESOLVE_BENEATH) == "/jail/f");
  CHECK(name("/f", RESOLVE_IN_ROOT) == "/jail/f");
  CHECK(name("abs", RESOLVE_IN_ROOT) == "/jail/f");
  CHECK(name("../../f", RESOLVE_IN_ROOT) == "/jail/f");
  CHECK(resolve("in", RESOLVE_NO_SYMLINKS).error() == Errno::kLoop);
  CHECK(resolve("f", RESOLVE_NO_SYMLINKS).ok());
}

TEST_CASE("walk: what the profile withholds is reported") {
  Tree t;
  auto skeleton = Mount::create(
      {.file_system = t.file_system, .flags = MountFlags::kReportMissing | MountFlags::kReadOnly});
  REQUIRE(t.mkdir("/m") == Errno::kOk);
  REQUIRE(t.mounts->attach(skeleton, t.place("/m").take()).ok());
  CHECK(t.place("/m/secret").error() == Errno::kNoEnt);
  REQUIRE(t.denials.seen.size() == 1);
  CHECK(t.denials.seen[0].first == Denial::Kind::kNotGranted);
  CHECK(t.denials.seen[0].second == "/m/secret");
  CHECK(t.mkdir("/m/new") == Errno::kRoFs);
  REQUIRE(t.denials.seen.size() == 2);
  CHECK(t.denials.seen[1].first == Denial::Kind::kReadOnly);
  CHECK(t.denials.seen[1].second == "/m/new");
  CHECK(t.place("/nothing").error() == Errno::kNoEnt);
  CHECK(t.denials.seen.size() == 2);
  CHECK(t.mkdir("/m/secret/a//b/") == Errno::kNoEnt);
  REQUIRE(t.denials.seen.size() == 3);
  CHECK(t.denials.seen[2].first == Denial::Kind::kNotGranted);
  CHECK(t.denials.seen[2].second == "/m/secret/a//b");
  CHECK(t.denials.directories == std::vector<std::string>{"", "/m", "/m/secret"});
}

TEST_CASE("path_of: chroot, removed directories") {
  Tree t;
  REQUIRE(t.mkdir("/a") == Errno::kOk);
  REQUIRE(t.mkdir("/a/b") == Errno::kOk);
  const Path b = t.place("/a/b").take();
  CHECK(path_of(*t.mounts, t.place("/a").take(), b) == "/b");
  bool reachable = true;
  CHECK(path_of(*t.mounts, b, t.place("/a").take(), &reachable) == "/a");
  CHECK(!reachable);
  REQUIRE(change_directory(t.caller, b).ok());
  CHECK(current_directory(t.caller).take() == "/a/b");
  REQUIRE(remove_directory(t.caller, t.at("/a/b")).ok());
  CHECK(current_directory(t.caller).error() == Errno::kNoEnt);
  CHECK(path_of(*t.mounts, t.fs_context->root(), b) == "/a/b (deleted)");
  CHECK(t.mkdir("x") == Errno::kNoEnt);
  CHECK(t.open("x", O_CREAT | O_WRONLY).error() == Errno::kNoEnt);
  CHECK(t.place("..").ok());
}

TEST_CASE("walk: directories as deep as one likes are given back without recursion") {
  Tree t;
  for (int i = 0; i < 20'000; i++) {
    REQUIRE(t.mkdir("d") == Errno::kOk);
    const Path next = t.place("d").take();
    t.fs_context->set_cwd(next);
  }
  t.fs_context->set_cwd(t.mounts->root());
  t.file_system->dentries().clear();
  CHECK(t.file_system->dentries().cached() == 0);
}

}  // namespace
}  // namespace boxrun::vfs
