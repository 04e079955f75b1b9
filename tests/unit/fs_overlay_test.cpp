#include <fcntl.h>
#include <linux/fs.h>

#include <string>

#include "tests/unit/overlay_fixture.h"
#include "tests/unit/test.h"

namespace boxrun::fs::testing {
namespace {

using vfs::FileType;

Errno write_at(View& view, std::string_view path, std::string_view text, int64_t offset) {
  auto file = view.open(path, O_RDWR);
  if (!file.ok()) return file.error();
  IoBuffers from(as_bytes_of(text.data(), text.size()));
  return (*file)->pwrite(from, offset, {}).error();
}

// The lower tree that most tests have: /d/f, /d/sub/g, /top.
struct Filled : OverlayTree {
  Filled() {
    for (const char* directory : {"/d", "/d/sub"}) REQUIRE(lower.mkdir(directory) == Errno::kOk);
    for (const char* file : {"/d/f", "/d/sub/g", "/top"}) {
      REQUIRE(lower.write_file(file, std::string("lower ") + file) == Errno::kOk);
    }
    before = describe(lower);
    lower.clock.now += kSecond;
  }
  ~Filled() { CHECK(describe(lower) == before); }
  std::string before;
};

TEST_CASE("overlay: a file is copied when it is first written to") {
  Filled t;
  auto reader = t.view.open("/d/f", O_RDONLY).take();
  const vfs::Attributes before = reader->attributes().take();
  CHECK(write_at(t.view, "/d/f", "UPPER", 6) == Errno::kOk);
  CHECK(t.view.read_file("/d/f").take() == "lower UPPER");
  // Whoever had it open sees the same file.
  CHECK(View::read_all(*reader).take() == "lower UPPER");
  const vfs::Attributes after = t.view.stat("/d/f").take();
  CHECK(after.ino == before.ino);
  CHECK(after.mode == before.mode);
  CHECK(after.mtime == before.mtime + kSecond);
  CHECK(t.view.truncate("/top", 5) == Errno::kOk);
  CHECK(t.view.read_file("/top").take() == "lower");
  CHECK(t.view.open("/d/sub/g", O_RDWR | O_TRUNC).ok());
  CHECK(t.view.stat("/d/sub/g").take().size == 0);
}

TEST_CASE("overlay: a change of attributes alone copies no data, and keeps the rest") {
  OverlayTree t;
  REQUIRE(t.lower.write_file("/f", std::string(1 << 20, 'x'), 0640) == Errno::kOk);
  const vfs::Path below = t.lower.place("/f").take();
  REQUIRE(vfs::set_xattr(t.lower.caller, below, "user.a", "value", vfs::XattrCreate::kAny).ok());
  t.lower.clock.now += kSecond;
  const uint64_t used = t.lower.memory_file->used();
  CHECK(t.view.chmod("/f", 0600) == Errno::kOk);
  CHECK(t.lower.memory_file->used() == used);
  const vfs::Attributes a = t.view.stat("/f").take();
  CHECK(a.mode == 0600);
  CHECK(a.size == 1 << 20);
  CHECK(a.ctime == a.mtime + kSecond);
  const vfs::Path place = t.view.place("/f").take();
  CHECK(vfs::get_xattr(t.view.caller, place, "user.a").take() == "value");
  CHECK(vfs::remove_xattr(t.view.caller, place, "user.a").ok());
  CHECK(vfs::get_xattr(t.lower.caller, below, "user.a").take() == "value");
  CHECK(t.lower.stat("/f").take().mode == 0640);
}

TEST_CASE("overlay: what is removed stays removed") {
  Filled t;
  CHECK(t.view.unlink("/d/f") == Errno::kOk);
  CHECK(t.view.stat("/d/f").error() == Errno::kNoEnt);
  CHECK(t.view.list("/d").take() == std::vector<std::string>{"sub"});
  forget_names(t.view);
  CHECK(t.view.stat("/d/f").error() == Errno::kNoEnt);
  // A new file of that name has nothing of the old one, nor does its end bring it back.
  CHECK(t.view.open("/d/f", O_WRONLY | O_CREAT | O_EXCL).ok());
  CHECK(t.view.stat("/d/f").take().size == 0);
  CHECK(t.view.unlink("/d/f") == Errno::kOk);
  CHECK(t.view.list("/d").take() == std::vector<std::string>{"sub"});
  const auto differences = t.overlay->differences(10);
  REQUIRE(differences.size() == 1);
  CHECK(differences[0].path == "d/f");
  CHECK(differences[0].op == OverlayFs::Difference::Op::kDeleted);
}

TEST_CASE("overlay: a directory made where one was removed is empty") {
  Filled t;
  CHECK(t.view.rmdir("/d/sub") == Errno::kNotEmpty);
  CHECK(t.view.unlink("/d/sub/g") == Errno::kOk);
  CHECK(t.view.rmdir("/d/sub") == Errno::kOk);
  CHECK(t.view.stat("/d").take().nlink == 2);
  CHECK(t.view.mkdir("/d/sub") == Errno::kOk);
  forget_names(t.view);
  CHECK(t.view.list("/d/sub").take().empty());
  CHECK(t.view.stat("/d/sub/g").error() == Errno::kNoEnt);
  CHECK(t.view.write_file("/d/sub/g", "new") == Errno::kOk);
  CHECK(t.view.read_file("/d/sub/g").take() == "new");
  // The same by a rename over an emptied one.
  CHECK(t.view.unlink("/d/sub/g") == Errno::kOk);
  CHECK(t.view.mkdir("/other") == Errno::kOk);
  CHECK(t.view.write_file("/other/h", "h") == Errno::kOk);
  CHECK(t.view.rename("/other", "/d/sub") == Errno::kOk);
  CHECK(t.view.list("/d/sub").take() == std::vector<std::string>{"h"});
}

TEST_CASE("overlay: a directory of the lower tree moves with all that is below it") {
  Filled t;
  CHECK(t.view.rename("/d", "/moved") == Errno::kOk);
  forget_names(t.view);
  CHECK(t.view.stat("/d").error() == Errno::kNoEnt);
  CHECK(t.view.read_file("/moved/sub/g").take() == "lower /d/sub/g");
  CHECK(write_at(t.view, "/moved/sub/g", "UPPER", 0) == Errno::kOk);
  CHECK(t.view.mkdir("/d") == Errno::kOk);
  CHECK(t.view.list("/d").take().empty());
  CHECK(t.view.rename("/moved/sub", "/d/sub") == Errno::kOk);
  CHECK(t.view.rename("/moved", "/d/sub/deep") == Errno::kOk);
  forget_names(t.view);
  CHECK(t.view.read_file("/d/sub/g").take() == "UPPER /d/sub/g");
  CHECK(t.view.read_file("/d/sub/deep/f").take() == "lower /d/f");
  CHECK(t.view.list("/d/sub/deep").take() == std::vector<std::string>{"f"});
  CHECK(t.view.rename("/d", "/d/sub/deep/d") == Errno::kInval);
  CHECK(t.view.rename("/d/sub", "/top", RENAME_EXCHANGE) == Errno::kOk);
  CHECK(t.view.read_file("/top/deep/f").take() == "lower /d/f");
  CHECK(t.view.read_file("/d/sub").take() == "lower /top");
}

TEST_CASE("overlay: names of one lower file are names of one file") {
  OverlayTree t;
  REQUIRE(t.lower.mkdir("/d") == Errno::kOk);
  REQUIRE(t.lower.write_file("/d/a", "text") == Errno::kOk);
  REQUIRE(t.lower.link("/d/a", "/b") == Errno::kOk);
  CHECK(t.view.stat("/d/a").take().ino == t.view.stat("/b").take().ino);
  CHECK(write_at(t.view, "/b", "next", 0) == Errno::kOk);
  CHECK(t.view.read_file("/d/a").take() == "next");
  CHECK(t.view.link("/b", "/d/c") == Errno::kOk);
  CHECK(t.view.stat("/d/a").take().nlink == 3);
  // The copy belongs to the file, not to the name by which it was made.
  CHECK(t.view.unlink("/d/c") == Errno::kOk);
  CHECK(t.view.unlink("/b") == Errno::kOk);
  forget_names(t.view);
  CHECK(t.view.read_file("/d/a").take() == "next");
  CHECK(t.view.stat("/d/a").take().nlink == 1);
  auto open = t.view.open("/d/a", O_RDONLY).take();
  CHECK(t.view.unlink("/d/a") == Errno::kOk);
  CHECK(open->attributes().take().nlink == 0);
  CHECK(t.lower.read_file("/d/a").take() == "text");
}

TEST_CASE(
    "overlay: a name that is lost, to an unlink or a rename, changes the ctime of the others") {
  OverlayTree t;
  for (const std::string name : {"/a", "/b", "/c"}) {
    REQUIRE(t.lower.write_file(name, name) == Errno::kOk);
    REQUIRE(t.lower.link(name, name + "2") == Errno::kOk);
  }
  t.lower.clock.now += kSecond;
  CHECK(t.view.rename("/a", "/b") == Errno::kOk);
  CHECK(t.view.unlink("/c") == Errno::kOk);
  CHECK(t.view.read_file("/b").take() == "/a");
  CHECK(t.view.stat("/b").take().ctime == t.lower.clock.now);
  CHECK(t.view.stat("/b").take().nlink == 2);
  CHECK(t.view.stat("/b2").take().ctime == t.lower.clock.now);
  CHECK(t.view.stat("/b2").take().nlink == 1);
  CHECK(t.view.stat("/c2").take().ctime == t.lower.clock.now);
  CHECK(t.view.stat("/c2").take().mtime == t.lower.clock.now - kSecond);
}

TEST_CASE("overlay: changes of a deep tree are told as far as their paths are") {
  OverlayTree t;
  Ref<vfs::Inode> at = t.overlay->root();
  const std::string name(255, 'd');
  for (int i = 0; i < 3000; ++i) {
    at = at->create(name, {.type = vfs::FileType::kDirectory, .mode = 0755}).take();
  }
  const auto changes = t.overlay->differences(10'000);
  CHECK(changes.size() > 100);
  size_t bytes = 0;
  for (const auto& change : changes) bytes += change.path.size();
  CHECK(bytes < (8 << 20));
}

TEST_CASE("overlay: names that it keeps are of the memory limit") {
  OverlayTree t;
  REQUIRE(t.view.write_file("/f", "x") == Errno::kOk);
  mm::MemoryFile& memory = *t.lower.memory_file;
  const uint64_t free = memory.available();
  const auto names = [](int i) { return "/" + std::string(200, 'n') + std::to_string(i); };
  int made = 0;
  while (t.view.link("/f", names(made)) == Errno::kOk) made++;
  CHECK(t.view.link("/f", names(made)) == Errno::kNoSpc);
  CHECK(memory.refusal(mm::Storage::kMemory).take());
  CHECK(t.view.rename("/f", names(made)) == Errno::kNoSpc);
  const uint64_t after = memory.available();
  while (made-- > 0) CHECK(t.view.unlink(names(made)) == Errno::kOk);
  forget_names(t.view);
  CHECK(memory.available() > after);
  CHECK(memory.available() + 4096 > free);
}

TEST_CASE("overlay: holes of a copied file stay holes, and cost nothing") {
  OverlayTree t;
  constexpr int64_t kFar = int64_t{1} << 40;  // of 64 MiB of memory
  REQUIRE(t.lower.write_file("/f", "start") == Errno::kOk);
  REQUIRE(write_at(t.lower, "/f", "middle", 10 << 20) == Errno::kOk);
  REQUIRE(t.lower.truncate("/f", kFar) == Errno::kOk);
  const uint64_t used = t.lower.memory_file->used();
  CHECK(write_at(t.view, "/f", "!", 10 << 20) == Errno::kOk);
  CHECK(t.lower.memory_file->used() < used + (1 << 20));
  auto file = t.view.open("/f", O_RDONLY).take();
  CHECK(file->attributes().take().size == kFar);
  const auto text_at = [&](int64_t offset) {
    std::string text(6, '?');
    IoBuffers to(std::as_writable_bytes(std::span(text)));
    text.resize(file->pread(to, offset).take());
    return text;
  };
  CHECK(text_at(0) == std::string("start\0", 6));
  CHECK(text_at(10 << 20) == "!iddle");
  CHECK(text_at(kFar - 6) == std::string(6, '\0'));
  CHECK(file->seek(1 << 20, SEEK_DATA).take() == 10 << 20);
  CHECK(file->seek(11 << 20, SEEK_DATA).error() == Errno::kNxIo);
  CHECK(file->seek(11 << 20, SEEK_HOLE).take() == 11 << 20);
  CHECK(file->attributes().take().blocks < 2048);
  CHECK(t.lower.read_file("/f").take().substr(0, 5) == "start");
}

}  // namespace
}  // namespace boxrun::fs::testing
