#include <array>
#include <set>

#include "tests/unit/gofer_fixture.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::gofer;

TEST_CASE("a cold open is one round trip and donates the file") {
  TempTree tree;
  tree.dir("data/a");
  tree.file("data/a/b.txt", "hello");
  Served served(tree.path());
  REQUIRE(served.client);
  REQUIRE(served.client->dialect() == Dialect::kBoxrun);
  const uint64_t before = served.client->round_trips();
  WalkReply reply = served.walk("data/a/b.txt", O_RDONLY);
  CHECK(served.client->round_trips() == before + 1);
  REQUIRE(reply.failure.error == Errno::kOk);
  REQUIRE(reply.steps.size() == 3);
  CHECK(S_ISDIR(reply.steps[0].attr.mode));
  CHECK(S_ISREG(reply.steps[2].attr.mode));
  CHECK(reply.steps[2].attr.size == 5);
  struct stat st;
  REQUIRE(stat(tree.path("data/a/b.txt").c_str(), &st) == 0);
  CHECK(reply.steps[2].attr.qid.path == st.st_ino);
  char text[8] = {};
  REQUIRE(reply.opened.file);
  CHECK(pread(reply.opened.file.get(), text, sizeof text, 0) == 5);
  CHECK(std::string(text) == "hello");
  CHECK((fcntl(reply.opened.file.get(), F_GETFL) & O_ACCMODE) == O_RDONLY);
}

TEST_CASE("a walk that fails returns what it found before") {
  TempTree tree;
  tree.dir("a/b");
  Served served(tree.path());
  WalkReply reply = served.walk("a/b/none/deeper", O_RDONLY);
  CHECK(reply.failure.error == Errno::kNoEnt);
  CHECK(reply.steps.size() == 2);
  CHECK_FALSE(reply.opened.file);
}

TEST_CASE("a symbolic link comes with its text and ends the walk") {
  TempTree tree;
  tree.dir("real");
  tree.symlink("real", "link");
  Served served(tree.path());
  WalkReply reply = served.walk("link/x");
  CHECK(reply.failure.error == Errno::kNotDir);
  REQUIRE(reply.steps.size() == 1);
  CHECK(reply.steps[0].target == "real");
  CHECK(reply.steps[0].attr.qid.type == QidType::kSymlink);
}

TEST_CASE("a directory is listed with attributes in one round trip") {
  TempTree tree;
  tree.dir("d/sub");
  tree.file("d/one", "1");
  tree.symlink("one", "d/link");
  Served served(tree.path());
  WalkReply walked = served.walk("d");
  const uint64_t before = served.client->round_trips();
  auto listed = served.client->list(walked.steps[0].fid.number(), Listed::kAttributes);
  REQUIRE(listed.ok());
  CHECK(served.client->round_trips() == before + 1);
  CHECK(listed->page.end);
  std::set<std::string> names;
  for (const DirectoryEntry& e : listed->page.entries) {
    names.insert(e.name);
    REQUIRE(e.attr);
    if (e.name == "link") CHECK(e.target == "one");
    if (e.name == "one") CHECK(e.attr->size == 1);
  }
  CHECK(names == std::set<std::string>{"sub", "one", "link"});
}

TEST_CASE("plain 9P2000.L reads and writes without donated descriptors") {
  TempTree tree;
  tree.file("f", "0123456789");
  Served served(tree.path(), {.dialect = Dialect::kPlain});
  REQUIRE(served.client);
  REQUIRE(served.client->dialect() == Dialect::kPlain);
  WalkReply reply = served.walk("f", O_RDWR);
  REQUIRE(reply.failure.error == Errno::kOk);
  REQUIRE(reply.opened.fid);
  std::array<std::byte, 4> data;
  IoBuffers into{std::span<std::byte>(data)};
  CHECK(served.client->read(reply.opened.fid.number(), 3, into).value_or(0) == 4);
  CHECK(std::string_view(reinterpret_cast<char*>(data.data()), 4) == "3456");
  IoBuffers from(std::as_bytes(std::span(std::string_view("xy"))));
  CHECK(served.client->write(reply.opened.fid.number(), 1, from).value_or(0) == 2);
  CHECK(tree.text("f") == "0xy3456789");
}
