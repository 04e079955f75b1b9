#include "sentry/vfs/operations.h"

#include <linux/fs.h>

#include "sentry/vfs/dentry.h"
#include "tests/unit/test.h"
#include "tests/unit/vfs_fixture.h"

namespace boxrun::vfs {
namespace {

using testing::Tree;

TEST_CASE("open: creation flags") {
  Tree t;
  CHECK(t.open("/f", O_WRONLY).error() == Errno::kNoEnt);
  CHECK(t.write_file("/f", "hello") == Errno::kOk);
  CHECK(t.read_file("/f").take() == "hello");
  CHECK(t.stat("/f").take().mode == 0644);
  CHECK(t.open("/f", O_WRONLY | O_CREAT | O_EXCL).error() == Errno::kExist);
  CHECK(t.open("/f", O_RDONLY | O_TRUNC).ok());
  CHECK(t.stat("/f").take().size == 0);
  CHECK(t.open("/f/", O_RDONLY).error() == Errno::kNotDir);
  CHECK(t.open("/new/", O_WRONLY | O_CREAT).error() == Errno::kIsDir);
  REQUIRE(t.mkdir("/d") == Errno::kOk);
  CHECK(t.open("/d", O_RDONLY).ok());
  CHECK(t.open("/d", O_WRONLY).error() == Errno::kIsDir);
  CHECK(t.open("/d", O_RDONLY | O_CREAT).error() == Errno::kIsDir);
  CHECK(t.open("/f", O_RDONLY | O_DIRECTORY).error() == Errno::kNotDir);
  CHECK(check_open_flags({O_CREAT | O_DIRECTORY | O_RDWR, 0600, 0}, false).error() ==
        Errno::kInval);
  CHECK(check_open_flags({O_RDONLY, 0600, 0}, true).error() == Errno::kInval);
  CHECK(check_open_flags({O_PATH | O_RDWR, 0, 0}, true).error() == Errno::kInval);
  CHECK(check_open_flags({O_TMPFILE | O_RDONLY, 0600, 0}, false).error() == Errno::kInval);
}

TEST_CASE("open: a created file may be written whatever its mode says") {
  Tree t(testing::user(1000));
  t.become(testing::root_user());
  REQUIRE(t.mkdir("/home", 0777) == Errno::kOk);
  REQUIRE(change_mode(t.caller, t.place("/home").take(), 0777).ok());
  t.become(testing::user(1000));
  CHECK(t.write_file("/home/f", "x", 0400) == Errno::kOk);
  CHECK(t.open("/home/f", O_WRONLY).error() == Errno::kAcces);
  CHECK(t.stat("/home/f").take().uid == 1000);
  CHECK(t.open("/top", O_WRONLY | O_CREAT).error() == Errno::kAcces);
}

TEST_CASE("open: symlinks at the end") {
  Tree t;
  REQUIRE(t.symlink("target", "/link") == Errno::kOk);
  CHECK(t.open("/link", O_RDONLY).error() == Errno::kNoEnt);
  CHECK(t.open("/link", O_RDWR | O_CREAT | O_EXCL).error() == Errno::kExist);
  CHECK(t.open("/link", O_RDWR | O_CREAT | O_NOFOLLOW).error() == Errno::kLoop);
  CHECK(t.open("/link", O_RDWR | O_CREAT).ok());  // creates what the link stands for
  CHECK(t.stat("/target").take().type == FileType::kRegular);
  CHECK(t.open("/link", O_RDONLY | O_NOFOLLOW).error() == Errno::kLoop);
  CHECK(t.open("/link", O_RDONLY | O_NOFOLLOW | O_DIRECTORY).error() == Errno::kNotDir);
  auto path_only = t.open("/link", O_PATH | O_NOFOLLOW).take();
  CHECK(path_only->inode().type() == FileType::kSymlink);
  std::byte b[1];
  IoBuffers to(std::span<std::byte>{b});
  CHECK(path_only->read(to).error() == Errno::kBadF);
  CHECK(read_link_at(t.caller, {path_only->path(), ""}).take() == "target");
  CHECK(read_link_at(t.caller, t.at("/target")).error() == Errno::kInval);
}

TEST_CASE("open: O_TMPFILE has no name until it is linked") {
  Tree t;
  REQUIRE(t.mkdir("/d") == Errno::kOk);
  auto file = t.open("/d", O_TMPFILE | O_RDWR, 0600).take();
  CHECK(file->attributes().take().nlink == 0);
  CHECK(path_of(*t.mounts, t.fs_context->root(), file->path()).starts_with("/d/#"));
  CHECK(link_at(t.caller, {file->path(), ""}, t.at("/d/named"), AT_EMPTY_PATH).ok());
  CHECK(t.stat("/d/named").take().nlink == 1);
  auto exclusive = t.open("/d", O_TMPFILE | O_RDWR | O_EXCL, 0600).take();
  CHECK(link_at(t.caller, {exclusive->path(), ""}, t.at("/d/n2"), AT_EMPTY_PATH).error() ==
        Errno::kNoEnt);
  CHECK(t.open("/d/named", O_TMPFILE | O_RDWR).error() == Errno::kNotDir);
}

TEST_CASE("mkdir, mknod, symlink, link: existing names and trailing slashes") {
  Tree t;
  CHECK(t.mkdir("/d/") == Errno::kOk);
  CHECK(t.mkdir("/d") == Errno::kExist);
  CHECK(t.mkdir("/") == Errno::kExist);
  CHECK(t.mkdir("/d/.") == Errno::kExist);
  CHECK(t.mkdir("/no/d") == Errno::kNoEnt);
  CHECK(t.symlink("x", "/s/") == Errno::kNoEnt);
  CHECK(t.symlink("", "/s") == Errno::kNoEnt);
  CHECK(t.write_file("/f", "") == Errno::kOk);
  CHECK(link_at(t.caller, t.at("/f"), t.at("/g"), 0).ok());
  CHECK(t.stat("/f").take().nlink == 2);
  CHECK(link_at(t.caller, t.at("/f"), t.at("/g"), 0).error() == Errno::kExist);
  CHECK(link_at(t.caller, t.at("/d"), t.at("/h"), 0).error() == Errno::kPerm);
  CHECK(make_node(t.caller, t.at("/p"), FileType::kFifo, 0644, 0).ok());
  CHECK(t.stat("/p").take().type == FileType::kFifo);
  CHECK(t.open("/p", O_RDONLY).error() == Errno::kNxIo);  // no SpecialFiles here
  t.become(testing::user(0));
  CHECK(make_node(t.caller, t.at("/dev"), FileType::kCharDevice, 0644, 0x103).error() ==
        Errno::kPerm);
}

TEST_CASE("unlink and rmdir") {
  Tree t;
  REQUIRE(t.mkdir("/d") == Errno::kOk);
  REQUIRE(t.write_file("/d/f", "data") == Errno::kOk);
  CHECK(unlink_file(t.caller, t.at("/d")).error() == Errno::kIsDir);
  CHECK(unlink_file(t.caller, t.at("/d/f/")).error() == Errno::kNotDir);
  CHECK(remove_directory(t.caller, t.at("/d/f")).error() == Errno::kNotDir);
  CHECK(remove_directory(t.caller, t.at("/d")).error() == Errno::kNotEmpty);
  CHECK(remove_directory(t.caller, t.at("/d/.")).error() == Errno::kInval);
  CHECK(remove_directory(t.caller, t.at("/d/..")).error() == Errno::kNotEmpty);
  CHECK(remove_directory(t.caller, t.at("/")).error() == Errno::kBusy);
  auto open = t.open("/d/f", O_RDONLY).take();
  CHECK(unlink_file(t.caller, t.at("/d/f")).ok());
  CHECK(t.stat("/d/f").error() == Errno::kNoEnt);
  CHECK(Tree::read_all(*open).take() == "data");
  CHECK(open->attributes().take().nlink == 0);
  CHECK(remove_directory(t.caller, t.at("/d/")).ok());
  CHECK(t.stat("/").take().nlink == 2);
}

TEST_CASE("sticky directories protect other people's files") {
  Tree t;
  REQUIRE(t.mkdir("/tmp", 0777) == Errno::kOk);
  REQUIRE(change_mode(t.caller, t.place("/tmp").take(), 01777).ok());
  t.become(testing::user(1000));
  REQUIRE(t.write_file("/tmp/mine", "") == Errno::kOk);
  t.become(testing::user(1001));
  CHECK(unlink_file(t.caller, t.at("/tmp/mine")).error() == Errno::kPerm);
  CHECK(rename_at(t.caller, t.at("/tmp/mine"), t.at("/tmp/x"), 0).error() == Errno::kPerm);
  t.become(testing::user(1000));
  CHECK(unlink_file(t.caller, t.at("/tmp/mine")).ok());
}

TEST_CASE("rename: files, directories, flags") {
  Tree t;
  REQUIRE(t.mkdir("/a") == Errno::kOk);
  REQUIRE(t.mkdir("/b") == Errno::kOk);
  REQUIRE(t.write_file("/a/f", "1") == Errno::kOk);
  REQUIRE(t.write_file("/b/g", "2") == Errno::kOk);
  const auto rename = [&](std::string_view from, std::string_view to, uint32_t flags = 0) {
    return rename_at(t.caller, t.at(from), t.at(to), flags).error();
  };
  CHECK(rename("/a/f", "/b/g", RENAME_NOREPLACE) == Errno::kExist);
  CHECK(rename("/a/f", "/b/g", RENAME_EXCHANGE) == Errno::kOk);
  CHECK(t.read_file("/b/g").take() == "1");
  CHECK(t.read_file("/a/f").take() == "2");
  CHECK(rename("/a/f", "/b/g") == Errno::kOk);
  CHECK(t.read_file("/b/g").take() == "2");
  CHECK(t.stat("/a/f").error() == Errno::kNoEnt);
  CHECK(rename("/b", "/b/sub") == Errno::kInval);
  CHECK(rename("/b/g", "/a/") == Errno::kNotDir);
  CHECK(rename("/b/g", "/a") == Errno::kIsDir);
  CHECK(rename("/a", "/b/g") == Errno::kNotDir);
  CHECK(rename("/a", "/b") == Errno::kNotEmpty);
  CHECK(rename("/b", "/a") == Errno::kOk);
  CHECK(t.stat("/").take().nlink == 3);
  CHECK(rename("/a/g", "/") == Errno::kBusy);
  CHECK(rename("/a/g", "/x", 8) == Errno::kInval);
  REQUIRE(t.mkdir("/a/deep") == Errno::kOk);
  CHECK(rename("/a/deep", "/a") == Errno::kNotEmpty);
  CHECK(rename("/a/deep", "/moved") == Errno::kOk);
  CHECK(t.name_of("/moved/..").take() == "/");
  CHECK(t.stat("/a").take().nlink == 2);
  CHECK(rename("/a/g", "/w", RENAME_WHITEOUT) == Errno::kOk);
  CHECK(t.stat("/a/g").take().type == FileType::kCharDevice);
  // Two names of one file: nothing happens.
  REQUIRE(link_at(t.caller, t.at("/w"), t.at("/w2"), 0).ok());
  CHECK(rename("/w", "/w2") == Errno::kOk);
  CHECK(t.stat("/w").ok());
}

TEST_CASE("names are cached, negative ones too, and follow changes") {
  Tree t;
  DentryCache& cache = t.file_system->dentries();
  CHECK(t.stat("/x").error() == Errno::kNoEnt);
  const Ref<Dentry> negative = cache.find(*t.mounts->root().dentry, "x");
  REQUIRE(negative);
  CHECK(!negative->inode());
  REQUIRE(t.write_file("/x", "1") == Errno::kOk);
  CHECK(t.stat("/x").ok());
  REQUIRE(unlink_file(t.caller, t.at("/x")).ok());
  const Ref<Dentry> gone = cache.find(*t.mounts->root().dentry, "x");
  REQUIRE(gone);
  CHECK(!gone->inode());
  REQUIRE(t.mkdir("/x") == Errno::kOk);
  CHECK(t.stat("/x").take().type == FileType::kDirectory);
}

TEST_CASE("chmod, chown and utimens obey owners") {
  Tree t;
  REQUIRE(t.write_file("/f", "") == Errno::kOk);
  const Path f = t.place("/f").take();
  REQUIRE(change_mode(t.caller, f, 06755).ok());
  CHECK(change_owner(t.caller, f, 1000, 1000).ok());
  CHECK(t.stat("/f").take().mode == 0755);  // chown drops setuid and setgid
  t.become(testing::user(1000, {5}));
  CHECK(change_owner(t.caller, f, 0, static_cast<gid_t>(-1)).error() == Errno::kPerm);
  CHECK(change_owner(t.caller, f, static_cast<uid_t>(-1), 5).ok());
  CHECK(change_owner(t.caller, f, static_cast<uid_t>(-1), 6).error() == Errno::kPerm);
  CHECK(change_times(t.caller, f, {TimeChange{.value = 5}, TimeChange{.value = 6}}).ok());
  CHECK(t.stat("/f").take().mtime == 6);
  t.become(testing::user(1001));
  CHECK(change_mode(t.caller, f, 0777).error() == Errno::kPerm);
  CHECK(change_times(t.caller, f, {TimeChange{.value = 5}, {}}).error() == Errno::kPerm);
  CHECK(change_times(t.caller, f, {TimeChange{.now = true}, TimeChange{.now = true}}).error() ==
        Errno::kAcces);
  CHECK(change_times(t.caller, f, {}).ok());
  t.become(testing::root_user());
  REQUIRE(change_mode(t.caller, f, 0666).ok());
  t.become(testing::user(1001));
  CHECK(change_times(t.caller, f, {TimeChange{.now = true}, TimeChange{.now = true}}).ok());
  CHECK(t.stat("/f").take().mtime == t.clock.now);
}

TEST_CASE("access asks for the real user, truncate for permission") {
  Tree t;
  REQUIRE(t.write_file("/f", "abc", 0600) == Errno::kOk);
  Ref<Credentials> setuid = testing::root_user()->clone();
  setuid->ruid = setuid->rgid = 1000;
  t.become(setuid);
  CHECK(access_at(t.caller, t.at("/f"), kMayRead, 0).error() == Errno::kAcces);
  CHECK(access_at(t.caller, t.at("/f"), kMayRead, AT_EACCESS).ok());
  CHECK(access_at(t.caller, t.at("/f"), 0, 0).ok());
  CHECK(access_at(t.caller, t.at("/f"), 8, 0).error() == Errno::kInval);
  CHECK(truncate_place(t.caller, t.place("/f").take(), 1).ok());
  CHECK(t.read_file("/f").take() == "a");
  t.caller.file_size_limit = 10;
  CHECK(truncate_place(t.caller, t.place("/f").take(), 11).error() == Errno::kFBig);
  t.become(testing::user(1000));
  CHECK(truncate_place(t.caller, t.place("/f").take(), 1).error() == Errno::kAcces);
  CHECK(truncate_place(t.caller, t.place("/").take(), 1).error() == Errno::kIsDir);
}

TEST_CASE("setgid directories hand down their group") {
  Tree t;
  REQUIRE(t.mkdir("/g", 0777) == Errno::kOk);
  const Path g = t.place("/g").take();
  REQUIRE(change_owner(t.caller, g, 0, 50).ok());
  REQUIRE(change_mode(t.caller, g, 02777).ok());
  t.become(testing::user(1000));
  REQUIRE(t.mkdir("/g/sub") == Errno::kOk);
  CHECK(t.stat("/g/sub").take().gid == 50);
  CHECK(t.stat("/g/sub").take().mode == 02755);
  // No setgid executables for those outside the group.
  REQUIRE(t.write_file("/g/x", "", 02777) == Errno::kOk);
  CHECK(t.stat("/g/x").take().mode == 0755);
}

TEST_CASE("extended attributes by namespace") {
  Tree t;
  REQUIRE(t.write_file("/f", "", 0644) == Errno::kOk);
  REQUIRE(t.symlink("f", "/s") == Errno::kOk);
  const Path f = t.place("/f").take();
  const Path s = t.place("/s", Follow::kNo).take();
  CHECK(set_xattr(t.caller, f, "user.a", "1", XattrCreate::kMustReplace).error() == Errno::kNoData);
  CHECK(set_xattr(t.caller, f, "user.a", "1", XattrCreate::kAny).ok());
  CHECK(set_xattr(t.caller, f, "user.a", "1", XattrCreate::kMustCreate).error() == Errno::kExist);
  CHECK(set_xattr(t.caller, f, "trusted.t", "2", XattrCreate::kAny).ok());
  CHECK(set_xattr(t.caller, f, "nonsense.t", "2", XattrCreate::kAny).error() == Errno::kOpNotSupp);
  CHECK(set_xattr(t.caller, s, "user.a", "1", XattrCreate::kAny).error() == Errno::kPerm);
  CHECK(get_xattr(t.caller, f, "user.a").take() == "1");
  CHECK(list_xattr(t.caller, f).take().size() == 2);
  t.become(testing::user(1000));
  CHECK(list_xattr(t.caller, f).take() == std::vector<std::string>{"user.a"});
  CHECK(get_xattr(t.caller, f, "trusted.t").error() == Errno::kNoData);
  CHECK(set_xattr(t.caller, f, "user.b", "1", XattrCreate::kAny).error() == Errno::kAcces);
  CHECK(remove_xattr(t.caller, f, "security.x").error() == Errno::kPerm);
}

}  // namespace
}  // namespace boxrun::vfs
