#include "sentry/fs/tmp_fs.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/memfd.h>

#include <cstring>
#include <random>

#include "sentry/fs/mem_fd.h"
#include "tests/unit/test.h"
#include "tests/unit/vfs_fixture.h"

namespace boxrun::fs {
namespace {

using vfs::testing::NameSink;
using vfs::testing::Tree;

Result<size_t> write_at(vfs::FileDescription& file, std::string_view text, int64_t offset,
                        vfs::WriteOptions options = {}) {
  IoBuffers from(as_bytes_of(text.data(), text.size()));
  return file.pwrite(from, offset, options);
}
Result<size_t> append(vfs::FileDescription& file, std::string_view text,
                      vfs::WriteOptions options = {}) {
  IoBuffers from(as_bytes_of(text.data(), text.size()));
  return file.write(from, options);
}
std::string read_at(vfs::FileDescription& file, size_t size, int64_t offset) {
  std::string text(size, '?');
  IoBuffers to(std::as_writable_bytes(std::span(text)));
  text.resize(file.pread(to, offset).take());
  return text;
}

TEST_CASE("tmpfs: sparse files, holes, seeks") {
  Tree t;
  auto file = t.open("/f", O_RDWR | O_CREAT).take();
  CHECK(write_at(*file, "end", 100'000).take() == 3);
  const auto attributes = file->attributes().take();
  CHECK(attributes.size == 100'003);
  CHECK(attributes.blocks == 8);
  CHECK(read_at(*file, 4, 99'998) == std::string("\0\0en", 4));
  CHECK(file->seek(0, SEEK_DATA).take() == 98'304);
  CHECK(file->seek(98'304, SEEK_HOLE).take() == 100'003);
  CHECK(file->seek(0, SEEK_HOLE).take() == 0);
  CHECK(file->seek(100'003, SEEK_DATA).error() == Errno::kNxIo);
  CHECK(file->seek(-1, SEEK_SET).error() == Errno::kInval);
  CHECK(file->seek(0, SEEK_END).take() == 100'003);
  CHECK(file->seek(INT64_MAX, SEEK_CUR).error() == Errno::kInval);
  CHECK(file->seek(0, 9).error() == Errno::kInval);
  CHECK(file->allocate(0, 0, 8192).ok());
  CHECK(file->seek(0, SEEK_DATA).take() == 0);
  CHECK(file->allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 98'304, 4096).ok());
  CHECK(read_at(*file, 3, 100'000) == std::string(3, '\0'));
  CHECK(file->allocate(FALLOC_FL_PUNCH_HOLE, 0, 1).error() == Errno::kOpNotSupp);
  CHECK(file->allocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096).error() == Errno::kOpNotSupp);
  CHECK(file->allocate(0, 0, 0).error() == Errno::kInval);
}

TEST_CASE("tmpfs: what a shrunk file loses does not come back") {
  Tree t;
  auto file = t.open("/f", O_RDWR | O_CREAT).take();
  CHECK(write_at(*file, std::string(10'000, 'x'), 0).take() == 10'000);
  CHECK(file->truncate(5'000).ok());
  CHECK(file->truncate(10'000).ok());
  CHECK(read_at(*file, 2, 4'999) == std::string("x\0", 2));
  CHECK(read_at(*file, 1, 9'000) == std::string(1, '\0'));
  CHECK(t.file_system->statistics().take().blocks_free ==
        t.file_system->statistics().take().blocks - 2);
  CHECK(t.open("/f", O_RDONLY).take()->truncate(0).error() == Errno::kInval);
}

TEST_CASE("tmpfs: append, limits, a full file system") {
  Tree t;
  auto small = TmpFs::create({.device = 9, .size_limit = 16384}, *t.memory_file, t.clock);
  REQUIRE(t.mkdir("/m") == Errno::kOk);
  REQUIRE(t.mounts->attach(vfs::Mount::create({.file_system = small}), t.place("/m").take()).ok());
  auto file = t.open("/m/f", O_RDWR | O_CREAT | O_APPEND).take();
  auto again = t.open("/m/f", O_RDWR | O_APPEND).take();
  CHECK(append(*file, "one").take() == 3);
  CHECK(append(*again, "two").take() == 3);
  CHECK(append(*file, "three").take() == 5);
  CHECK(read_at(*file, 100, 0) == "onetwothree");
  CHECK(file->position() == 11);
  CHECK(write_at(*file, "!", 0).take() == 1);  // O_APPEND wins over the offset
  CHECK(read_at(*file, 100, 11) == "!");
  CHECK(append(*file, "abc", {.size_limit = 14}).take() == 2);
  CHECK(append(*file, "c", {.size_limit = 14}).error() == Errno::kFBig);
  CHECK(append(*file, std::string(20'000, 'y')).take() == 16'384 - 14);
  CHECK(append(*file, "z").error() == Errno::kNoSpc);
  CHECK(small->statistics().take().blocks_free == 0);
  CHECK(t.symlink("somewhere", "/m/link") == Errno::kNoSpc);
  file = again = nullptr;
  CHECK(vfs::unlink_file(t.caller, t.at("/m/f")).ok());
  small->dentries().clear();
  CHECK(small->statistics().take().blocks_free == 4);
}

TEST_CASE("tmpfs: a full file system and memory that is used up are told apart") {
  Tree t(vfs::testing::root_user(), 1 << 20);
  auto small = TmpFs::create({.device = 9, .size_limit = 16384}, *t.memory_file, t.clock);
  REQUIRE(t.mkdir("/m") == Errno::kOk);
  REQUIRE(t.mounts->attach(vfs::Mount::create({.file_system = small}), t.place("/m").take()).ok());
  auto limited = t.open("/m/f", O_RDWR | O_CREAT).take();
  CHECK(limited->truncate(1 << 20).ok());
  auto pages = limited->map().take();
  CHECK(append(*limited, std::string(20'000, 'x')).take() == 16'384);
  CHECK(pages->page_in({16'384, 20'480}, true).error() == Errno::kNoSpc);  // SIGBUS, not a kill
  CHECK(!t.memory_file->refusal(mm::Storage::kMemory).take());
  CHECK(small->quota()->refusal().take());
  CHECK(!small->quota()->refusal().take());

  auto file = t.open("/f", O_RDWR | O_CREAT).take();
  CHECK(file->truncate(4 << 20).ok());
  pages = file->map().take();
  while (append(*file, std::string(65'536, 'y')).ok()) {
  }
  CHECK(append(*file, "z").error() == Errno::kNoSpc);
  CHECK(pages->page_in({2 << 20, (2 << 20) + 4096}, true).error() == Errno::kNoMem);
  CHECK(!t.file_system->quota()->refusal().take());
  CHECK(t.memory_file->refusal(mm::Storage::kMemory).take());
  CHECK(append(*file, "z").error() == Errno::kNoSpc);
  begin_call();
  CHECK(!t.memory_file->refusal(mm::Storage::kMemory).take());  // that was another call
}

TEST_CASE("tmpfs: names, link texts and attributes are of the memory limit") {
  Tree t(vfs::testing::root_user(), 1 << 20);
  const uint64_t free = t.memory_file->available();
  REQUIRE(t.open("/f", O_RDWR | O_CREAT).ok());
  std::vector<std::string> made;
  const auto fill = [&](const auto& make) {
    begin_call();
    const size_t before = made.size();
    Errno error;
    do {
      made.push_back("/" + std::to_string(made.size()));
    } while ((error = make(made.back())) == Errno::kOk);
    made.pop_back();
    CHECK(error == Errno::kNoSpc);
    CHECK(t.memory_file->refusal(mm::Storage::kMemory).take());
    CHECK(made.size() - before > 200);
    CHECK(made.size() - before < 1024);
    for (; made.size() > before; made.pop_back()) {
      CHECK(vfs::unlink_file(t.caller, t.at(made.back())).ok());
    }
    t.file_system->dentries().clear();
  };
  fill([&](const std::string& path) { return t.symlink(std::string(2000, 'x'), path); });
  fill([&](const std::string& path) { return t.open(path, O_RDWR | O_CREAT).error(); });
  fill([&](const std::string& path) { return t.link("/f", path); });
  auto file = t.open("/f", O_RDWR).take();
  size_t attributes = 0;
  while (file->inode()
             .set_xattr("user." + std::to_string(attributes), std::string(4000, 'x'), {})
             .ok()) {
    attributes++;
  }
  CHECK(attributes > 200);
  CHECK(attributes < 262);
  // What names have taken is not there for pages, and the other way round.
  CHECK(!t.memory_file->allocate(64 << 10).ok());
  file = nullptr;
  CHECK(vfs::unlink_file(t.caller, t.at("/f")).ok());
  t.file_system->dentries().clear();
  CHECK(t.memory_file->available() == free);
}

TEST_CASE("tmpfs: a symlink without a name is paid for and paid back") {
  Tree t;
  auto files = TmpFs::create({.device = 9}, *t.memory_file, t.clock);
  const vfs::NewNode link{.type = vfs::FileType::kSymlink, .symlink_target = "somewhere"};
  Ref<TmpInode> made = files->make_unnamed(link, {}, 0).take();
  CHECK(files->quota()->used() == 9);
  made = nullptr;
  CHECK(files->quota()->used() == 0);
}

TEST_CASE("tmpfs: inodes are limited") {
  Tree t;
  auto small = TmpFs::create({.device = 9, .max_inodes = 3}, *t.memory_file, t.clock);
  REQUIRE(t.mkdir("/m") == Errno::kOk);
  REQUIRE(t.mounts->attach(vfs::Mount::create({.file_system = small}), t.place("/m").take()).ok());
  CHECK(t.mkdir("/m/a") == Errno::kOk);
  CHECK(t.write_file("/m/b", "") == Errno::kOk);
  CHECK(t.mkdir("/m/c") == Errno::kNoSpc);
  CHECK(vfs::link_at(t.caller, t.at("/m/b"), t.at("/m/l"), 0).error() == Errno::kNoSpc);
  CHECK(vfs::remove_directory(t.caller, t.at("/m/a")).ok());
  CHECK(vfs::link_at(t.caller, t.at("/m/b"), t.at("/m/l"), 0).ok());
  CHECK(vfs::unlink_file(t.caller, t.at("/m/l")).ok());
  CHECK(t.mkdir("/m/c") == Errno::kOk);
}

TEST_CASE("tmpfs: times follow what is done") {
  Tree t;
  t.clock.now = 10 * kSecond;
  REQUIRE(t.write_file("/f", "x") == Errno::kOk);
  t.clock.now = 20 * kSecond;
  CHECK(t.read_file("/f").take() == "x");
  CHECK(t.stat("/f").take().atime == 20 * kSecond);
  CHECK(t.stat("/f").take().mtime == 10 * kSecond);
  t.clock.now = 30 * kSecond;
  CHECK(t.read_file("/f").take() == "x");
  CHECK(t.stat("/f").take().atime == 20 * kSecond);  // relatime
  REQUIRE(change_mode(t.caller, t.place("/f").take(), 0600).ok());
  CHECK(t.stat("/f").take().ctime == 30 * kSecond);
  CHECK(t.stat("/f").take().btime == 10 * kSecond);
  t.clock.now = 40 * kSecond;
  REQUIRE(t.mkdir("/d") == Errno::kOk);
  CHECK(t.stat("/").take().mtime == 40 * kSecond);
}

TEST_CASE("tmpfs: writing drops setuid, except for the mighty") {
  Tree t;
  REQUIRE(t.write_file("/f", "x", 0666) == Errno::kOk);
  REQUIRE(change_mode(t.caller, t.place("/f").take(), 06777).ok());
  CHECK(append(*t.open("/f", O_WRONLY).take(), "y").ok());
  CHECK(t.stat("/f").take().mode == 06777);
  t.become(vfs::testing::user(1000));
  CHECK(append(*t.open("/f", O_WRONLY).take(), "y").ok());
  CHECK(t.stat("/f").take().mode == 0777);
}

TEST_CASE("tmpfs: directories are read in an order that survives changes") {
  Tree t;
  for (const char* name : {"c", "a", "b"}) REQUIRE(t.write_file(name, "") == Errno::kOk);
  auto directory = t.open("/", O_RDONLY).take();
  NameSink first(3);  // ".", "..", "c"
  REQUIRE(directory->read_directory(first).ok());
  CHECK(first.names == std::vector<std::string>{"c"});
  REQUIRE(vfs::unlink_file(t.caller, t.at("/a")).ok());
  REQUIRE(t.write_file("/d", "") == Errno::kOk);
  NameSink rest;
  REQUIRE(directory->read_directory(rest).ok());
  CHECK(rest.names == std::vector<std::string>{"b", "d"});
  NameSink none;
  REQUIRE(directory->read_directory(none).ok());
  CHECK(none.names.empty());
  CHECK(directory->seek(0, SEEK_SET).ok());
  NameSink all;
  REQUIRE(directory->read_directory(all).ok());
  CHECK(all.names.size() == 3);
  std::byte b[1];
  IoBuffers to(std::span<std::byte>{b});
  CHECK(directory->read(to).error() == Errno::kIsDir);
  CHECK(t.open("/b", O_RDONLY).take()->read_directory(all).error() == Errno::kNotDir);
}

class Observer final : public mm::MappingObserver {
 public:
  void invalidate(mm::PageSource&, Range range, Gone gone) override {
    ranges.push_back(range);
    kinds.push_back(gone);
  }
  std::vector<Range> ranges;
  std::vector<Gone> kinds;
};

TEST_CASE("tmpfs: mappings share the file's pages and hear of their end") {
  Tree t;
  auto file = t.open("/f", O_RDWR | O_CREAT).take();
  REQUIRE(write_at(*file, "abc", 0).ok());
  const Ref<mm::PageSource> source = file->map().take();
  Observer observer;
  REQUIRE(source->add_mapping(observer, {0, 8192}, true).ok());
  const Range page = source->page_in({0, 4096}, true).take();
  CHECK(std::memcmp(t.memory_file->data(page.start), "abc", 3) == 0);
  t.memory_file->data(page.start)[0] = std::byte{'X'};
  CHECK(read_at(*file, 3, 0) == "Xbc");
  CHECK(source->page_in({4096, 8192}, false).error() == Errno::kNxIo);
  REQUIRE(file->truncate(8192).ok());
  const Range hole = source->page_in({4096, 8192}, false).take();
  CHECK(hole.size() == 4096);
  REQUIRE(file->truncate(100).ok());
  REQUIRE(observer.ranges.size() == 1);
  CHECK(observer.ranges[0].start == 4096);
  CHECK(observer.kinds[0] == mm::MappingObserver::Gone::kTruncated);
  REQUIRE(file->allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096).ok());
  REQUIRE(observer.ranges.size() == 2);
  CHECK(observer.kinds[1] == mm::MappingObserver::Gone::kPunched);
  // Pages that a mapping holds stay, though the file has forgotten them.
  CHECK(t.memory_file->data(page.start)[0] == std::byte{'X'});
  source->remove_mapping(observer, {0, 8192}, true);
  t.memory_file->unref(page);
  t.memory_file->unref(hole);
  CHECK(t.memory_file->used() == 0);
}

TEST_CASE("memfd: seals") {
  Tree t;
  auto fs = TmpFs::create({.device = 3}, *t.memory_file, t.clock);
  const auto mount = vfs::Mount::create({.file_system = fs});
  const auto who = vfs::testing::user(1000);
  CHECK(create_memfd(mount, "x", MFD_HUGETLB, who).error() == Errno::kInval);
  CHECK(create_memfd(mount, std::string(250, 'n'), 0, who).error() == Errno::kInval);
  auto plain = create_memfd(mount, "plain", 0, who).take();
  CHECK(seals_of(*plain).take() == F_SEAL_SEAL);
  CHECK(add_seals(*plain, F_SEAL_WRITE).error() == Errno::kPerm);
  CHECK(vfs::path_of(*t.mounts, t.mounts->root(), plain->path()) == "/memfd:plain (deleted)");
  auto file = create_memfd(mount, "m", MFD_ALLOW_SEALING, who).take();
  REQUIRE(write_at(*file, "data", 0).ok());
  Observer observer;
  const Ref<mm::PageSource> source = file->map().take();
  REQUIRE(source->add_mapping(observer, {0, 4096}, true).ok());
  CHECK(add_seals(*file, F_SEAL_WRITE).error() == Errno::kBusy);
  source->remove_mapping(observer, {0, 4096}, true);
  CHECK(add_seals(*file, F_SEAL_GROW).ok());
  CHECK(write_at(*file, "x", 4).error() == Errno::kPerm);
  CHECK(write_at(*file, "xyz", 3).error() == Errno::kPerm);  // not even what would fit
  CHECK(write_at(*file, "Data", 0).take() == 4);
  CHECK(file->truncate(5).error() == Errno::kPerm);
  CHECK(add_seals(*file, F_SEAL_SHRINK | F_SEAL_WRITE).ok());
  CHECK(file->truncate(1).error() == Errno::kPerm);
  CHECK(write_at(*file, "y", 0).error() == Errno::kPerm);
  CHECK(source->add_mapping(observer, {0, 4096}, true).error() == Errno::kPerm);
  CHECK(source->add_mapping(observer, {0, 4096}, false).ok());
  source->remove_mapping(observer, {0, 4096}, false);
  CHECK(add_seals(*file, F_SEAL_SEAL).ok());
  CHECK(add_seals(*file, F_SEAL_SEAL).error() == Errno::kPerm);
  CHECK(seals_of(*t.open("/", O_RDONLY).take()).error() == Errno::kInval);
}

TEST_CASE("tmpfs: random reads, writes, truncations and holes against a plain buffer") {
  Tree t;
  auto file = t.open("/f", O_RDWR | O_CREAT).take();
  std::string model;
  std::mt19937 random(11);
  constexpr size_t kMax = 60'000;
  for (int i = 0; i < 3'000; i++) {
    const size_t offset = random() % kMax;
    const size_t size = 1 + random() % 9'000;
    switch (random() % 4) {
      case 0: {
        const std::string text(size, static_cast<char>('a' + random() % 26));
        REQUIRE(write_at(*file, text, static_cast<int64_t>(offset)).take() == size);
        if (model.size() < offset + size) model.resize(offset + size, '\0');
        model.replace(offset, size, text);
        break;
      }
      case 1:
        REQUIRE(file->truncate(offset).ok());
        model.resize(offset, '\0');
        break;
      case 2: {
        REQUIRE(file->allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size).ok());
        const size_t end = std::min(model.size(), offset + size);
        if (offset < end) model.replace(offset, end - offset, end - offset, '\0');
        break;
      }
      default: {
        const std::string expected =
            offset < model.size() ? model.substr(offset, size) : std::string();
        REQUIRE(read_at(*file, size, static_cast<int64_t>(offset)) == expected);
      }
    }
    REQUIRE(file->attributes().take().size == model.size());
  }
  REQUIRE(file->truncate(0).ok());
  CHECK(t.memory_file->used() == 0);
}

}  // namespace
}  // namespace boxrun::fs
