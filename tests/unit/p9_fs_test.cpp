#include "sentry/fs/p9_fs.h"

#include <sys/mman.h>

#include <set>

#include "tests/unit/p9_guest.h"
#include "tests/unit/test.h"

using namespace boxrun;
using boxrun::fs::testing::Guest;
using boxrun::fs::testing::LosingChannel;
using boxrun::gofer::MountAccess;
using boxrun::gofer::TempTree;

namespace {

class Names final : public vfs::DirectorySink {
 public:
  bool add(const Entry& entry) override {
    names.insert(std::string(entry.name));
    return true;
  }
  std::set<std::string> names;
};

IoBuffers bytes(std::string_view text) { return IoBuffers(std::as_bytes(std::span(text))); }

}  // namespace

TEST_CASE("exclusive: cold open 1 round trip, read, write, warm open and stat 0") {
  TempTree tree;
  tree.dir("a/b/c");
  tree.file("a/b/c/f", "hello");
  Guest guest(tree);
  Ref<vfs::FileDescription> file;
  CHECK(guest.trips([&] { file = guest.open("/a/b/c/f", O_RDWR).take(); }) == 1);
  CHECK(guest.trips([&] {
    std::array<std::byte, 8> data;
    IoBuffers to{std::span<std::byte>(data)};
    CHECK(file->read(to).value_or(0) == 5);
    IoBuffers from = bytes(" world");
    CHECK(file->write(from, {}).value_or(0) == 6);
    CHECK(file->seek(0, SEEK_END).value_or(0) == 11);
    CHECK(file->attributes().take().size == 11);
    CHECK(guest.stat("/a/b/c/f").take().size == 11);
    CHECK(guest.stat("/a/b").ok());
    Ref<vfs::FileDescription> again = guest.open("/a/b/c/f", O_RDONLY).take();
    CHECK(again->truncate(3).error() == Errno::kInval);
    CHECK(file->truncate(3).ok());
  }) == 0);
  CHECK(tree.text("a/b/c/f") == "hel");
  file = nullptr;
  CHECK(guest.stat("/a/b/c/f").take().size == 3);
}

TEST_CASE("exclusive: what is not there is asked for once") {
  TempTree tree;
  tree.dir("d");
  Guest guest(tree);
  CHECK(guest.trips([&] { CHECK(guest.stat("/d/none").error() == Errno::kNoEnt); }) == 1);
  CHECK(guest.trips([&] { CHECK(guest.stat("/d/none").error() == Errno::kNoEnt); }) == 0);
}

TEST_CASE("a symbolic link costs one round trip more") {
  TempTree tree;
  tree.dir("real/dir");
  tree.file("real/dir/f", "x");
  tree.symlink("real/dir", "link");
  Guest guest(tree);
  CHECK(guest.trips([&] { CHECK(guest.read("/link/f").value_or("") == "x"); }) == 2);
  CHECK(guest.trips([&] { CHECK(guest.read("/link/f").value_or("") == "x"); }) == 0);
}

TEST_CASE("read-only: after a few misses the names of a directory are known") {
  TempTree tree;
  tree.dir("lib/sub");
  for (int i = 0; i < 20; i++) tree.file("lib/f" + std::to_string(i), "data");
  tree.file("lib/sub/deep", "deep");
  Guest guest(tree, fs::P9Cache::kExclusive, MountAccess::kReadOnly);
  for (int i = 0; i < 4; i++) {
    CHECK(guest.trips([&] {
      CHECK(guest.stat("/lib/none" + std::to_string(i)).error() == Errno::kNoEnt);
    }) <= 1);
  }
  CHECK(guest.trips([&] { CHECK(guest.stat("/lib/other").error() == Errno::kNoEnt); }) == 0);
  CHECK(guest.trips([&] { CHECK(guest.stat("/lib/f7").take().size == 4); }) == 1);
  // Opening one of them, and what is below a listed directory, is one round trip.
  CHECK(guest.trips([&] { CHECK(guest.read("/lib/f8").value_or("") == "data"); }) == 1);
  CHECK(guest.trips([&] { CHECK(guest.read("/lib/sub/deep").value_or("") == "deep"); }) == 1);
  Names names;
  CHECK(guest.trips(
            [&] { CHECK(guest.open("/lib", O_RDONLY).take()->read_directory(names).ok()); }) == 0);
  CHECK(names.names.size() == 23);
}

TEST_CASE("read-only: after many files of a directory all of them are known") {
  TempTree tree;
  tree.dir("lib/sub");
  for (int i = 0; i < 60; i++) tree.file("lib/f" + std::to_string(i), "data");
  Guest guest(tree, fs::P9Cache::kExclusive, MountAccess::kReadOnly);
  Names names;
  CHECK(guest.open("/lib", O_RDONLY).take()->read_directory(names).ok());
  // A quarter of 61.
  CHECK(guest.trips([&] {
    for (int i = 0; i < 15; i++) CHECK(guest.stat("/lib/f" + std::to_string(i)).ok());
  }) == 15);
  CHECK(guest.trips([&] {
    for (int i = 15; i < 60; i++) CHECK(guest.stat("/lib/f" + std::to_string(i)).take().size == 4);
    CHECK(guest.stat("/lib/sub").ok());
    CHECK(guest.stat("/lib/none").error() == Errno::kNoEnt);
  }) == 0);
  Names again;
  CHECK(guest.trips(
            [&] { CHECK(guest.open("/lib", O_RDONLY).take()->read_directory(again).ok()); }) == 0);
  CHECK(again.names == names.names);
}

TEST_CASE("shared: the host's changes are seen by the next path walk") {
  TempTree tree;
  tree.dir("w");
  tree.file("w/f", "one");
  Guest guest(tree, fs::P9Cache::kShared);
  CHECK(guest.read("/w/f").value_or("") == "one");
  CHECK(guest.stat("/w/new").error() == Errno::kNoEnt);
  tree.file("w/new", "made by the host");
  tree.file("w/f", "longer than before");
  CHECK(guest.stat("/w/new").take().size == 16);
  CHECK(guest.stat("/w/f").take().size == 18);
  CHECK(guest.trips([&] { CHECK(guest.read("/w/f").value_or("") == "longer than before"); }) == 1);
  std::filesystem::remove(tree.path("w/f"));
  CHECK(guest.stat("/w/f").error() == Errno::kNoEnt);
  std::filesystem::create_directory(tree.path("w/f"));
  CHECK(guest.stat("/w/f").take().type == vfs::FileType::kDirectory);
}

TEST_CASE("changes of the guest reach the host") {
  TempTree tree;
  Guest guest(tree, fs::P9Cache::kShared);
  CHECK(vfs::make_directory(guest.caller, guest.at("/d"), 0750).ok());
  Ref<vfs::FileDescription> file = guest.open("/d/f", O_CREAT | O_WRONLY, 0640).take();
  IoBuffers from = bytes("text");
  CHECK(file->write(from, {}).value_or(0) == 4);
  CHECK(tree.text("d/f") == "text");
  IoBuffers more = bytes(" appended");
  CHECK(file->pwrite(more, 0, {.append = true}).value_or(0) == 9);
  CHECK(tree.text("d/f") == "text appended");
  struct stat st;
  REQUIRE(::stat(tree.path("d/f").c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0640);
  CHECK(vfs::make_symlink(guest.caller, guest.at("/d/l"), "f").ok());
  CHECK(guest.read("/d/l").value_or("") == "text appended");
  CHECK(vfs::rename_at(guest.caller, guest.at("/d/f"), guest.at("/g"), 0).ok());
  CHECK_FALSE(tree.exists("d/f"));
  CHECK(tree.text("g") == "text appended");
  CHECK(guest.stat("/g").take().size == 13);
  CHECK(vfs::unlink_file(guest.caller, guest.at("/g")).ok());
  CHECK_FALSE(tree.exists("g"));
  // The open file is still there.
  CHECK(file->attributes().take().nlink == 0);
}

TEST_CASE("owners without a number are shown as root, users and groups apart") {
  TempTree tree;
  tree.file("f", "x");
  struct stat st;
  REQUIRE(stat(tree.path("f").c_str(), &st) == 0);
  const auto owners = [&](std::optional<uid_t> uid, std::optional<gid_t> gid) {
    Guest guest(tree, fs::P9Cache::kExclusive, MountAccess::kReadWrite, {}, 256, false,
                {.unmapped_uid = uid, .unmapped_gid = gid});
    const vfs::Attributes a = guest.stat("/f").take();
    return std::pair(a.uid, a.gid);
  };
  if (getuid() == 0) {
    // Somebody whom root's own number cannot be taken for.
    REQUIRE(chown(tree.path("f").c_str(), 65534, 65534) == 0);
    st.st_uid = st.st_gid = 65534;
  }
  CHECK(owners({}, {}) == std::pair(st.st_uid, st.st_gid));
  CHECK(owners(st.st_uid, {}) == std::pair(uid_t{0}, st.st_gid));
  CHECK(owners({}, st.st_gid) == std::pair(st.st_uid, gid_t{0}));
}

TEST_CASE("hidden names are missing, and reported") {
  TempTree tree;
  tree.dir("home/.ssh");
  tree.file("home/.ssh/id", "secret");
  Guest guest(tree, fs::P9Cache::kExclusive, MountAccess::kReadOnly, {"**/.ssh"});
  CHECK(guest.read("/home/.ssh/id").error() == Errno::kNoEnt);
  REQUIRE(guest.denials.seen.size() == 1);
  CHECK(guest.denials.seen[0].first == vfs::Denial::Kind::kHidden);
  CHECK(guest.denials.seen[0].second == "/home/.ssh");
  Names names;
  CHECK(guest.open("/home", O_RDONLY).take()->read_directory(names).ok());
  CHECK(names.names == std::set<std::string>{".", ".."});
}

TEST_CASE("mappings get the donated descriptor") {
  TempTree tree;
  tree.file("f", std::string(5000, 'm'));
  Guest guest(tree);
  Ref<vfs::FileDescription> reader = guest.open("/f", O_RDONLY).take();
  Ref<mm::PageSource> pages = reader->map().take();
  CHECK(pages->size() == 5000);
  void* mapped = mmap(nullptr, 5000, PROT_READ, MAP_SHARED, pages->host_fd(false), 0);
  REQUIRE(mapped != MAP_FAILED);
  CHECK(static_cast<char*>(mapped)[4999] == 'm');
  munmap(mapped, 5000);
  // The same file has the same source, which futexes and msync rely on.
  Ref<vfs::FileDescription> writer = guest.open("/f", O_RDWR).take();
  CHECK(writer->map().take() == pages);
  CHECK(pages->host_fd(true) >= 0);
}

TEST_CASE("descriptors that are only kept are bounded") {
  TempTree tree;
  for (int i = 0; i < 50; i++) tree.file("f" + std::to_string(i), "x");
  Guest guest(tree, fs::P9Cache::kExclusive, MountAccess::kReadOnly, {}, 8);
  const auto open_now = [] {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
      count++;
    return count;
  };
  // Of one's own, and of the Gofer's thread in this process: at most 8 and 50.
  const size_t before = open_now();
  for (int i = 0; i < 50; i++) CHECK(guest.read("/f" + std::to_string(i)).value_or("") == "x");
  CHECK(open_now() <= before + 8 + 50 + 8);  // and a few on their way
  CHECK(guest.trips([&] { CHECK(guest.read("/f49").value_or("") == "x"); }) == 0);
  CHECK(guest.trips([&] { CHECK(guest.read("/f3").value_or("") == "x"); }) == 1);
}

TEST_CASE("without room for a descriptor opens fail, after what is only kept made room") {
  TempTree tree;
  for (int i = 0; i < 8; i++) tree.file("f" + std::to_string(i), "x");
  Guest guest(tree);
  const auto read = [&](int i) { return guest.read("/f" + std::to_string(i)); };
  for (int i = 0; i < 4; i++) CHECK(read(i).ok());
  LosingChannel::to_lose = 1;
  CHECK(guest.trips([&] { CHECK(read(4).value_or("") == "x"); }) == 2);
  CHECK(guest.trips([&] { CHECK(read(0).value_or("") == "x"); }) == 1);  // no longer kept
  LosingChannel::to_lose = 2;
  CHECK(read(5).error() == Errno::kNFile);
  CHECK(read(5).value_or("") == "x");
  // A new file is there, and is opened once more.
  LosingChannel::to_lose = 1;
  CHECK(guest.open("/new", O_RDWR | O_CREAT | O_EXCL).ok());
  CHECK(read(6).value_or("") == "x");
}

TEST_CASE("when the Gofer is gone, what is open works and the rest is EIO") {
  TempTree tree;
  tree.file("f", "still");
  tree.file("g", "");
  Guest guest(tree);
  Ref<vfs::FileDescription> file = guest.open("/f", O_RDONLY).take();
  guest.served.stop();
  std::array<std::byte, 8> data;
  IoBuffers to{std::span<std::byte>(data)};
  CHECK(file->read(to).value_or(0) == 5);
  CHECK(guest.stat("/g").error() == Errno::kIo);
  CHECK(guest.open("/g", O_RDONLY).error() == Errno::kIo);
}
