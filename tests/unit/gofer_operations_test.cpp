// Everything a well-behaved client does, over a real tree, in both dialects.
#include <sys/xattr.h>

#include <cstring>
#include <set>

#include "tests/unit/gofer_fixture.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::gofer;

namespace {

uint32_t last(const WalkReply& reply) { return reply.steps.back().fid.number(); }
Data bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
mode_t mode_of(const std::string& path) {
  struct stat st {};
  lstat(path.c_str(), &st);
  return st.st_mode;
}
constexpr Dialect kBoth[] = {Dialect::kBoxrun, Dialect::kPlain};

}  // namespace

TEST_CASE("make, link, rename and remove names") {
  for (const Dialect dialect : kBoth) {
    TempTree tree;
    Served served(tree.path(), {.dialect = dialect});
    Client& client = *served.client;
    RemoteFile dir = client.mkdir(served.root(), "d", 0750, {}).take();
    CHECK(mode_of(tree.path("d")) == (S_IFDIR | 0750));
    CHECK(S_ISDIR(dir.attr.mode));
    CHECK(client.mkdir(served.root(), "d", 0755, {}).error() == Errno::kExist);
    Client::Created file =
        client.create(dir.fid.number(), "f", O_RDWR | O_CREAT | O_EXCL, 0640, {}).take();
    CHECK(mode_of(tree.path("d/f")) == (S_IFREG | 0640));
    CHECK(file.found.attr.size == 0);
    CHECK(client.create(dir.fid.number(), "f", O_RDWR | O_EXCL, 0640, {}).error() == Errno::kExist);
    CHECK(client.create(dir.fid.number(), "f", O_RDWR, 0640, {}).ok());
    RemoteFile link = client.symlink(dir.fid.number(), "l", "no/where", {}).take();
    CHECK(std::filesystem::read_symlink(tree.path("d/l")) == "no/where");
    CHECK(client.readlink(link.fid.number()).value_or("") == "no/where");
    CHECK(client.readlink(dir.fid.number()).error() == Errno::kInval);
    CHECK(client.mknod(dir.fid.number(), "p", S_IFIFO | 0600, 0, {}).ok());
    CHECK(mode_of(tree.path("d/p")) == (S_IFIFO | 0600));
    CHECK(client.link(served.root(), file.found.fid.number(), "hard").ok());
    CHECK(client.stat(file.found.fid.number()).take().attr.nlink == 2);
    CHECK(client.link(served.root(), dir.fid.number(), "no").error() == Errno::kPerm);
    CHECK(client.rename(dir.fid.number(), "f", served.root(), "g", 0).ok());
    CHECK(tree.exists("g"));
    CHECK_FALSE(tree.exists("d/f"));
    CHECK(client.unlink(served.root(), "d", AT_REMOVEDIR).error() == Errno::kNotEmpty);
    CHECK(client.unlink(dir.fid.number(), "l", 0).ok());
    CHECK(client.unlink(dir.fid.number(), "p", 0).ok());
    CHECK(client.unlink(served.root(), "d", AT_REMOVEDIR).ok());
    CHECK_FALSE(tree.exists("d"));
    // A removed file and a removed directory can still be looked at.
    CHECK(client.unlink(served.root(), "g", 0).ok());
    CHECK(client.unlink(served.root(), "hard", 0).ok());
    CHECK(client.stat(file.found.fid.number()).take().attr.nlink == 0);
    CHECK(client.stat(dir.fid.number()).ok());
    CHECK(client.unlink(served.root(), "none", 0).error() == Errno::kNoEnt);
  }
}

TEST_CASE("the flags of renameat2") {
  TempTree tree;
  tree.file("a", "A");
  tree.file("b", "B");
  Served served(tree.path());
  WalkReply a = served.walk("a");
  CHECK(served.client->rename(served.root(), "a", served.root(), "b", RENAME_NOREPLACE).error() ==
        Errno::kExist);
  CHECK(served.client->rename(served.root(), "a", served.root(), "b", RENAME_EXCHANGE).ok());
  CHECK(tree.text("a") == "B");
  CHECK(tree.text("b") == "A");
  // The fid went along.
  RemoteOpen opened = served.client->open(last(a), O_RDONLY).take();
  char text = 0;
  CHECK(pread(opened.file.get(), &text, 1, 0) == 1);
  CHECK(text == 'A');
  CHECK(served.client->rename(served.root(), "a", served.root(), "b", RENAME_WHITEOUT).error() ==
        Errno::kInval);
}

TEST_CASE("attributes are set and come back") {
  for (const Dialect dialect : kBoth) {
    TempTree tree;
    tree.file("f", "0123456789");
    tree.dir("d");
    tree.symlink("f", "l");
    Served served(tree.path(), {.dialect = dialect});
    Client& client = *served.client;
    WalkReply f = served.walk("f");
    NewAttr change{
        .valid = kSetMode | kSetSize | kSetAtime | kSetAtimeValue | kSetMtime | kSetMtimeValue,
        .mode = 0604,
        .size = 4,
        .atime = {1000, 5},
        .mtime = {static_cast<uint64_t>(-2000), 7}};
    const Attr attr = client.set_attr(last(f), change).take();
    CHECK((attr.mode & 07777) == 0604);
    CHECK(attr.size == 4);
    CHECK(attr.atime == Time{1000, 5});
    CHECK(attr.mtime == Time{static_cast<uint64_t>(-2000), 7});
    const time_t now = time(nullptr);
    const Attr touched = client.set_attr(last(f), {.valid = kSetMtime}).take();
    CHECK(static_cast<time_t>(touched.mtime.sec) >= now - 5);
    CHECK(touched.atime == Time{1000, 5});
    CHECK(tree.text("f") == "0123");
    WalkReply d = served.walk("d");
    CHECK(client.set_attr(last(d), {.valid = kSetMode, .mode = 02770}).ok());
    CHECK(mode_of(tree.path("d")) == (S_IFDIR | 02770));
    CHECK(client.set_attr(last(d), {.valid = kSetSize}).error() == Errno::kIsDir);
    CHECK(client.set_attr(last(f), {.valid = 1u << 20}).error() == Errno::kInval);
    CHECK(client.set_attr(last(f), {.valid = kSetAtime | kSetAtimeValue, .atime = {0, 1000000000}})
              .error() == Errno::kInval);
    WalkReply l = served.walk("l");
    CHECK(client.set_attr(last(l), {.valid = kSetMode, .mode = 0600}).error() == Errno::kOpNotSupp);
    CHECK(mode_of(tree.path("f")) == (S_IFREG | 0604));
    if (getuid() != 0) continue;
    CHECK(client.set_attr(last(l), {.valid = kSetUid | kSetGid, .uid = 12, .gid = 13}).ok());
    struct stat st;
    REQUIRE(lstat(tree.path("l").c_str(), &st) == 0);
    CHECK(st.st_uid == 12);
    CHECK(st.st_gid == 13);
    REQUIRE(stat(tree.path("f").c_str(), &st) == 0);
    CHECK(st.st_uid == 0);
  }
}

TEST_CASE("extended attributes") {
  for (const Dialect dialect : kBoth) {
    TempTree tree;
    tree.file("f", "");
    tree.symlink("f", "l");
    if (setxattr(tree.path("f").c_str(), "user.probe", "x", 1, 0) < 0) {
      MESSAGE("the temporary file system has no extended attributes");
      return;
    }
    Served served(tree.path(), {.dialect = dialect});
    Client& client = *served.client;
    WalkReply f = served.walk("f");
    CHECK(client.set_xattr(last(f), "user.a", bytes("value"), 0).ok());
    const auto value = client.get_xattr(last(f), "user.a");
    REQUIRE(value.ok());
    CHECK(std::string_view(reinterpret_cast<const char*>(value->data()), value->size()) == "value");
    CHECK(client.set_xattr(last(f), "user.a", bytes("v"), XATTR_CREATE).error() == Errno::kExist);
    CHECK(client.set_xattr(last(f), "user.b", bytes("v"), XATTR_REPLACE).error() == Errno::kNoData);
    const std::string large(3000, 'z');
    CHECK(client.set_xattr(last(f), "user.large", bytes(large), 0).ok());
    CHECK(client.get_xattr(last(f), "user.large").take().size() == 3000);
    const auto list = client.get_xattr(last(f), "").take();
    const std::string names(reinterpret_cast<const char*>(list.data()), list.size());
    CHECK(names.find(std::string_view("user.a\0", 7)) != std::string::npos);
    CHECK(client.remove_xattr(last(f), "user.a").ok());
    CHECK(client.get_xattr(last(f), "user.a").error() == Errno::kNoData);
    CHECK(client.get_xattr(last(f), "trusted.a").error() == Errno::kOpNotSupp);
    CHECK(client.remove_xattr(last(f), "user.none").error() == Errno::kNoData);
    if (dialect == Dialect::kBoxrun) {
      CHECK(client.set_xattr(last(f), "user.empty", {}, 0).ok());
      CHECK(client.get_xattr(last(f), "user.empty").take().empty());
      const uint64_t before = client.round_trips();
      (void)client.get_xattr(last(f), "user.large");
      CHECK(client.set_xattr(last(f), "user.one", bytes("1"), 0).ok());
      CHECK(client.round_trips() == before + 2);
    }
    WalkReply l = served.walk("l");
    CHECK(client.get_xattr(last(l), "user.large").error() == Errno::kNoData);
    CHECK(client.set_xattr(last(l), "user.x", bytes("1"), 0).error() == Errno::kPerm);
    CHECK(client.get_xattr(last(l), "").take().empty());
  }
}

TEST_CASE("large directories are read to the end, in both dialects") {
  for (const Dialect dialect : kBoth) {
    TempTree tree;
    tree.dir("d");
    constexpr size_t kFiles = 3000;
    for (size_t i = 0; i < kFiles; i++) tree.file("d/some-longer-name-" + std::to_string(i), "");
    Served served(tree.path(), {.dialect = dialect});
    WalkReply d = served.walk("d");
    Client::OpenedDirectory opened = served.client->list(last(d), Listed::kAttributes).take();
    std::set<std::string> names;
    DirectoryPage page = std::move(opened.page);
    for (int guard = 0; guard < 1000; guard++) {
      for (const DirectoryEntry& entry : page.entries) CHECK(names.insert(entry.name).second);
      if (page.end || page.entries.empty()) break;
      page =
          served.client
              ->read_directory(opened.fid.number(), page.entries.back().offset, Listed::kAttributes)
              .take();
    }
    CHECK(names.size() == kFiles);
  }
}

TEST_CASE("locks of two fids are in each other's way") {
  TempTree tree;
  tree.file("f", "0123456789");
  Served served(tree.path(), {.dialect = Dialect::kPlain});
  Client& client = *served.client;
  WalkReply one = served.walk("f", O_RDWR), two = served.walk("f", O_RDWR);
  const uint32_t a = one.opened.fid.number(), b = two.opened.fid.number();
  CHECK(client.lock(a, LockType::kWrite, 0, 5).value_or(LockStatus::kError) ==
        LockStatus::kSuccess);
  CHECK(client.lock(b, LockType::kRead, 4, 1).value_or(LockStatus::kError) == LockStatus::kBlocked);
  CHECK(client.lock(b, LockType::kRead, 5, 0).value_or(LockStatus::kError) == LockStatus::kSuccess);
  CHECK(client.lock(a, LockType::kUnlock, 0, 0).value_or(LockStatus::kError) ==
        LockStatus::kSuccess);
  CHECK(client.lock(b, LockType::kWrite, 0, 0).value_or(LockStatus::kError) ==
        LockStatus::kSuccess);
}

TEST_CASE("unnamed files can be linked into the tree") {
  TempTree tree;
  Served served(tree.path());
  Result<Client::Created> made =
      served.client->create(served.root(), "", O_TMPFILE | O_RDWR, 0600, {});
  if (made.error() == Errno::kOpNotSupp) return;  // not every file system can
  REQUIRE(made.ok());
  CHECK(pwrite(made->opened.file.get(), "late", 4, 0) == 4);
  CHECK(served.client->link(served.root(), made->found.fid.number(), "named").ok());
  CHECK(tree.text("named") == "late");
  CHECK(served.client->create(served.root(), "x", O_TMPFILE | O_RDWR, 0600, {}).error() ==
        Errno::kInval);
  CHECK(served.client->create(served.root(), "", O_TMPFILE | O_RDONLY, 0600, {}).error() ==
        Errno::kInval);
}

TEST_CASE("deep paths take several packets, in order") {
  TempTree tree;
  std::string path;
  for (int i = 0; i < 130; i++) path += (i == 0 ? "d" : "/d");
  tree.dir(path);
  tree.file(path + "/f", "deep");
  Served served(tree.path());
  WalkReply reply = served.walk(path + "/f", O_RDONLY);
  CHECK(reply.steps.size() == 131);
  char text[4];
  CHECK(pread(reply.opened.file.get(), text, 4, 0) == 4);
}

TEST_CASE("clunks ride with the next packet") {
  TempTree tree;
  tree.file("f", "");
  Served served(tree.path(), {.limits = {.held = 100, .open = 100, .fids = 20}});
  for (int i = 0; i < 200; i++) {
    const uint64_t before = served.client->round_trips();
    REQUIRE(served.walk("f").failure.error == Errno::kOk);  // and dropped again
    CHECK(served.client->round_trips() == before + 1);
  }
}

TEST_CASE("statfs is the host's") {
  TempTree tree;
  for (const Dialect dialect : kBoth) {
    Served served(tree.path(), {.dialect = dialect});
    const Rstatfs st = served.client->statfs(served.root()).take();
    CHECK(st.bsize > 0);
    CHECK(st.blocks > 0);
    CHECK(st.namelen == 255);
  }
}

TEST_CASE("new files belong to whom the request names, where the Gofer may do that") {
  if (getuid() != 0) return;
  TempTree tree;
  std::filesystem::permissions(tree.path(), std::filesystem::perms::all);
  Served served(tree.path(), {.owners = Owners::kAsRequested});
  Client& client = *served.client;
  CHECK(client.mkdir(served.root(), "d", 0755, {1234, 2345}).ok());
  CHECK(client.create(served.root(), "f", O_RDWR, 0644, {1234, 2345}).ok());
  CHECK(client.symlink(served.root(), "l", "x", {1234, 2345}).ok());
  CHECK(client.create(served.root(), "r", O_RDWR, 0644, {0, 0}).ok());
  struct stat st;
  for (const char* name : {"d", "f", "l"}) {
    REQUIRE(lstat(tree.path(name).c_str(), &st) == 0);
    CHECK(st.st_uid == 1234);
    CHECK(st.st_gid == 2345);
  }
  REQUIRE(lstat(tree.path("r").c_str(), &st) == 0);
  CHECK(st.st_uid == 0);
}
