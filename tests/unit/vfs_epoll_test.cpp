#include "sentry/vfs/epoll.h"

#include <linux/magic.h>
#include <sys/eventfd.h>

#include <atomic>
#include <thread>

#include "sentry/fs/event_fd.h"
#include "sentry/fs/pipe.h"
#include "sentry/vfs/poll.h"
#include "tests/unit/test.h"
#include "tests/unit/vfs_fixture.h"

namespace boxrun::vfs {
namespace {

struct Polls : testing::Tree {
  Ref<Mount> anonymous = AnonymousFileSystem::create("anon", 20, ANON_INODE_FS_MAGIC, clock);
  Ref<FileDescription> event(uint32_t initial = 0) {
    return fs::create_event_fd(anonymous, initial, 0, caller.credentials).take();
  }
  Ref<Epoll> epoll() { return Epoll::create(anonymous, caller.credentials); }
};

void add_one(FileDescription& event) {
  const uint64_t one = 1;
  IoBuffers from(bytes_of(one));
  CHECK(event.write(from, {}).ok());
}
void clear(FileDescription& event) { CHECK(testing::Tree::read_all(event, 8).ok()); }

std::vector<uint64_t> collect(Epoll& epoll, size_t max = 100) {
  std::vector<uint64_t> data;
  auto events = epoll.collect(max);
  if (events.ok()) {
    for (const auto& event : *events) data.push_back(event.data);
  }
  return data;
}
using List = std::vector<uint64_t>;

TEST_CASE("epoll: level, edge, one-shot") {
  Polls p;
  auto epoll = p.epoll();
  auto level = p.event();
  auto edge = p.event();
  auto once = p.event();
  CHECK(epoll->add(1, level, {EPOLLIN, 1}).ok());
  CHECK(epoll->add(2, edge, {EPOLLIN | EPOLLET, 2}).ok());
  CHECK(epoll->add(3, once, {EPOLLIN | EPOLLONESHOT, 3}).ok());
  CHECK(collect(*epoll).empty());
  CHECK(epoll->ready() == 0);
  add_one(*level);
  add_one(*edge);
  add_one(*once);
  CHECK(epoll->ready() == kReadable);
  CHECK(collect(*epoll) == List{1, 2, 3});
  CHECK(collect(*epoll) == List{1});
  add_one(*edge);
  add_one(*once);
  CHECK(collect(*epoll) == List{1, 2});
  clear(*level);
  CHECK(collect(*epoll).empty());
  CHECK(epoll->modify(3, once, {EPOLLIN | EPOLLONESHOT, 33}).ok());
  CHECK(collect(*epoll) == List{33});
  CHECK(epoll->remove(2, edge).ok());
  add_one(*edge);
  CHECK(collect(*epoll).empty());
}

TEST_CASE("epoll: errors of epoll_ctl") {
  Polls p;
  auto epoll = p.epoll();
  auto event = p.event();
  CHECK(epoll->add(0, p.open("/", O_RDONLY).take(), {EPOLLIN, 0}).error() == Errno::kPerm);
  CHECK(epoll->add(0, epoll, {EPOLLIN, 0}).error() == Errno::kInval);
  CHECK(epoll->remove(1, event).error() == Errno::kNoEnt);
  CHECK(epoll->modify(1, event, {}).error() == Errno::kNoEnt);
  CHECK(epoll->add(1, event, {EPOLLIN, 0}).ok());
  CHECK(epoll->add(1, event, {EPOLLIN, 0}).error() == Errno::kExist);
  CHECK(epoll->add(2, event, {EPOLLIN, 0}).ok());  // another descriptor of the same file
  CHECK(epoll->modify(1, event, {EPOLLIN | EPOLLEXCLUSIVE, 0}).error() == Errno::kInval);
  CHECK(epoll->add(3, event, {EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 0}).error() ==
        Errno::kInval);
  CHECK(epoll->add(3, event, {EPOLLIN | EPOLLEXCLUSIVE, 0}).ok());
  CHECK(epoll->modify(3, event, {EPOLLIN, 0}).error() == Errno::kInval);
  CHECK(Epoll::of(*epoll) == epoll.get());
  CHECK(Epoll::of(*event) == nullptr);
}

TEST_CASE("epoll: what is reported goes to the back of the line") {
  Polls p;
  auto epoll = p.epoll();
  std::vector<Ref<FileDescription>> events;
  for (int i = 0; i < 4; i++) {
    events.push_back(p.event(1));
    CHECK(epoll->add(i, events.back(), {EPOLLIN, static_cast<uint64_t>(i)}).ok());
  }
  CHECK(collect(*epoll, 3) == List{0, 1, 2});
  CHECK(collect(*epoll, 3) == List{3, 0, 1});
}

TEST_CASE("epoll: a file that is closed leaves, an epoll that is closed lets go") {
  Polls p;
  auto epoll = p.epoll();
  auto event = p.event(1);
  CHECK(epoll->add(1, event, {EPOLLIN, 1}).ok());
  event = nullptr;
  CHECK(collect(*epoll).empty());
  event = p.event(1);
  CHECK(epoll->add(1, event, {EPOLLIN, 2}).ok());
  epoll = nullptr;
  add_one(*event);
}

TEST_CASE("epoll: nesting, and its limits") {
  Polls p;
  auto event = p.event();
  std::vector<Ref<Epoll>> chain;
  for (int i = 0; i < 6; i++) chain.push_back(p.epoll());
  CHECK(chain[0]->add(0, event, {EPOLLIN, 0}).ok());
  for (size_t i = 1; i < 5; i++) {
    CHECK(chain[i]->add(0, chain[i - 1], {EPOLLIN, i}).ok());
  }
  CHECK(chain[5]->add(0, chain[4], {EPOLLIN, 5}).error() == Errno::kLoop);
  CHECK(chain[0]->add(1, chain[4], {EPOLLIN, 0}).error() == Errno::kLoop);
  CHECK(chain[4]->ready() == 0);
  add_one(*event);  // wakes through five epolls
  CHECK(chain[4]->ready() == kReadable);
  CHECK(collect(*chain[4]) == List{4});
  clear(*event);
  CHECK(collect(*chain[4]).empty());
}

TEST_CASE("epoll: waiters, writers and closers in threads") {
  Polls p;
  auto epoll = p.epoll();
  std::atomic<int> seen{0};
  std::atomic<bool> stop{false};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 2; i++) {
    threads.emplace_back([&] {
      Sleeper sleeper;
      while (!stop) {
        const WaitQueue::Entry entry(*epoll->queue(), kReadable, sleeper);
        if (const auto got = collect(*epoll); !got.empty()) {
          seen += static_cast<int>(got.size());
          continue;
        }
        static_cast<void>(
            sleeper.sleep(std::chrono::steady_clock::now() + std::chrono::milliseconds(5)));
      }
    });
  }
  for (int round = 0; round < 300; round++) {
    auto event = p.event();
    CHECK(epoll->add(7, event, {EPOLLIN | EPOLLET, 7}).ok());
    std::jthread writer([event] { add_one(*event); });
    if (round % 3 == 0) CHECK(epoll->remove(7, event).ok());
    event = nullptr;
    writer.join();
  }
  auto last = p.event();
  CHECK(epoll->add(8, last, {EPOLLIN | EPOLLONESHOT, 8}).ok());
  const int before = seen;
  add_one(*last);
  for (int i = 0; i < 2000 && seen == before; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(seen > before);
  stop = true;
}

TEST_CASE("poll: many files, one sleeper") {
  Polls p;
  auto first = p.event();
  auto second = p.event();
  std::vector<PollItem> items{{first, kReadable}, {nullptr, kReadable}, {second, kReadable}};
  CHECK(poll_ready(items) == 0);
  Sleeper sleeper;
  std::jthread writer([&] { add_one(*second); });
  {
    const PollWait wait(items, sleeper);
    while (poll_ready(items) == 0) {
      REQUIRE(sleeper.sleep(std::chrono::steady_clock::now() + std::chrono::seconds(10)).ok());
    }
  }
  CHECK(items[0].ready == 0);
  CHECK((items[2].ready & kReadable) != 0);
}

}  // namespace
}  // namespace boxrun::vfs
