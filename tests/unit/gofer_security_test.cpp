// What a client, however hostile, must not get from the server.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <atomic>
#include <set>

#include "gofer/gofer_main.h"
#include "gofer/protocol_boxrun.h"
#include "tests/unit/gofer_fixture.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::gofer;

namespace {

uint32_t last(const WalkReply& reply) { return reply.steps.back().fid.number(); }

// A client that sends what it likes.
class Raw {
 public:
  explicit Raw(const std::string& root) {
    std::vector<MountSource> sources;
    sources.push_back(
        {"m", UniqueFd(::open(root.c_str(), O_PATH)), MountAccess::kReadWrite, root, {}});
    session_ =
        std::make_unique<Session>(Tree::create(std::move(sources), ProcFds::open_own(), 100).take(),
                                  Limits{.held = 100, .open = 100, .fids = 100}, Owners::kOwn);
    ChannelPair pair = make_channel_pair().take();
    mine_ = std::make_unique<PacketChannel>(std::move(pair.client));
    thread_ = std::thread([this, end = std::make_shared<PacketChannel>(std::move(pair.server))] {
      session_->serve(*end);
      end->shut_down();
    });
  }
  ~Raw() {
    mine_->shut_down();
    thread_.join();
  }
  // The type of the reply; kTlerror when the session ended instead.
  Type send(Data packet) {
    if (!mine_->send(packet, FdList()).ok()) return Type::kTlerror;
    FdList fds;
    const Result<size_t> size = mine_->receive(in_, fds);
    if (!size.ok()) return Type::kTlerror;
    Decoder decoder(Data(in_).first(*size));
    reply_ = next_frame(decoder).take();
    return reply_.type;
  }
  template <class Message>
  Type send(const Message& message) {
    std::array<std::byte, 8192> room;
    Encoder out(room);
    encode(out, 1, message);
    return send(Data(room).first(out.size()));
  }
  void start(std::string_view version = kBatchVersion) {
    CHECK(send(Tversion{kMaxMessage, version}) == reply_type(Type::kTversion));
    CHECK(send(Tattach{1, kNoFid, "", "m", 0}) == reply_type(Type::kTattach));
  }
  const Frame& reply() const { return reply_; }

 private:
  std::unique_ptr<Session> session_;
  std::unique_ptr<Channel> mine_;
  std::array<std::byte, kMaxMessage> in_;
  Frame reply_;
  std::thread thread_;
};

std::vector<std::byte> bytes_from(std::initializer_list<int> list) {
  std::vector<std::byte> result;
  for (const int v : list) result.push_back(static_cast<std::byte>(v));
  return result;
}

std::vector<std::byte> batch_of(uint16_t count, Data messages) {
  std::vector<std::byte> packet(9 + messages.size());
  Encoder out(packet);
  out(static_cast<uint32_t>(packet.size()), Type::kTbatch, uint16_t{1}, count);
  out.put_raw(messages);
  return packet;
}

}  // namespace

TEST_CASE("malformed packets end the session") {
  TempTree tree;
  const std::vector<std::vector<std::byte>> packets = {
      bytes_from({1}),
      bytes_from({7, 0, 0, 0, 120, 0}),
      bytes_from({8, 0, 0, 0, 120, 0, 0}),                            // says more than it is
      bytes_from({6, 0, 0, 0, 120, 0, 0}),                            // shorter than a header
      bytes_from({7, 0, 0, 0, 120, 0, 0}),                            // Tclunk without a fid
      bytes_from({12, 0, 0, 0, 120, 0, 0, 1, 0, 0, 0, 9}),            // and with too much
      bytes_from({255, 255, 255, 255, 120, 0, 0, 1, 0, 0, 0}),        // an absurd length
      bytes_from({11, 0, 0, 0, 120, 0, 0, 1, 0, 0, 0, 11, 0}),        // two in one
      batch_of(2, bytes_from({11, 0, 0, 0, 120, 0, 0, 1, 0, 0, 0})),  // fewer than counted
      batch_of(1, batch_of(0, {})),                                   // nested
      batch_of(60000, {}),
  };
  for (const auto& packet : packets) {
    Raw raw(tree.path());
    raw.start();
    CHECK(raw.send(Data(packet)) == Type::kTlerror);
    CHECK(raw.send(Tclunk{1}) == Type::kTlerror);
  }
  Raw raw(tree.path());
  CHECK(raw.send(Tclunk{1}) == Type::kTlerror);  // before Tversion
}

TEST_CASE("the first error of a batch stops it") {
  TempTree tree;
  Raw raw(tree.path());
  raw.start();
  std::array<std::byte, 512> room;
  Encoder out(room);
  encode(out, 1, Tmkdir{1, "one", 0755, 0});
  encode(out, 2, Tmkdir{99, "two", 0755, 0});
  encode(out, 3, Tmkdir{1, "three", 0755, 0});
  CHECK(raw.send(Data(batch_of(3, Data(room).first(out.size())))) == reply_type(Type::kTbatch));
  Decoder replies(raw.reply().body);
  CHECK(next_frame(replies).take().type == reply_type(Type::kTmkdir));
  CHECK(next_frame(replies).take().type == Type::kRlerror);
  CHECK(replies.remaining() == 0);
  CHECK(tree.exists("one"));
  CHECK_FALSE(tree.exists("three"));
}

TEST_CASE("a plain session knows nothing of the extension") {
  TempTree tree;
  Raw raw(tree.path());
  raw.start(kPlainVersion);
  CHECK(raw.send(Tstat{1}) == Type::kRlerror);
  CHECK(raw.send(Tas{0}) == Type::kRlerror);
  CHECK(raw.send(Data(batch_of(0, {}))) == Type::kRlerror);
}

TEST_CASE("names that are no names are refused") {
  TempTree tree;
  tree.dir("a");
  tree.file("f", "x");
  Raw raw(tree.path());
  raw.start();
  for (const std::string_view name :
       {std::string_view(".."), std::string_view("."), std::string_view(""),
        std::string_view("a/f"), std::string_view("/etc"), std::string_view("a\0b", 3)}) {
    Twalk walk{1, 2, {}};
    walk.names.name[0] = name;
    walk.names.count = 1;
    CHECK(raw.send(walk) == Type::kRlerror);
    CHECK(raw.send(Tmkdir{1, name, 0755, 0}) == Type::kRlerror);
    CHECK(raw.send(Tunlinkat{1, name, 0x200}) == Type::kRlerror);
    CHECK(raw.send(Tcreate{1, 3, name, O_RDWR, 0644, 0}) == Type::kRlerror);
    CHECK(raw.send(Tsymlink{1, name, "x", 0}) == Type::kRlerror);
    CHECK(raw.send(Trenameat{1, "f", 1, name}) == Type::kRlerror);
    CHECK(raw.send(Trenameat{1, name, 1, "f"}) == Type::kRlerror);
  }
  CHECK(tree.exists("f"));
}

TEST_CASE("fids in use, unknown and too many") {
  TempTree tree;
  Raw raw(tree.path());
  raw.start();
  CHECK(raw.send(Tattach{1, kNoFid, "", "m", 0}) == Type::kRlerror);
  CHECK(raw.send(Twalk{77, 2, {}}) == Type::kRlerror);
  CHECK(raw.send(Twalk{1, kNoFid, {}}) == Type::kRlerror);
  for (uint32_t i = 2; i <= 100; i++) CHECK(raw.send(Twalk{1, i, {}}) == reply_type(Type::kTwalk));
  CHECK(raw.send(Twalk{1, 101, {}}) == Type::kRlerror);
  CHECK(raw.send(Twalk{1, 1, {}}) == reply_type(Type::kTwalk));
  CHECK(raw.send(Tattach{101, kNoFid, "", "other", 0}) == Type::kRlerror);
}

TEST_CASE("symbolic links swapped in lead nowhere") {
  TempTree tree;
  tree.dir("in/d");
  tree.dir("out");
  tree.file("in/d/f", "inside");
  tree.file("out/f", "outside");
  tree.symlink("../out", "in/link");
  Served served(tree.path("in"));
  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    const std::string d = tree.path("in/d"), link = tree.path("in/link");
    while (!stop) renameat2(AT_FDCWD, d.c_str(), AT_FDCWD, link.c_str(), RENAME_EXCHANGE);
  });
  int opened = 0;
  for (int i = 0; i < 3000; i++) {
    WalkReply reply = served.walk("d/f", O_RDONLY);
    if (!reply.opened.file) continue;
    opened++;
    char text[16] = {};
    REQUIRE(pread(reply.opened.file.get(), text, sizeof text, 0) == 6);
    REQUIRE(std::string_view(text) == "inside");
  }
  stop = true;
  swapper.join();
  CHECK(opened > 0);
}

TEST_CASE("what is no file is never opened, and nothing waits") {
  TempTree tree;
  REQUIRE(mkfifo(tree.path("fifo").c_str(), 0666) == 0);
  const UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{AF_UNIX, {}};
  tree.path("sock").copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(bind(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  const bool devices = mknod(tree.path("null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0;
  tree.symlink("fifo", "link");
  Served served(tree.path());
  for (const std::string name : {"fifo", "sock", "null"}) {
    if (name == "null" && !devices) continue;
    for (const uint32_t flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
      WalkReply reply = served.walk(name, flags);
      REQUIRE(reply.steps.size() == 1);
      CHECK(reply.failure.error == Errno::kNxIo);
      CHECK(reply.failure.rule == Rule::kSpecialFile);
      CHECK_FALSE(reply.opened.file);
    }
  }
  CHECK(served.walk("link", O_RDONLY).failure.error == Errno::kLoop);
  ServerError error;
  CHECK(served.client->mknod(served.root(), "dev", S_IFBLK | 0666, makedev(8, 0), {}, &error)
            .error() == Errno::kPerm);
  CHECK(error.rule == Rule::kSpecialFile);
  CHECK_FALSE(tree.exists("dev"));
  CHECK(served.client->mknod(served.root(), "fifo2", S_IFIFO | 0600, 0, {}).ok());
  CHECK(tree.exists("fifo2"));
}

TEST_CASE("proc, sysfs and their like are neither served nor entered") {
  for (const char* path : {"/proc", "/proc/self", "/sys", "/dev/pts"}) {
    const UniqueFd root(open(path, O_PATH));
    if (!root) continue;
    CHECK(check_mount_source(root.get()).error() == Errno::kAcces);
  }
  const MaybeFailure failure =
      Gofer::check({"0", UniqueFd(open("/proc", O_PATH)), MountAccess::kReadOnly, "/proc", {}});
  REQUIRE(failure);
  CHECK(failure->what.find("/proc") != std::string::npos);
  CHECK_FALSE(failure->remedy.empty());
  Served served("/", {.access = MountAccess::kReadOnly});
  for (const std::string path : {"proc/self/mem", "proc/version", "sys/kernel"}) {
    WalkReply reply = served.walk(path, O_RDONLY);
    CHECK(reply.steps.empty());
    CHECK(reply.failure.error == Errno::kAcces);
    CHECK(reply.failure.rule == Rule::kFileSystem);
  }
  // A listing does not look into them either.
  const auto listed = served.client->list(served.root(), Listed::kAttributes);
  REQUIRE(listed.ok());
  for (const DirectoryEntry& entry : listed->page.entries) {
    if (entry.name == "proc") CHECK_FALSE(entry.attr);
  }
}

TEST_CASE("a read-only mount is read-only in every way") {
  TempTree tree;
  tree.dir("d");
  tree.file("d/f", "x");
  Served served(tree.path(), {.access = MountAccess::kReadOnly});
  Client& client = *served.client;
  WalkReply reply = served.walk("d/f", O_RDONLY);
  REQUIRE(reply.opened.file);
  CHECK(pwrite(reply.opened.file.get(), "y", 1, 0) < 0);
  CHECK(ftruncate(reply.opened.file.get(), 0) < 0);
  const uint32_t file = last(reply), dir = reply.steps[0].fid.number();
  for (const uint32_t flags : {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC}) {
    ServerError error;
    CHECK(client.open(file, flags, &error).error() == Errno::kRoFs);
    CHECK(error.rule == Rule::kReadOnly);
  }
  CHECK(client.create(dir, "n", O_RDWR, 0644, {}).error() == Errno::kRoFs);
  CHECK(client.create(dir, "f", O_RDWR, 0644, {}).error() == Errno::kRoFs);
  CHECK(client.create(dir, "", O_TMPFILE | O_RDWR, 0644, {}).error() == Errno::kRoFs);
  CHECK(client.mkdir(dir, "n", 0755, {}).error() == Errno::kRoFs);
  CHECK(client.symlink(dir, "n", "x", {}).error() == Errno::kRoFs);
  CHECK(client.mknod(dir, "n", S_IFIFO, 0, {}).error() == Errno::kRoFs);
  CHECK(client.link(dir, file, "n").error() == Errno::kRoFs);
  CHECK(client.unlink(dir, "f", 0).error() == Errno::kRoFs);
  CHECK(client.rename(dir, "f", dir, "g", 0).error() == Errno::kRoFs);
  for (const uint32_t valid : {kSetMode, kSetUid, kSetSize, kSetAtime, kSetCtime}) {
    CHECK(client.set_attr(file, {.valid = valid}).error() == Errno::kRoFs);
  }
  CHECK(client.set_xattr(file, "user.a", {}, 0).error() == Errno::kRoFs);
  CHECK(client.remove_xattr(file, "user.a").error() == Errno::kRoFs);
  CHECK(tree.text("d/f") == "x");
}

TEST_CASE("a donated descriptor has the access that was asked for") {
  TempTree tree;
  tree.file("f", "x");
  Served served(tree.path());
  WalkReply reply = served.walk("f", O_RDONLY);
  CHECK(pwrite(reply.opened.file.get(), "y", 1, 0) < 0);
  reply = served.walk("f", O_WRONLY);
  CHECK(pwrite(reply.opened.file.get(), "y", 1, 0) == 1);
  CHECK(served.walk("f", O_ACCMODE).failure.error == Errno::kInval);
}

TEST_CASE("hidden names stay hidden") {
  TempTree tree;
  tree.dir("home/.ssh");
  tree.dir("home/other/sub");
  tree.file("home/.ssh/id", "secret");
  tree.file("home/f", "x");
  Served served(tree.path(), {.hide = {tree.path("home/.ssh"), "**/.env", "**/sub/key"}});
  Client& client = *served.client;
  WalkReply reply = served.walk("home/.ssh/id", O_RDONLY);
  CHECK(reply.failure.error == Errno::kNoEnt);
  CHECK(reply.failure.rule == Rule::kHidden);
  const WalkReply at_home = served.walk("home");
  const uint32_t home = last(at_home);
  // What is not there at all is nothing to report.
  reply = served.walk("home/.env");
  CHECK(reply.failure.error == Errno::kNoEnt);
  CHECK(reply.failure.rule == Rule::kNone);
  ServerError error;
  CHECK(client.create(home, ".env", O_RDWR, 0644, {}, &error).error() == Errno::kAcces);
  CHECK(error.rule == Rule::kHidden);
  WalkReply file = served.walk("home/f");
  CHECK(client.link(home, last(file), ".env").error() == Errno::kAcces);
  CHECK(client.rename(home, "f", home, ".env", 0).error() == Errno::kAcces);
  CHECK(client.rename(home, ".ssh", home, "seen", 0).error() == Errno::kNoEnt);
  CHECK(client.unlink(home, ".ssh", AT_REMOVEDIR).error() == Errno::kNoEnt);
  // A directory must not carry hidden files to where no pattern matches them.
  CHECK(client.rename(served.root(), "home", served.root(), "house", 0).error() == Errno::kXDev);
  WalkReply other = served.walk("home/other");
  CHECK(client.rename(last(other), "sub", last(other), "bus", 0).error() == Errno::kXDev);
  CHECK(client.rename(home, "other", home, "another", 0).ok());
  // Listings name them for the record, without attributes; plain ones not at all.
  const auto listed = client.list(home, Listed::kAttributes);
  REQUIRE(listed.ok());
  bool seen = false;
  for (const DirectoryEntry& entry : listed->page.entries) {
    if (entry.name != ".ssh") continue;
    seen = entry.hidden && !entry.attr;
  }
  CHECK(seen);
  Served plain(tree.path(), {.hide = {"**/.ssh"}, .dialect = Dialect::kPlain});
  WalkReply plain_home = plain.walk("home");
  const auto names = plain.client->list(last(plain_home), Listed::kAttributes);
  REQUIRE(names.ok());
  for (const DirectoryEntry& entry : names->page.entries) CHECK(entry.name != ".ssh");
}

TEST_CASE("id bits, foreign attributes and file capabilities do not reach the host") {
  TempTree tree;
  tree.file("f", "");
  Served served(tree.path());
  WalkReply file = served.walk("f");
  CHECK(served.client->set_attr(last(file), {.valid = kSetMode, .mode = 06755}).ok());
  struct stat st;
  REQUIRE(stat(tree.path("f").c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0755);
  CHECK(served.client->create(served.root(), "g", O_RDWR, 04755, {}).ok());
  REQUIRE(stat(tree.path("g").c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0755);
  const std::array<std::byte, 4> value{};
  for (const std::string_view name : {"security.capability", "trusted.x", "security.selinux", ""}) {
    CHECK_FALSE(served.client->set_xattr(last(file), name, value, 0).ok());
  }
}

TEST_CASE("256 descriptors are enough for any number of fids") {
  TempTree tree;
  constexpr int kFiles = 1000;
  tree.dir("d/e");
  for (int i = 0; i < kFiles; i++) tree.file("d/e/f" + std::to_string(i), std::to_string(i));
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit small{256, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &small) == 0);
  {
    Served served(tree.path(), {.limits = Limits::for_descriptors(256).take()});
    std::vector<WalkReply> kept;
    for (int i = 0; i < kFiles; i++) {
      kept.push_back(served.walk("d/e/f" + std::to_string(i)));
      REQUIRE(kept.back().failure.error == Errno::kOk);
    }
    // Their descriptors are long gone; they are found again, also under another parent name.
    REQUIRE(served.client->rename(served.root(), "d", served.root(), "moved", 0).ok());
    for (int i = 0; i < kFiles; i += 7) {
      Result<RemoteOpen> opened = served.client->open(last(kept[static_cast<size_t>(i)]), O_RDONLY);
      REQUIRE(opened.ok());
      char text[8] = {};
      CHECK(pread(opened->file.get(), text, sizeof text, 0) > 0);
      CHECK(std::string(text) == std::to_string(i));
    }
    // Another file in its place is not taken for it.
    std::filesystem::remove(tree.path("moved/e/f0"));
    tree.file("moved/e/new", "new");
    std::filesystem::rename(tree.path("moved/e/new"), tree.path("moved/e/f0"));
    for (int i = 200; i < 700; i++) (void)served.client->stat(last(kept[static_cast<size_t>(i)]));
    CHECK(served.client->open(last(kept[0]), O_RDONLY).error() == Errno::kStale);
    // Directories that are open cost one each, and are bounded.
    std::vector<Client::OpenedDirectory> open;
    Errno error = Errno::kOk;
    for (int i = 0; i < 300 && error == Errno::kOk; i++) {
      Result<Client::OpenedDirectory> listed =
          served.client->list(served.root(), Listed::kAttributes);
      error = listed.error();
      if (listed.ok()) open.push_back(std::move(listed).take());
    }
    CHECK(error == Errno::kMFile);
    CHECK(open.size() > 50);
    CHECK(served.client->stat(last(kept[500])).ok());
  }
  setrlimit(RLIMIT_NOFILE, &before);
  CHECK(Limits::for_descriptors(32).error() == Errno::kMFile);
}

TEST_CASE("without /proc files are reopened by name, and checked") {
  TempTree tree;
  tree.file("f", "first");
  Served served(tree.path(), {.proc = false});
  WalkReply reply = served.walk("f", O_RDWR);
  REQUIRE(reply.opened.file);
  CHECK(served.client->link(served.root(), last(reply), "g").error() == Errno::kOpNotSupp);
  tree.file("other", "other");
  std::filesystem::rename(tree.path("other"), tree.path("f"));
  CHECK(served.client->open(last(reply), O_RDWR | O_TRUNC).error() == Errno::kStale);
  CHECK(tree.text("f") == "other");
}
