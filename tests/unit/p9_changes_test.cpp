// Shared mounts whose changes the Gofer tells of: nothing is asked twice, and nothing is missed.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <latch>
#include <thread>

#include "sentry/fs/overlay_fs.h"
#include "tests/unit/p9_guest.h"
#include "tests/unit/test.h"

using namespace boxrun;
using boxrun::gofer::MountAccess;
using boxrun::gofer::TempTree;

namespace {

class Watching : public fs::testing::Guest {
 public:
  explicit Watching(const TempTree& tree)
      : Guest(tree, fs::P9Cache::kShared, MountAccess::kReadWrite, {}, 256, true) {}
  // Until the directories on the way are watched.
  void warm(std::string_view path) {
    for (int i = 0; i < 12; i++) (void)stat(path);
  }
  Errno errno_of(std::string_view path) { return stat(path).error(); }
};

struct SmallTree : TempTree {
  SmallTree() {
    dir("d/e");
    file("d/e/f", "12345");
  }
};

// So many files that the Gofer keeps no descriptor of others when they have been looked at.
struct Crowd : SmallTree {
  Crowd() {
    dir("d/other");
    dir("crowd");
    for (int i = 0; i < kFiles; i++) file(name(i), "");
  }
  void crowd_out(fs::testing::Guest& guest) const {
    for (int i = 0; i < kFiles; i++) REQUIRE(guest.stat(name(i)).ok());
  }

 private:
  static constexpr int kFiles = 1100;  // more than ServedOptions::limits
  static std::string name(int i) { return "crowd/" + std::to_string(i); }
};

// A second guest, whose root is an overlay over the first one's.
struct Overlay {
  explicit Overlay(fs::testing::Guest& below)
      : overlay(fs::OverlayFs::create(
            5, below.p9, fs::TmpFs::create({.device = 6, .root_mode = 0755}, *memory, clock))),
        caller{*context, vfs::testing::root_user(), *mounts, below.special_files, &below.denials} {}

  vfs::At at(std::string_view path) const { return {context->cwd(), path}; }
  Result<uint64_t> size(std::string_view path) {
    begin_call();
    const vfs::Path place = TRY(vfs::walk(caller, context->cwd(), path, {}));
    if (!place.dentry->inode()) return Errno::kNoEnt;
    return TRY(place.dentry->inode()->attributes()).size;
  }
  Result<void> append(std::string_view path, std::string_view text, int more_flags = 0) {
    begin_call();
    const auto flags = TRY(vfs::check_open_flags({O_WRONLY | O_APPEND | more_flags, 0, 0}, false));
    const auto file = TRY(open_at(caller, at(path), flags));
    IoBuffers from(as_bytes_of(text.data(), text.size()));
    TRY(file->write(from, {}));
    return {};
  }

  vfs::testing::FakeClock clock;
  std::unique_ptr<mm::MemoryFile> memory =
      mm::MemoryFile::create(mm::MemoryFile::make_backing(-1).take(), 16 << 20).take();
  Ref<fs::OverlayFs> overlay;
  Ref<vfs::MountNamespace> mounts =
      vfs::MountNamespace::create(vfs::Mount::create({.file_system = overlay}));
  Ref<vfs::FsContext> context = make_ref<vfs::FsContext>(mounts->root(), mounts->root(), 022);
  vfs::Caller caller;
};

}  // namespace

TEST_CASE("nobody trusts anything while the bell is being stopped") {
  const UniqueFd event(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  UniqueFd bell(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event wanted{.events = EPOLLIN, .data = {}};
  REQUIRE(::epoll_ctl(bell.get(), EPOLL_CTL_ADD, event.get(), &wanted) == 0);
  fs::HostChanges changes(std::move(bell));
  using Collection = fs::HostChanges::Collection;
  const fs::HostChanges::Stamp before = changes.as_of();
  CHECK(!changes.nothing_since(before));  // it rings
  fs::HostChanges::Stamp during = 0;
  {
    const Collection collection(&changes);
    REQUIRE(collection.wanted());
    during = collection.stamp();
    CHECK(!Collection(&changes).wanted());
    CHECK(Collection(&changes).stamp() == fs::HostChanges::kNever);
    CHECK(changes.as_of() == fs::HostChanges::kNever);
    uint64_t count = 0;
    REQUIRE(::read(event.get(), &count, sizeof count) == sizeof count);
    CHECK(!changes.nothing_since(during));
  }
  CHECK(changes.nothing_since(during));
  CHECK(!changes.nothing_since(before));
  CHECK(changes.nothing_since(changes.as_of()));
  const fs::HostChanges::Stamp watched = changes.watched_from_now();
  CHECK(watched > during);
  CHECK(changes.as_of() >= watched);
  CHECK(!Collection(&changes).wanted());  // it is silent
}

TEST_CASE("warm names of a watched directory take no round trip") {
  const SmallTree tree;
  Watching guest(tree);
  for (const char* path : {"d/e/f", "d/e/missing", "d/e", "."}) guest.warm(path);
  CHECK(guest.trips([&] { CHECK(guest.stat("d/e/f")->size == 5); }) == 0);
  CHECK(guest.trips([&] { CHECK(guest.errno_of("d/e/missing") == Errno::kNoEnt); }) == 0);
  CHECK(guest.trips([&] { CHECK(guest.stat("d/e").ok()); }) == 0);
  CHECK(guest.trips([&] { CHECK(guest.stat(".").ok()); }) == 0);
  CHECK(*guest.read("d/e/f") == "12345");
  guest.warm("d/e/f");
  CHECK(guest.trips([&] { CHECK(*guest.read("d/e/f") == "12345"); }) == 0);
}

TEST_CASE("without watches every walk asks") {
  const SmallTree tree;
  fs::testing::Guest guest(tree, fs::P9Cache::kShared);
  for (int i = 0; i < 12; i++) CHECK(guest.stat("d/e/f").ok());
  CHECK(guest.trips([&] { CHECK(guest.stat("d/e/f").ok()); }) == 1);
}

TEST_CASE("a change on the host is seen by the next call") {
  const SmallTree tree;
  Watching guest(tree);
  const auto prepare = [&] {
    for (const char* path : {"d/e/f", "d/e/new", "d/e"}) guest.warm(path);
    CHECK(guest.trips([&] { CHECK(guest.stat("d/e/f").ok()); }) == 0);
    CHECK(guest.trips([&] { CHECK(guest.errno_of("d/e/new") == Errno::kNoEnt); }) == 0);
  };
  prepare();
  SUBCASE("of a size") {
    tree.file("d/e/f", "123456789");
    CHECK(guest.stat("d/e/f")->size == 9);
  }
  SUBCASE("of a size, by somebody who had the file open") {
    const UniqueFd file(::open(tree.path("d/e/f").c_str(), O_WRONLY | O_APPEND));
    guest.warm("d/e/f");
    REQUIRE(::write(file.get(), "678", 3) == 3);
    CHECK(guest.stat("d/e/f")->size == 8);
  }
  SUBCASE("of a mode") {
    REQUIRE(::chmod(tree.path("d/e/f").c_str(), 0400) == 0);
    CHECK(guest.stat("d/e/f")->mode == 0400);
  }
  SUBCASE("of times") {
    const timespec times[2] = {{1, 0}, {2, 0}};
    REQUIRE(::utimensat(AT_FDCWD, tree.path("d/e/f").c_str(), times, 0) == 0);
    CHECK(guest.stat("d/e/f")->mtime == 2 * kSecond);
  }
  SUBCASE("a new name") {
    tree.file("d/e/new", "1");
    CHECK(guest.stat("d/e/new")->size == 1);
  }
  SUBCASE("a name that is gone") {
    REQUIRE(::unlink(tree.path("d/e/f").c_str()) == 0);
    CHECK(guest.errno_of("d/e/f") == Errno::kNoEnt);
    CHECK(guest.open("d/e/f", O_RDONLY).error() == Errno::kNoEnt);
  }
  SUBCASE("another file in the place of one that is open") {
    CHECK(*guest.read("d/e/f") == "12345");
    tree.file("other", "67");
    std::filesystem::rename(tree.path("other"), tree.path("d/e/f"));
    CHECK(*guest.read("d/e/f") == "67");
  }
  SUBCASE("the times of a directory") {
    // Long ago: a change within a tick of the clock has the same time.
    const timespec times[2] = {{1, 0}, {2, 0}};
    REQUIRE(::utimensat(AT_FDCWD, tree.path("d/e").c_str(), times, 0) == 0);
    guest.warm("d/e");
    CHECK(guest.trips([&] { CHECK(guest.stat("d/e")->mtime == 2 * kSecond); }) == 0);
    tree.dir("d/e/sub");
    CHECK(guest.stat("d/e")->mtime > 2 * kSecond);
  }
  SUBCASE("a directory moved away on the way") {
    std::filesystem::rename(tree.path("d"), tree.path("c"));
    CHECK(guest.errno_of("d/e/f") == Errno::kNoEnt);
    CHECK(guest.stat("c/e/f")->size == 5);
  }
  SUBCASE("a symbolic link in place of a directory") {
    tree.dir("other");
    tree.file("other/f", "1");
    std::filesystem::rename(tree.path("d/e"), tree.path("d/was"));
    tree.symlink("../other", "d/e");
    CHECK(guest.stat("d/e/f")->size == 1);
  }
  SUBCASE("a directory removed and made again") {
    std::filesystem::remove_all(tree.path("d"));
    CHECK(guest.errno_of("d/e/f") == Errno::kNoEnt);
    tree.dir("d/e");
    tree.file("d/e/f", "1");
    CHECK(guest.stat("d/e/f")->size == 1);
    prepare();
    tree.file("d/e/f", "12");
    CHECK(guest.stat("d/e/f")->size == 2);
  }
  SUBCASE("a right to search that is taken away") {
    REQUIRE(::chmod(tree.path("d").c_str(), 0700) == 0);
    vfs::Caller other{*guest.fs_context, vfs::testing::user(12345), *guest.mounts,
                      guest.special_files, &guest.denials};
    CHECK(vfs::walk(other, guest.fs_context->cwd(), "d/e/f", {}).error() == Errno::kAcces);
  }
  // And what was seen is warm again.
  guest.warm("d/e/f");
  CHECK(guest.trips([&] { (void)guest.stat("d/e/f"); }) == 0);
}

TEST_CASE("a directory that is held is as it is now, with and without watches") {
  const SmallTree tree;
  for (const bool watches : {true, false}) {
    CAPTURE(watches);
    fs::testing::Guest guest(tree, fs::P9Cache::kShared, MountAccess::kReadWrite, {}, 256, watches);
    const vfs::Path held = *vfs::walk(guest.caller, guest.fs_context->cwd(), "d/e", {});
    for (int i = 0; i < 5; i++) {
      const auto mtime = [&] {
        begin_call();
        return held.dentry->inode()->attributes()->mtime;
      };
      const Nanos before = mtime();
      const timespec times[2] = {{i, 0}, {1000 + i + (watches ? 100 : 0), 0}};
      REQUIRE(::utimensat(AT_FDCWD, tree.path("d/e").c_str(), times, 0) == 0);
      CHECK(mtime() != before);
    }
  }
}

TEST_CASE("the attributes of what the host took away are the Gofer's error") {
  const Crowd tree;
  Watching guest(tree);
  const auto hold = [&](std::string_view path) {
    return *vfs::walk(guest.caller, guest.fs_context->cwd(), path, {});
  };
  const vfs::Path gone = hold("d/e/f"), replaced = hold("d/other");
  tree.crowd_out(guest);
  std::filesystem::remove(tree.path("d/e/f"));
  std::filesystem::rename(tree.path("d/e"), tree.path("d/other"));
  begin_call();
  CHECK(gone.dentry->inode()->attributes().error() == Errno::kNoEnt);
  CHECK(replaced.dentry->inode()->attributes().error() == Errno::kStale);
}

TEST_CASE("a file that was changed on the host is opened again") {
  const SmallTree tree;
  Watching guest(tree);
  CHECK(*guest.read("d/e/f") == "12345");
  guest.warm("d/e/f");
  CHECK(guest.trips([&] { CHECK(*guest.read("d/e/f") == "12345"); }) == 0);
  tree.file("d/e/f", "123456");
  guest.warm("d/e/f");
  CHECK(guest.trips([&] { CHECK(*guest.read("d/e/f") == "123456"); }) == 1);
}

TEST_CASE("a file with other names is asked for every time") {
  const SmallTree tree;
  tree.dir("elsewhere");
  std::filesystem::create_hard_link(tree.path("d/e/f"), tree.path("elsewhere/g"));
  Watching guest(tree);
  guest.warm("d/e/f");
  for (const char* text : {"1", "12", "123"}) {
    tree.file("elsewhere/g", text);
    CHECK(guest.stat("d/e/f")->size == std::string_view(text).size());
  }
}

TEST_CASE("what the guest changes itself is seen as well") {
  const SmallTree tree;
  Watching guest(tree);
  for (const char* path : {"d/e/f", "d/e/new", "d/e"}) guest.warm(path);
  REQUIRE(guest.open("d/e/new", O_CREAT | O_EXCL | O_WRONLY).ok());
  CHECK(guest.stat("d/e/new")->size == 0);
  {
    const auto file = guest.open("d/e/new", O_WRONLY);
    IoBuffers from(as_bytes_of("abc", 3));
    REQUIRE((*file)->write(from, {}).ok());
  }
  CHECK(guest.stat("d/e/new")->size == 3);
  REQUIRE(unlink_file(guest.caller, guest.at("d/e/new")).ok());
  CHECK(guest.errno_of("d/e/new") == Errno::kNoEnt);
  guest.warm("d/e/new");
  CHECK(guest.trips([&] { CHECK(guest.errno_of("d/e/new") == Errno::kNoEnt); }) == 0);
}

TEST_CASE("an overlay over a watched directory asks as little and sees as much") {
  const SmallTree tree;
  Watching guest(tree);
  Overlay over(guest);
  for (int i = 0; i < 12; i++) {
    CHECK(*over.size("d/e/f") == 5);
    CHECK(over.size("d/e/new").error() == Errno::kNoEnt);
  }
  CHECK(guest.trips([&] { CHECK(*over.size("d/e/f") == 5); }) == 0);
  CHECK(guest.trips([&] { CHECK(over.size("d/e/new").error() == Errno::kNoEnt); }) == 0);
  tree.file("d/e/f", "123456");
  CHECK(*over.size("d/e/f") == 6);
  tree.file("d/e/new", "1");
  CHECK(*over.size("d/e/new") == 1);
  REQUIRE(unlink_file(over.caller, over.at("d/e/f")).ok());
  tree.file("d/e/f", "1234567");
  CHECK(over.size("d/e/f").error() == Errno::kNoEnt);
}

TEST_CASE("links that both sides take away do not fall below none") {
  const SmallTree tree;
  Watching guest(tree);
  Overlay over(guest);
  const vfs::Path held = *vfs::walk(over.caller, over.context->cwd(), "d/e/f", {});
  REQUIRE(unlink_file(over.caller, over.at("d/e/f")).ok());
  REQUIRE(::unlink(tree.path("d/e/f").c_str()) == 0);
  begin_call();
  CHECK(held.dentry->inode()->attributes()->nlink == 0);
}

TEST_CASE("in an overlay what the host took away stays as it was seen last") {
  const Crowd tree;
  Watching guest(tree);
  Overlay over(guest);
  const vfs::Path open = *vfs::walk(over.caller, over.context->cwd(), "d/e/f", {});
  REQUIRE(over.size("d/e/f").ok());
  REQUIRE(over.append("d/other/new", "12", O_CREAT).ok());  // which keeps the directory
  tree.crowd_out(guest);
  std::filesystem::remove_all(tree.path("d"));
  begin_call();
  const Result<vfs::Attributes> now = open.dentry->inode()->attributes();
  REQUIRE(now.ok());
  CHECK(now->size == 5);
  CHECK(now->nlink == 0);
  CHECK(*over.size("d/other/new") == 2);
}

TEST_CASE("what the host renames before the guest changes it has one name in an overlay") {
  const SmallTree tree;
  tree.file("draft", "1");
  Watching guest(tree);
  Overlay over(guest);
  REQUIRE(over.append("d/e/f", "").ok());
  CHECK(*over.size("draft") == 1);
  CHECK(*over.size("d/e/f") == 5);
  std::filesystem::rename(tree.path("draft"), tree.path("final"));
  std::filesystem::rename(tree.path("d"), tree.path("c"));
  REQUIRE(over.append("final", "23").ok());
  CHECK(*over.size("final") == 3);
  CHECK(over.size("draft").error() == Errno::kNoEnt);
  for (const auto& difference : over.overlay->differences(10)) CHECK(difference.path != "draft");
}

// The writer publishes what it has done after it did so: who reads the publication first must not
// see anything older. He goes on until each reader has read often enough, however they are
// scheduled.
TEST_CASE("no reader is behind a writer on the host") {
  const SmallTree tree;
  Watching guest(tree);
  guest.warm("d/e/f");
  constexpr uint64_t kReads = 1000;
  std::atomic<uint64_t> size_published{0}, names_published{0};
  std::atomic<uint64_t> late{0}, first_reads{0}, second_reads{0};
  std::atomic<bool> done{false};
  std::latch everybody{3};
  uint64_t rounds = 0;
  tree.file("d/e/n0", "");
  std::thread writer([&] {
    const UniqueFd file(::open(tree.path("d/e/f").c_str(), O_WRONLY));
    everybody.arrive_and_wait();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while ((first_reads < kReads || second_reads < kReads) &&
           std::chrono::steady_clock::now() < deadline) {
      const uint64_t i = ++rounds;
      if (::ftruncate(file.get(), static_cast<off_t>(i)) == 0) size_published = i;
      const std::string name = tree.path("d/e/n");
      if (::rename((name + std::to_string(i - 1)).c_str(), (name + std::to_string(i)).c_str()) == 0)
        names_published = i;
    }
    done = true;
  });
  const auto read = [&](std::atomic<uint64_t>& reads) {
    everybody.arrive_and_wait();
    while (!done) {
      const uint64_t size = size_published;
      const auto now = guest.stat("d/e/f");
      if (!now.ok() || (size > 0 && now->size < size)) late++;
      const uint64_t name = names_published;
      if (name > 0 && guest.stat("d/e/n" + std::to_string(name - 1)).ok()) late++;
      reads++;
    }
  };
  std::thread first(read, std::ref(first_reads)), second(read, std::ref(second_reads));
  writer.join();
  first.join();
  second.join();
  CHECK(first_reads >= kReads);
  CHECK(second_reads >= kReads);
  CHECK(late == 0);
  CHECK(size_published == rounds);
  CHECK(names_published == rounds);
}
