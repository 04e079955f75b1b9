// What system calls of a guest cost in round trips to a real Gofer, through everything that is
// between them: the table of calls, the tree that boot makes, overlay, 9P client, channel, server.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <functional>
#include <string>
#include <string_view>

#include "platforms/fake/fake_platform.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/vfs/file_description.h"
#include "tests/unit/fake_program.h"
#include "tests/unit/gofer_fixture.h"
#include "tests/unit/test.h"
#include "tests/unit/test_sandbox.h"

using namespace boxrun;
using gofer::MountAccess;
using gofer::Served;
using gofer::TempTree;
using platform::FakeGuest;
using sentry::BootMount;

namespace {

constexpr uint64_t kPath = test::kFakeData;
constexpr uint64_t kBuffer = test::kFakeData + 0x1000;

// A guest to which a tree of the host is mounted at /data.
class Guest {
 public:
  using Body = std::function<void(Guest&, FakeGuest&)>;

  Guest(const TempTree& tree, BootMount::Mode mode)
      : served_(tree.path(),
                {.access = mode == BootMount::Mode::kReadWrite ? MountAccess::kReadWrite
                                                               : MountAccess::kReadOnly,
                 .mount = "0"}),
        client_(*served_.client),
        sandbox_(platform_, mm::MemoryFile::make_backing(-1).take(),
                 {.mounts = {{tree.path(), "/data", 0, mode, BootMount::Cache::kExclusive, true}},
                  .gofer = connect()}) {}

  // The body runs as a process; what it does is expected to end well.
  void run(const Body& body) {
    platform_.add_program(test::kFakeEntry, platform::FakePlatform::main([&](FakeGuest& guest) {
                            body(*this, guest);
                            return 0;
                          }));
    REQUIRE(sandbox_.put("/prog", test::fake_program()).ok());
    const auto output = sandbox_.open("/tmp/output", O_CREAT | O_RDWR, 0644).take();
    const auto process = sandbox_.start({"/prog"}, output).take();
    CHECK(sandbox_.kernel().wait(*process).status == 0);
  }

  // Round trips since the last time that this was asked.
  uint64_t trips() { return client_.round_trips() - std::exchange(asked_, client_.round_trips()); }

 private:
  Ref<fs::P9Connection> connect() {
    served_.root_file = {};
    return make_ref<fs::P9Connection>(std::move(served_.client));
  }

  Served served_;
  gofer::Client& client_;
  uint64_t asked_ = 0;
  platform::FakePlatform platform_;
  test::TestSandbox sandbox_;
};

// Where `path` is in the guest's memory.
uint64_t put(FakeGuest& guest, std::string_view path) {
  const std::string text = std::string(path) + '\0';
  guest.copy_to(kPath, std::as_bytes(std::span(text)));
  return kPath;
}
int64_t open(FakeGuest& guest, std::string_view path, int flags) {
  return guest.syscall(SYS_openat, AT_FDCWD, put(guest, path), flags, 0644);
}
int64_t stat(FakeGuest& guest, std::string_view path) {
  return guest.syscall(SYS_stat, put(guest, path), kBuffer);
}
std::string read(FakeGuest& guest, int64_t fd) {
  const int64_t size = guest.syscall(SYS_pread64, fd, kBuffer, 64, 0);
  std::string text(size > 0 ? static_cast<size_t>(size) : 0, '\0');
  guest.copy_from(kBuffer, std::as_writable_bytes(std::span(text)));
  return text;
}
int64_t write(FakeGuest& guest, int64_t fd, std::string_view text) {
  guest.copy_to(kBuffer, std::as_bytes(std::span(text)));
  return guest.syscall(SYS_write, fd, kBuffer, text.size());
}

}  // namespace

TEST_CASE("round trips: a cold open 1, the rest of a file's life 0, in every mode") {
  for (const auto mode :
       {BootMount::Mode::kReadOnly, BootMount::Mode::kReadWrite, BootMount::Mode::kOverlay}) {
    CAPTURE(static_cast<int>(mode));
    TempTree tree;
    tree.dir("a/b");
    tree.file("a/b/f", "hello");
    Guest(tree, mode).run([](Guest& counted, FakeGuest& guest) {
      (void)counted.trips();
      const int64_t fd = open(guest, "/data/a/b/f", O_RDONLY);
      CHECK(counted.trips() == 1);
      CHECK(read(guest, fd) == "hello");
      CHECK(guest.syscall(SYS_fstat, fd, kBuffer) == 0);
      CHECK(stat(guest, "/data/a/b/f") == 0);
      CHECK(stat(guest, "/data/a/b/../b") == 0);
      const int64_t again = open(guest, "/data/a/b/f", O_RDONLY);
      CHECK(read(guest, again) == "hello");
      CHECK(guest.syscall(SYS_close, fd) == 0);
      CHECK(guest.syscall(SYS_close, again) == 0);
      const int64_t once_more = open(guest, "/data/a/b/f", O_RDONLY);
      CHECK(read(guest, once_more) == "hello");
      CHECK(counted.trips() == 0);
    });
  }
}

TEST_CASE("round trips: writing to a file of the host 0 behind the open") {
  TempTree tree;
  tree.dir("a/b");
  tree.file("a/b/f", "hello");
  Guest(tree, BootMount::Mode::kReadWrite).run([](Guest& counted, FakeGuest& guest) {
    (void)counted.trips();
    const int64_t fd = open(guest, "/data/a/b/f", O_RDWR);
    CHECK(counted.trips() == 1);
    CHECK(write(guest, fd, "HELLO") == 5);
    CHECK(guest.syscall(SYS_ftruncate, fd, 4) == 0);
    CHECK(read(guest, fd) == "HELL");
    CHECK(stat(guest, "/data/a/b/f") == 0);
    CHECK(counted.trips() == 0);
  });
  CHECK(tree.text("a/b/f") == "HELL");
}

TEST_CASE(
    "round trips: an overlay opens a file for writing in 1, and asks 1 more when it copies it") {
  TempTree tree;
  tree.dir("a/b");
  tree.file("a/b/f", "hello");
  Guest(tree, BootMount::Mode::kOverlay).run([](Guest& counted, FakeGuest& guest) {
    (void)counted.trips();
    const int64_t fd = open(guest, "/data/a/b/f", O_RDWR);
    CHECK(counted.trips() == 1);
    CHECK(write(guest, fd, "HE") == 2);
    CHECK(counted.trips() == 1);  // its extended attributes; the data is read from the open file
    CHECK(write(guest, fd, "LLO") == 3);
    CHECK(read(guest, fd) == "HELLO");
    CHECK(guest.syscall(SYS_close, fd) == 0);
    CHECK(read(guest, open(guest, "/data/a/b/f", O_RDWR)) == "HELLO");
    CHECK(counted.trips() == 0);
    CHECK(open(guest, "/data/a/b/new", O_RDWR | O_CREAT) >= 0);
    CHECK(counted.trips() == 2);  // that there is no such name; attributes of the directory
    CHECK(stat(guest, "/data/a/b/new") == 0);
    CHECK(counted.trips() == 0);
    CHECK(open(guest, "/data/a/b/next", O_RDWR | O_CREAT) >= 0);
    CHECK(counted.trips() == 1);
  });
  CHECK(tree.text("a/b/f") == "hello");
  CHECK(!tree.exists("a/b/new"));
}

TEST_CASE("round trips: a missing name 1, and 0 when asked for again; a symbolic link 1 more") {
  TempTree tree;
  tree.dir("real/dir");
  tree.file("real/dir/f", "x");
  tree.symlink("real/dir", "link");
  Guest(tree, BootMount::Mode::kReadOnly).run([](Guest& counted, FakeGuest& guest) {
    (void)counted.trips();
    CHECK(stat(guest, "/data/real/none") == -ENOENT);
    CHECK(counted.trips() == 1);
    CHECK(stat(guest, "/data/real/none") == -ENOENT);
    CHECK(counted.trips() == 0);
    const int64_t fd = open(guest, "/data/link/f", O_RDONLY);
    CHECK(counted.trips() == 2);
    CHECK(read(guest, fd) == "x");
    CHECK(open(guest, "/data/link/f", O_RDONLY) > fd);
    CHECK(counted.trips() == 0);
  });
}
