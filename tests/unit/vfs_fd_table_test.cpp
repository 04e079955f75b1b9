#include "sentry/vfs/fd_table.h"

#include <map>
#include <random>

#include "sentry/vfs/file_lock.h"
#include "tests/unit/test.h"
#include "tests/unit/vfs_fixture.h"

namespace boxrun::vfs {
namespace {

using testing::Tree;
using OnExec = FdTable::OnExec;

TEST_CASE("fd table: lowest free, limits, errors") {
  Tree t;
  auto table = make_ref<FdTable>();
  const auto file = t.open("/", O_RDONLY).take();
  CHECK(table->install(file, OnExec::kKeep, 4).take() == 0);
  CHECK(table->install(file, OnExec::kClose, 4).take() == 1);
  CHECK(table->install(file, OnExec::kKeep, 4, 3).take() == 3);
  CHECK(table->install(file, OnExec::kKeep, 4).take() == 2);
  CHECK(table->install(file, OnExec::kKeep, 4).error() == Errno::kMFile);
  CHECK(table->install(file, OnExec::kKeep, 4, 4).error() == Errno::kInval);
  CHECK(table->install(file, OnExec::kKeep, 0).error() == Errno::kMFile);
  CHECK(table->get(-1).error() == Errno::kBadF);
  CHECK(table->get(99).error() == Errno::kBadF);
  CHECK(table->close(1).ok());
  CHECK(table->close(1).error() == Errno::kBadF);
  CHECK(table->install_pair(file, file, OnExec::kKeep, 4).error() == Errno::kMFile);
  const auto pair = table->install_pair(file, file, OnExec::kKeep, 5).take();
  CHECK(pair.first == 1);
  CHECK(pair.second == 4);
  CHECK(table->replace(0, 9, OnExec::kClose, 9).error() == Errno::kBadF);
  CHECK(table->replace(7, 1, OnExec::kClose, 9).error() == Errno::kBadF);
  CHECK(table->replace(0, 8, OnExec::kClose, 9).take() == 8);
  CHECK(table->on_exec(8).take() == OnExec::kClose);
  auto copy = table->clone();
  copy->close_on_exec();
  CHECK(copy->get(8).error() == Errno::kBadF);
  CHECK(table->list(0, 100) == std::vector<int>{0, 1, 2, 3, 4, 8});
  table->mark_range(0, 3, OnExec::kClose);
  table->close_on_exec();
  CHECK(table->list(0, 100) == std::vector<int>{4});
  table->close_range(4, UINT32_MAX);
  CHECK(table->list(0, 100).empty());
  const auto path_only = t.open("/", O_PATH).take();
  CHECK(table->install(path_only, OnExec::kKeep, 4).take() == 0);
  CHECK(table->get(0).error() == Errno::kBadF);
  CHECK(table->get_raw(0).ok());
}

TEST_CASE("fd table: random operations against a naive model") {
  Tree t;
  auto table = make_ref<FdTable>();
  const auto file = t.open("/", O_RDONLY).take();
  std::map<int, OnExec> model;
  std::mt19937 random(7);
  constexpr int kLimit = 40;
  const auto lowest = [&](int from) {
    while (model.count(from) != 0) from++;
    return from;
  };
  for (int i = 0; i < 20'000; i++) {
    const int fd = static_cast<int>(random() % kLimit);
    const OnExec on_exec = random() % 2 == 0 ? OnExec::kKeep : OnExec::kClose;
    switch (random() % 6) {
      case 0:
      case 1: {
        const int from = random() % 3 == 0 ? fd : 0;
        const int expected = lowest(from);
        const auto got = table->install(file, on_exec, kLimit, from);
        REQUIRE(got.ok() == (expected < kLimit));
        if (got.ok()) {
          REQUIRE(*got == expected);
          model[expected] = on_exec;
        }
        break;
      }
      case 2:
      case 3:
        REQUIRE(table->close(fd).ok() == (model.erase(fd) != 0));
        break;
      case 4: {
        const int to = static_cast<int>(random() % kLimit);
        const bool ok = model.count(fd) != 0;
        if (fd == to) break;
        REQUIRE(table->replace(fd, to, on_exec, kLimit).ok() == ok);
        if (ok) model[to] = on_exec;
        break;
      }
      default:
        if (random() % 50 != 0) break;
        table->close_on_exec();
        std::erase_if(model, [](const auto& e) { return e.second == OnExec::kClose; });
    }
    REQUIRE(table->list(0, 1000).size() == model.size());
  }
}

constexpr Range kAll{0, UINT64_MAX};

TEST_CASE("file locks: flock") {
  FileLocks locks;
  int a = 0;
  int b = 0;
  CHECK(locks.flock(&a, LockKind::kShared).ok());
  CHECK(locks.flock(&b, LockKind::kShared).ok());
  CHECK(locks.flock(&b, LockKind::kExclusive).error() == Errno::kAgain);  // and lost its lock
  CHECK(locks.flock(&a, LockKind::kExclusive).ok());
  CHECK(locks.flock(&b, LockKind::kShared).error() == Errno::kAgain);
  locks.unflock(&a);
  CHECK(locks.flock(&b, LockKind::kShared).ok());
}

TEST_CASE("file locks: records split, merge and conflict") {
  FileLocks locks;
  int p = 0;
  int q = 0;
  const LockOwner first{&p, false, 10};
  const LockOwner second{&q, false, 11};
  using K = LockKind;
  CHECK(locks.lock({K::kExclusive, {0, 100}, first}).ok());
  LockOwner blocker;
  CHECK(locks.lock({K::kShared, {50, 60}, second}, &blocker).error() == Errno::kAgain);
  CHECK(blocker.pid == 10);
  locks.unlock(first, {40, 70});
  CHECK(locks.lock({K::kExclusive, {40, 70}, second}).ok());
  CHECK(locks.test({K::kShared, kAll, second})->range == Range{0, 40});
  CHECK(locks.test({K::kShared, {70, 71}, second})->range == Range{70, 100});
  // A shared lock over one's own exclusive one converts it; neighbours merge.
  CHECK(locks.lock({K::kShared, {0, 20}, first}).ok());
  CHECK(locks.test({K::kExclusive, kAll, second})->range == Range{0, 20});
  CHECK(locks.lock({K::kShared, {20, 40}, first}).ok());
  CHECK(locks.test({K::kExclusive, kAll, second})->range == Range{0, 40});
  CHECK(!locks.test({K::kShared, {0, 40}, second}).has_value());
  locks.release_owner(&p);
  CHECK(locks.lock({K::kExclusive, kAll, second}).ok());
}

TEST_CASE("file locks: deadlocks are found") {
  LockWaits waits;
  int a = 0;
  int b = 0;
  int c = 0;
  CHECK(waits.add(&a, &b).ok());
  CHECK(waits.add(&b, &c).ok());
  CHECK(waits.add(&c, &a).error() == Errno::kDeadlk);
  waits.remove(&b, &c);
  CHECK(waits.add(&c, &a).ok());
}

TEST_CASE("file locks: closing a descriptor drops the process's locks, the file drops flocks") {
  Tree t;
  REQUIRE(t.write_file("/f", "") == Errno::kOk);
  auto table = make_ref<FdTable>();
  int other = 0;
  auto one = t.open("/f", O_RDWR).take();
  FileLocks& locks = one->inode().locks();
  CHECK(locks.flock(one.get(), LockKind::kExclusive).ok());
  CHECK(locks.lock({LockKind::kExclusive, kAll, {table.get(), false, 1}}).ok());
  // Any descriptor of the file will do: fcntl(2), "advisory record locking".
  const int fd = table->install(t.open("/f", O_RDONLY).take(), OnExec::kKeep, 10).take();
  REQUIRE(table->close(fd).ok());
  CHECK(locks.lock({LockKind::kExclusive, kAll, {&other, false, 2}}).ok());
  CHECK(locks.flock(&other, LockKind::kShared).error() == Errno::kAgain);
  const Path keeps_the_inode = one->path();
  one = nullptr;
  CHECK(locks.flock(&other, LockKind::kShared).ok());
}

}  // namespace
}  // namespace boxrun::vfs
