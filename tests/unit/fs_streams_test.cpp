#include <fcntl.h>
#include <linux/magic.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>

#include "sentry/fs/dev_fs.h"
#include "sentry/fs/event_fd.h"
#include "sentry/fs/fd_notifier.h"
#include "sentry/fs/host_file.h"
#include "sentry/fs/pipe.h"
#include "sentry/fs/pipe_loan.h"
#include "sentry/fs/special_files.h"
#include "sentry/fs/sys_fs.h"
#include "sentry/fs/timer_fd.h"
#include "sentry/vfs/anonymous.h"
#include "sentry/vfs/poll.h"
#include "tests/unit/test.h"
#include "tests/unit/vfs_fixture.h"

namespace boxrun::fs {
namespace {

using vfs::testing::Tree;

// A tree with devices and pipes, and a task's way to wait.
struct Streams : Tree {
  Ref<vfs::Mount> anonymous =
      vfs::AnonymousFileSystem::create("anon_inodefs", 20, ANON_INODE_FS_MAGIC, clock);
  PipeSystem pipes{vfs::AnonymousFileSystem::create("pipefs", 21, PIPEFS_MAGIC, clock),
                   make_ref<SpaceQuota>(kPipeQuota), *memory_file};
  DeviceFiles devices{pipes};
  // Hides the caller of Tree, which knows no special files.
  vfs::Caller caller{*fs_context, vfs::testing::root_user(), *mounts, devices, &denials};
  Result<Ref<vfs::FileDescription>> open(std::string_view path, int flags) {
    return vfs::open_at(caller, at(path), {flags, 0, 0});
  }
};

Result<size_t> put(vfs::FileDescription& file, std::string_view text) {
  IoBuffers from(as_bytes_of(text.data(), text.size()));
  return file.write(from, {});
}
Result<std::string> get(vfs::FileDescription& file, size_t max = 65536) {
  return Tree::read_all(file, max);
}
// Waits until `events` hold; false after ten seconds.
bool wait_for(vfs::FileDescription& file, Events events) {
  Sleeper sleeper;
  vfs::PollItem item{Ref<vfs::FileDescription>(&file), events};
  const vfs::PollWait wait(std::span<const vfs::PollItem>(&item, 1), sleeper);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (vfs::poll_ready(std::span(&item, 1)) == 0) {
    if (!sleeper.sleep(deadline).ok()) return false;
  }
  return true;
}

TEST_CASE("pipe: bytes, ends, atomic writes") {
  Streams s;
  auto [read_end, write_end] = create_pipe(s.pipes, 0, s.caller.credentials).take();
  CHECK(get(*read_end).error() == Errno::kAgain);
  CHECK(put(*read_end, "x").error() == Errno::kBadF);
  CHECK(get(*write_end).error() == Errno::kBadF);
  CHECK(write_end->ready() == kWritable);
  CHECK(put(*write_end, "hello").take() == 5);
  CHECK(read_end->ready() == kReadable);
  CHECK(get(*read_end, 2).take() == "he");
  CHECK(get(*read_end).take() == "llo");
  const std::string page(kPipeBuf, 'p');
  for (int i = 0; i < 15; i++) REQUIRE(put(*write_end, page).take() == kPipeBuf);
  CHECK(put(*write_end, "x").take() == 1);
  CHECK(put(*write_end, page).error() == Errno::kAgain);  // not in part
  CHECK(write_end->ready() == 0);
  // Larger ones may be cut. Linux fills the last page with the odd end of a write.
  CHECK(put(*write_end, page + "1").take() == 1);
  CHECK(put(*write_end, std::string(8000, 'z')).take() == 8000 - 4096);
  CHECK(get(*read_end, 65536).take().size() == 15 * kPipeBuf + 2 + 3904);
  CHECK(read_end->seek(0, SEEK_CUR).error() == Errno::kSPipe);
  std::byte b[1];
  IoBuffers to(std::span<std::byte>{b});
  CHECK(read_end->pread(to, 0).error() == Errno::kSPipe);
  CHECK(put(*write_end, "last").ok());
  write_end = nullptr;
  CHECK(read_end->ready() == (kReadable | kHangup));
  CHECK(get(*read_end).take() == "last");
  CHECK(get(*read_end).take().empty());
}

TEST_CASE("pipe: without readers") {
  Streams s;
  auto [read_end, write_end] = create_pipe(s.pipes, O_NONBLOCK, s.caller.credentials).take();
  CHECK(write_end->nonblocking());
  read_end = nullptr;
  CHECK(put(*write_end, "x").error() == Errno::kPipe);
  CHECK((write_end->ready() & kError) != 0);
}

TEST_CASE("pipe: packets") {
  Streams s;
  auto [read_end, write_end] = create_pipe(s.pipes, O_DIRECT, s.caller.credentials).take();
  CHECK(put(*write_end, "one").ok());
  CHECK(put(*write_end, "two").ok());
  CHECK(get(*read_end).take() == "one");
  CHECK(get(*read_end, 1).take() == "t");  // the rest is lost
  CHECK(get(*read_end).error() == Errno::kAgain);
  CHECK(put(*write_end, std::string(5000, 'x')).take() == 5000);
  CHECK(get(*read_end).take().size() == kPipeBuf);
  CHECK(get(*read_end).take().size() == 5000 - kPipeBuf);
  for (int i = 0; i < 16; i++) REQUIRE(put(*write_end, "p").ok());
  CHECK(put(*write_end, "p").error() == Errno::kAgain);  // sixteen pages are full
}

TEST_CASE("pipe: capacity") {
  Streams s;
  auto [read_end, write_end] = create_pipe(s.pipes, 0, s.caller.credentials).take();
  const Ref<Credentials> user = vfs::testing::user(1000);
  const Credentials& who = *user;
  CHECK(pipe_capacity(*read_end).take() == 65536);
  CHECK(set_pipe_capacity(*read_end, 1, who).take() == 4096);
  CHECK(put(*write_end, std::string(8192, 'x')).take() == 4096);
  CHECK(set_pipe_capacity(*write_end, 70'000, who).take() == 131'072);
  CHECK(put(*write_end, std::string(8192, 'y')).take() == 8192);
  CHECK(set_pipe_capacity(*write_end, 4096, who).error() == Errno::kBusy);
  CHECK(set_pipe_capacity(*write_end, 2 << 20, who).error() == Errno::kPerm);
  CHECK(get(*read_end).take() == std::string(4096, 'x') + std::string(8192, 'y'));
  CHECK(pipe_capacity(*s.open("/", O_RDONLY).take()).error() == Errno::kBadF);
}

TEST_CASE("pipe: what is lent stays until it is consumed") {
  Streams s;
  auto [read_end, write_end] = create_pipe(s.pipes, 0, s.caller.credentials).take();
  Pipe& pipe = *pipe_of(*read_end);
  CHECK(&pipe == pipe_of(*write_end));
  CHECK(PipeLoan::take(pipe).error() == Errno::kAgain);  // nothing there
  REQUIRE(put(*write_end, "abcdef").ok());
  {
    PipeLoan loan = PipeLoan::take(pipe).take();
    CHECK(PipeLoan::take(pipe).error() == Errno::kAgain);
    CHECK(get(*read_end).error() == Errno::kAgain);
    CHECK(read_end->ready() == 0);
    CHECK(put(*write_end, "gh").ok());
    std::array<std::byte, 4> bytes{};
    CHECK(loan.peek(0, bytes) == 4);
    CHECK(std::memcmp(bytes.data(), "abcd", 4) == 0);
    CHECK(loan.peek(6, bytes) == 2);
    CHECK(std::memcmp(bytes.data(), "gh", 2) == 0);
    CHECK(loan.peek(8, bytes) == 0);
    loan.consume(3);
  }
  CHECK(get(*read_end).take() == "defgh");
  write_end = nullptr;
  std::array<std::byte, 1> byte{};
  CHECK(PipeLoan::take(pipe).take().peek(0, byte) == 0);  // end of file
}

TEST_CASE("pipe: reserved room is nobody else's") {
  Streams s;
  auto [read_end, write_end] = create_pipe(s.pipes, 0, s.caller.credentials).take();
  Pipe& pipe = *pipe_of(*write_end);
  const std::string page(kPipeBuf, 'p');
  for (int i = 0; i < 14; i++) REQUIRE(put(*write_end, page).ok());
  {
    PipeRoom room = PipeRoom::reserve(pipe, 100'000).take();
    CHECK(room.size() == 2 * kPipeBuf);
    CHECK(put(*write_end, page).error() == Errno::kAgain);
    CHECK(write_end->ready() == 0);
    CHECK(PipeRoom::reserve(pipe, 1).error() == Errno::kAgain);
    CHECK(room.fill(IoBuffers(as_bytes_of("abc", 3))).take() == 3);
    CHECK(room.size() == kPipeBuf);  // a page for each
  }
  CHECK(put(*write_end, page).ok());  // what was not used is free again
  CHECK(get(*read_end, 14 * kPipeBuf).ok());
  CHECK(get(*read_end).take() == "abc" + page);
  {
    const PipeRoom room = PipeRoom::reserve(pipe, 5 * kPipeBuf).take();
    CHECK(set_pipe_capacity(*write_end, 4 * kPipeBuf, *s.caller.credentials).error() ==
          Errno::kBusy);
  }
  read_end = nullptr;
  CHECK(PipeRoom::reserve(pipe, 1).error() == Errno::kPipe);
}

TEST_CASE("fifo: opening waits for the other end") {
  Streams s;
  REQUIRE(vfs::make_node(s.caller, s.at("/p"), vfs::FileType::kFifo, 0644, 0).ok());
  CHECK(s.open("/p", O_WRONLY | O_NONBLOCK).error() == Errno::kNxIo);
  auto reader = s.open("/p", O_RDONLY).take();
  CHECK(reader->finish_open().error() == Errno::kAgain);
  auto writer = s.open("/p", O_WRONLY).take();
  CHECK(writer->finish_open().ok());
  CHECK(reader->finish_open().ok());
  CHECK(put(*writer, "hi").ok());
  writer = nullptr;
  CHECK(reader->finish_open().ok());  // it had come
  CHECK(get(*reader).take() == "hi");
  CHECK((reader->ready() & kHangup) != 0);
  reader = nullptr;
  auto quiet = s.open("/p", O_RDONLY | O_NONBLOCK).take();
  CHECK(quiet->finish_open().ok());
  CHECK(quiet->ready() == 0);  // no hang-up before the first writer
  CHECK(get(*quiet).take().empty());
  auto both = s.open("/p", O_RDWR).take();
  CHECK(both->finish_open().ok());
  CHECK(put(*both, "x").ok());
  CHECK(get(*quiet).take() == "x");
}

TEST_CASE("pipe: a reader and a writer in two threads") {
  Streams s;
  auto [read_end, write_end] = create_pipe(s.pipes, 0, s.caller.credentials).take();
  constexpr size_t kTotal = 3 << 20;
  std::jthread writer([end = std::move(write_end)]() mutable {
    std::string text(10'000, 'w');
    for (size_t done = 0; done < kTotal;) {
      const auto wrote = put(*end, std::string_view(text).substr(0, kTotal - done));
      if (wrote.ok()) {
        done += *wrote;
      } else if (!wait_for(*end, kWritable)) {
        break;
      }
    }
    end = nullptr;
  });
  size_t got = 0;
  for (;;) {
    const auto text = get(*read_end, 7'777);
    if (!text.ok()) {
      REQUIRE(wait_for(*read_end, kReadable));
      continue;
    }
    if (text->empty()) break;
    got += text->size();
  }
  CHECK(got == kTotal);
}

TEST_CASE("eventfd: counter and semaphore") {
  Streams s;
  CHECK(create_event_fd(s.anonymous, 0, 0x4000, s.caller.credentials).error() == Errno::kInval);
  const auto number = [](uint64_t value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  auto counter = create_event_fd(s.anonymous, 3, 0, s.caller.credentials).take();
  CHECK(get(*counter, 7).error() == Errno::kInval);
  CHECK(get(*counter).take() == number(3));
  CHECK(get(*counter).error() == Errno::kAgain);
  CHECK(counter->ready() == kWritable);
  CHECK(put(*counter, number(UINT64_MAX)).error() == Errno::kInval);
  CHECK(put(*counter, number(UINT64_MAX - 1)).ok());
  CHECK(counter->ready() == kReadable);
  CHECK(put(*counter, number(1)).error() == Errno::kAgain);
  auto semaphore = create_event_fd(s.anonymous, 2, EFD_SEMAPHORE, s.caller.credentials).take();
  CHECK(get(*semaphore).take() == number(1));
  CHECK(get(*semaphore).take() == number(1));
  CHECK(get(*semaphore).error() == Errno::kAgain);
}

TEST_CASE("timerfd: one-shot, interval, disarmed") {
  Streams s;
  TimerQueue timers;
  const Clock clock;
  const auto who = s.caller.credentials;
  CHECK(create_timer_fd(s.anonymous, CLOCK_PROCESS_CPUTIME_ID, 0, timers, clock, who).error() ==
        Errno::kInval);
  auto timer = create_timer_fd(s.anonymous, CLOCK_MONOTONIC, 0, timers, clock, who).take();
  CHECK(get(*timer).error() == Errno::kAgain);
  CHECK(set_timer_fd(*timer, 0, {3600 * kSecond, 0}).take().value == 0);
  CHECK(get_timer_fd(*timer).take().value > 3590 * kSecond);
  CHECK(set_timer_fd(*timer, 0, {1'000'000, 1'000'000}).take().value > 3590 * kSecond);
  REQUIRE(wait_for(*timer, kReadable));
  std::string count = get(*timer).take();
  CHECK(count.size() == 8);
  REQUIRE(wait_for(*timer, kReadable));
  CHECK(set_timer_fd(*timer, 0, {0, 0}).ok());
  CHECK(get(*timer).error() == Errno::kAgain);  // disarming forgets what has expired
  CHECK(set_timer_fd(*timer, TFD_TIMER_ABSTIME, {1, 0}).ok());  // long ago
  REQUIRE(wait_for(*timer, kReadable));
  CHECK(get_timer_fd(*timer).take().value == 0);
  CHECK(get_timer_fd(*s.open("/", O_RDONLY).take()).error() == Errno::kInval);
}

TEST_CASE("devices") {
  Streams s;
  auto dev = create_dev_fs(5, *s.memory_file, s.clock).take();
  REQUIRE(s.mkdir("/dev") == Errno::kOk);
  REQUIRE(s.mounts->attach(vfs::Mount::create({.file_system = dev}), s.place("/dev").take()).ok());
  auto null = s.open("/dev/null", O_RDWR).take();
  CHECK(put(*null, "gone").take() == 4);
  CHECK(get(*null).take().empty());
  CHECK(null->seek(100, SEEK_SET).take() == 0);
  CHECK(null->queue() == nullptr);
  CHECK(get(*s.open("/dev/zero", O_RDONLY).take(), 5).take() == std::string(5, '\0'));
  CHECK(s.open("/dev/zero", O_RDWR).take()->map().take() == nullptr);
  CHECK(put(*s.open("/dev/full", O_WRONLY).take(), "x").error() == Errno::kNoSpc);
  auto random = s.open("/dev/urandom", O_RDONLY).take();
  CHECK(get(*random, 1000).take() != get(*random, 1000).take());
  CHECK(s.open("/dev/tty", O_RDWR).error() == Errno::kNxIo);
  CHECK(vfs::read_link_at(s.caller, s.at("/dev/fd")).take() == "/proc/self/fd");
  CHECK(s.stat("/dev/null").take().rdev == 0x103);
  REQUIRE(
      vfs::make_node(s.caller, s.at("/dev/odd"), vfs::FileType::kCharDevice, 0666, 0x9901).ok());
  CHECK(s.open("/dev/odd", O_RDWR).error() == Errno::kNxIo);
}

TEST_CASE("sysfs: the CPUs") {
  Streams s;
  const unsigned cpus[] = {0, 1, 2, 33};
  auto sys = create_sys_fs(6, cpus, *s.memory_file, s.clock).take();
  REQUIRE(s.mkdir("/sys") == Errno::kOk);
  REQUIRE(
      s.mounts
          ->attach(vfs::Mount::create({.file_system = sys, .flags = vfs::MountFlags::kReadOnly}),
                   s.place("/sys").take())
          .ok());
  CHECK(s.read_file("/sys/devices/system/cpu/online").take() == "0-2,33\n");
  CHECK(s.read_file("/sys/devices/system/cpu/cpu2/topology/core_id").take() == "2\n");
  const auto topology = [&](const std::string& file) {
    return s.read_file("/sys/devices/system/cpu/cpu33/topology/" + file).take();
  };
  CHECK(topology("thread_siblings") == "2,00000000\n");
  CHECK(topology("thread_siblings_list") == "33\n");
  CHECK(topology("core_siblings") == "2,00000007\n");
  CHECK(topology("package_cpus_list") == "0-2,33\n");
  CHECK(s.read_file("/sys/devices/system/cpu/cpu0/topology/core_cpus").take() == "0,00000001\n");
  CHECK(s.read_file("/sys/devices/system/node/node0/cpumap").take() == "2,00000007\n");
  CHECK(s.stat("/sys/devices/system/cpu/cpu3").error() == Errno::kNoEnt);
  CHECK(s.write_file("/sys/devices/system/cpu/online", "1") == Errno::kRoFs);
  auto one = create_sys_fs(6, {cpus, 1}, *s.memory_file, s.clock).take();
  CHECK(one->root()->lookup("devices").ok());
}

// Host descriptors, and the notifier that watches them.
struct HostStreams : Streams {
  HostStreams() { notifier->start(); }
  Ref<vfs::FileDescription> adopt(int fd) {
    return files->adopt(mount, UniqueFd(fd), "stream", caller.credentials).take();
  }
  std::unique_ptr<FdNotifier> notifier = FdNotifier::create().take();
  Ref<HostFiles> files = HostFiles::create(30, *notifier, nullptr);
  Ref<vfs::Mount> mount = vfs::Mount::create({.file_system = files});
};

TEST_CASE("host streams: a pipe of the host wakes the reader and keeps its flags") {
  HostStreams s;
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  auto file = s.adopt(ends[0]);
  CHECK(get(*file).error() == Errno::kAgain);
  CHECK((::fcntl(ends[0], F_GETFL) & O_NONBLOCK) == 0);
  std::jthread writer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(::write(ends[1], "late", 4) == 4);
  });
  REQUIRE(wait_for(*file, kReadable));
  CHECK(get(*file).take() == "late");
  writer.join();
  ::close(ends[1]);
  CHECK(get(*file).take().empty());
  CHECK((file->ready() & kHangup) != 0);
  CHECK(put(*file, "x").error() == Errno::kBadF);
  CHECK(file->attributes().take().type == vfs::FileType::kFifo);
}

TEST_CASE("host streams: a full pipe of the host does not block") {
  HostStreams s;
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  auto file = s.adopt(ends[1]);
  const std::string chunk(30'000, 'x');
  size_t total = 0;
  for (;;) {
    const auto done = put(*file, chunk);
    if (!done.ok()) {
      CHECK(done.error() == Errno::kAgain);
      break;
    }
    total += *done;
  }
  CHECK(total > 60'000);  // the host counts pages, not all of them full
  std::string drain(65536, '\0');
  std::jthread reader([&] { CHECK(::read(ends[0], drain.data(), drain.size()) > 0); });
  CHECK(wait_for(*file, kWritable));
  reader.join();
  ::close(ends[0]);
}

TEST_CASE("host streams: a regular file keeps the host's offset") {
  HostStreams s;
  char name[] = "/tmp/boxrun_host_file_XXXXXX";
  const int fd = ::mkstemp(name);
  REQUIRE(fd >= 0);
  ::unlink(name);
  REQUIRE(::write(fd, "before ", 7) == 7);
  auto file = s.adopt(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  CHECK(file->queue() == nullptr);
  CHECK(put(*file, "after").take() == 5);
  CHECK(::lseek(fd, 0, SEEK_CUR) == 12);
  CHECK(file->seek(0, SEEK_CUR).take() == 12);
  CHECK(file->seek(0, SEEK_SET).take() == 0);
  CHECK(get(*file).take() == "before after");
  CHECK(file->attributes().take().size == 12);
  IoBuffers from(as_bytes_of("BE", 2));
  CHECK(file->pwrite(from, 0, {}).take() == 2);
  CHECK(::lseek(fd, 0, SEEK_CUR) == 12);
  // Opening /dev/stdout again.
  auto again = file->inode().open({O_RDWR, file->path(), s.caller.credentials}).take();
  CHECK(again->seek(2, SEEK_SET).take() == 2);
  CHECK(get(*again).take() == "fore after");
  ::close(fd);
}

}  // namespace
TEST_CASE("pipes: their buffers are of the memory limit") {
  Streams s;
  const uint64_t free = s.memory_file->available();
  std::vector<PipePair> pairs;
  for (;;) {
    auto pair = create_pipe(s.pipes, 0, s.caller.credentials);
    if (!pair.ok()) {
      CHECK(pair.error() == Errno::kNFile);
      break;
    }
    pairs.push_back(std::move(pair).take());
  }
  CHECK(s.memory_file->refusal(mm::Storage::kMemory).take());
  CHECK(pairs.size() > 64);
  CHECK(s.memory_file->available() < kPipeCapacity + 4096);
  CHECK(set_pipe_capacity(*pairs[0].write, kPipeMaxCapacity, *s.caller.credentials).error() !=
        Errno::kOk);
  pairs.pop_back();
  CHECK(set_pipe_capacity(*pairs[0].write, 4096, *s.caller.credentials).ok());
  pairs.clear();
  CHECK(s.memory_file->available() == free);
}

}  // namespace boxrun::fs
