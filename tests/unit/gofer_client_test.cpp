// The client against peers that fail, lie, or die.
#include <poll.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <functional>

#include "gofer/protocol_boxrun.h"
#include "tests/unit/gofer_faults.h"
#include "tests/unit/gofer_fixture.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::gofer;

namespace {

uint32_t last(const WalkReply& reply) { return reply.steps.back().fid.number(); }

// A server that answers with what it is told to, once a version was agreed on.
class Liar {
 public:
  using Answer = std::function<void(Encoder&, FdList&)>;
  explicit Liar(std::vector<Answer> answers) : answers_(std::move(answers)) {
    ChannelPair pair = make_channel_pair().take();
    thread_ = std::thread(
        [this, end = std::make_shared<PacketChannel>(std::move(pair.server))] { run(*end); });
    std::vector<std::unique_ptr<Channel>> ends;
    ends.push_back(std::make_unique<PacketChannel>(std::move(pair.client)));
    client = Client::connect(std::move(ends)).value_or(nullptr);
  }
  ~Liar() {
    client.reset();
    thread_.join();
  }
  std::unique_ptr<Client> client;

 private:
  void run(Channel& channel) {
    std::array<std::byte, kMaxMessage> in, out;
    FdList fds;
    if (!channel.receive(in, fds).ok()) return;
    Encoder version(out);
    encode(version, kNoTag, Rversion{kMaxMessage, kBatchVersion});
    (void)channel.send(Data(out).first(version.size()), FdList());
    for (const Answer& answer : answers_) {
      if (!channel.receive(in, fds).ok()) return;
      Encoder encoder(out);
      FdList donated;
      answer(encoder, donated);
      std::ranges::copy(Data(in).subspan(5, 2), out.begin() + 5);  // the tag of the request
      if (!channel.send(Data(out).first(encoder.size()), donated).ok()) return;
    }
    (void)channel.receive(in, fds);
  }
  std::vector<Answer> answers_;
  std::thread thread_;
};

// One batch reply out of `messages`.
template <class... Messages>
Liar::Answer batch(const Messages&... messages) {
  return [=](Encoder& out, FdList&) {
    out(uint32_t{0}, reply_type(Type::kTbatch), uint16_t{0});
    (encode(out, 0, messages), ...);
    out.patch(0, static_cast<uint32_t>(out.size()));
  };
}

}  // namespace

TEST_CASE("a peer that dies is EIO for everybody who waits") {
  TempTree tree;
  tree.file("f", "x");
  Served served(tree.path(), {.channels = 2});
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int i = 0; i < 6; i++) {
    threads.emplace_back([&] {
      for (;;) {
        const Result<RemoteFile> file = served.client->stat(served.root());
        if (file.ok()) continue;
        CHECK(file.error() == Errno::kIo);
        failed++;
        return;
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  served.stop();
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 6);
  CHECK(served.client->dead());
  CHECK(served.client->walk(served.root(), {}).error() == Errno::kIo);
  CHECK(served.client->create(served.root(), "n", O_RDWR, 0600, {}).error() == Errno::kIo);
  CHECK(served.client->list(served.root(), Listed::kAttributes).error() == Errno::kIo);
  CHECK(served.client->get_xattr(served.root(), "user.a").error() == Errno::kIo);
  CHECK(served.client->set_xattr(served.root(), "user.a", {}, 0).error() == Errno::kIo);
  CHECK(served.client->mkdir(served.root(), "d", 0755, {}).error() == Errno::kIo);
  CHECK(served.client->open(served.root(), O_RDONLY).error() == Errno::kIo);
}

TEST_CASE("channels that truncate, fail or are late") {
  TempTree tree;
  tree.dir("a");
  tree.file("a/f", "x");
  for (const FaultyChannel::Fault fault :
       {FaultyChannel::Fault::kTruncate, FaultyChannel::Fault::kSendFails,
        FaultyChannel::Fault::kReceiveFails, FaultyChannel::Fault::kDropFds}) {
    for (int at = 0; at < 6; at++) {
      FaultyChannel::plan = {fault, at};
      Served served(tree.path(), {.wrap = FaultyChannel::wrap});
      if (!served.client) continue;  // the negotiation was hit
      Errno error = Errno::kOk;
      for (int i = 0; i < 8 && error == Errno::kOk; i++) {
        const std::string_view names[] = {"a", "f"};
        const Result<WalkReply> reply =
            served.client->walk(served.root(), names, {.open_flags = O_RDONLY});
        error = reply.error();
      }
      CHECK(error == Errno::kIo);
      CHECK(served.client->dead());
    }
  }
  FaultyChannel::plan = {FaultyChannel::Fault::kDelay, 0};
  Served late(tree.path(), {.wrap = FaultyChannel::wrap});
  REQUIRE(late.client);
  CHECK(late.walk("a/f", O_RDONLY).failure.error == Errno::kOk);
}

TEST_CASE("descriptors for which there is no room are lost, the packet is not") {
  ChannelPair pair = make_channel_pair().take();
  PacketChannel sender(std::move(pair.server)), receiver(std::move(pair.client));
  FdList sent, got;
  sent.push(UniqueFd(dup(STDERR_FILENO)));
  const std::array<std::byte, 4> packet{};
  REQUIRE(sender.send(packet, sent).ok());
  REQUIRE(sender.send(packet, sent).ok());
  // No number is left below the lowest free one.
  const UniqueFd lowest(dup(STDERR_FILENO));
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit full{static_cast<rlim_t>(lowest.get()) + 1, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &full) == 0);
  std::array<std::byte, kMaxMessage> into;
  const Result<size_t> size = receiver.receive(into, got);
  setrlimit(RLIMIT_NOFILE, &before);
  REQUIRE(size.ok());
  CHECK(*size == packet.size());
  CHECK(got.size() == 0);
  CHECK(got.lost());
  CHECK(receiver.receive(into, got).value_or(0) == packet.size());
  CHECK(got.size() == 1);
  CHECK_FALSE(got.lost());
}

TEST_CASE("any corrupted byte of a reply is survived") {
  TempTree tree;
  tree.dir("a");
  tree.file("a/f", "x");
  for (int at = 0; at < 420; at += 3) {
    FaultyChannel::plan = {FaultyChannel::Fault::kCorrupt, at};
    Served served(tree.path(), {.wrap = FaultyChannel::wrap});
    if (!served.client) continue;
    for (int i = 0; i < 3; i++) {
      const std::string_view names[] = {"a", "f"};
      (void)served.client->walk(served.root(), names, {.open_flags = O_RDONLY});
      (void)served.client->list(served.root(), Listed::kAttributes);
    }
  }
}

TEST_CASE("a peer that lies is cut off") {
  const Attr attr{.valid = kAttrBasic, .mode = S_IFREG | 0644};
  const std::string_view name[] = {"f"};
  Qids one;
  one.count = 1;
  SUBCASE("a FIFO in place of a file") {
    Liar liar({[&](Encoder& out, FdList& fds) {
      batch(Rwalk{one}, Rstat{attr, ""}, Ropen{1})(out, fds);
      int ends[2];
      REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
      fds.push(UniqueFd(ends[0]));
      ::close(ends[1]);
    }});
    CHECK(liar.client->walk(0, name, {.open_flags = O_RDONLY}).error() == Errno::kIo);
    CHECK(liar.client->dead());
  }
  SUBCASE("no descriptor at all") {
    Liar liar({batch(Rwalk{one}, Rstat{attr, ""}, Ropen{1})});
    CHECK(liar.client->walk(0, name, {.open_flags = O_RDONLY}).error() == Errno::kIo);
  }
  SUBCASE("the wrong kind of reply") {
    Liar liar({batch(Rstat{attr, ""}, Rstat{attr, ""})});
    CHECK(liar.client->walk(0, name).error() == Errno::kIo);
  }
  SUBCASE("too few replies") {
    Liar liar({batch(Rwalk{one})});
    CHECK(liar.client->walk(0, name).error() == Errno::kIo);
  }
  SUBCASE("errors that are none of errno(3)") {
    Liar liar({batch(Rlerror{512})});
    const Result<WalkReply> reply = liar.client->walk(0, name);
    REQUIRE(reply.ok());
    CHECK(reply->failure.error == Errno::kIo);
  }
  SUBCASE("directory entries that are no names") {
    std::array<std::byte, 256> room;
    Encoder list(room);
    const DirEntryPlus entry{1, 4, 2, "../etc", 1, attr, ""};
    DirEntryPlus::fields(entry, list);
    const std::vector<std::byte> data(room.begin(),
                                      room.begin() + static_cast<ptrdiff_t>(list.size()));
    Liar liar({[&](Encoder& out, FdList& fds) {
      batch(Ropen{0}, Rreaddirplus{1, data})(out, fds);
    }});
    CHECK(liar.client->list(0, Listed::kAttributes).error() == Errno::kIo);
  }
}

TEST_CASE("many threads share a few channels") {
  TempTree tree;
  for (int i = 0; i < 8; i++) tree.dir("t" + std::to_string(i));
  Served served(tree.path(), {.channels = 4, .limits = {.held = 20, .open = 50, .fids = 5000}});
  std::vector<std::thread> threads;
  std::atomic<int> done{0};
  for (int t = 0; t < 8; t++) {
    threads.emplace_back([&, t] {
      const std::string mine = "t" + std::to_string(t);
      WalkReply dir = served.walk(mine);
      Client& client = *served.client;
      for (int i = 0; i < 60; i++) {
        const std::string name = "f" + std::to_string(i % 7), other = "g" + std::to_string(i % 5);
        Result<Client::Created> made = client.create(last(dir), name, O_RDWR, 0644, {});
        if (!made.ok()) continue;
        (void)client.rename(last(dir), name, last(dir), other, 0);
        (void)served.walk(mine + "/" + other, O_RDONLY);
        (void)client.stat(made->found.fid.number());
        (void)client.list(last(dir), Listed::kAttributes);
        // The others' directories, too: the tree's names are shared.
        (void)served.walk("t" + std::to_string((t + 1) % 8) + "/" + other, O_RDONLY);
        if (i % 3 == 0) (void)client.unlink(last(dir), other, 0);
        done++;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(done == 8 * 60);
  CHECK_FALSE(served.client->dead());
}
