// epoll: level and edge triggering, one-shot, nesting, lifetime of entries.
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include <atomic>

#include "tests/guest/guest_test.h"

namespace {

struct Pipe {
  int ends[2];
  Pipe() { REQUIRE(pipe2(ends, O_NONBLOCK) == 0); }
  int reader() const { return ends[0]; }
  int writer() const { return ends[1]; }
  void put(const char* text = "x") const {
    CHECK_EQ(write(writer(), text, strlen(text)), strlen(text));
  }
  void drain() const {
    char buffer[64];
    while (read(reader(), buffer, sizeof buffer) > 0) {
    }
  }
};

int make_epoll() {
  int fd = epoll_create1(EPOLL_CLOEXEC);
  REQUIRE(fd >= 0);
  return fd;
}

int control(int epoll, int op, int fd, uint32_t events, uint64_t data = 0) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = data;
  return epoll_ctl(epoll, op, fd, &event);
}

// The events of the one entry that is ready, 0 for none; more than one is a failure.
uint32_t ready(int epoll, int timeout = 0) {
  epoll_event events[4] = {};
  int count = epoll_wait(epoll, events, 4, timeout);
  CHECK(count == 0 || count == 1);
  return count == 1 ? events[0].events : 0;
}

}  // namespace

CASE(level_triggered) {
  int epoll = make_epoll();
  Pipe channel;
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN, 77));
  CHECK_EQ(ready(epoll), 0);
  channel.put();
  epoll_event event = {};
  CHECK_EQ(epoll_wait(epoll, &event, 1, -1), 1);
  CHECK_EQ(event.events, EPOLLIN);
  CHECK_EQ(event.data.u64, 77);
  CHECK_EQ(ready(epoll), EPOLLIN);  // as long as it is ready
  channel.drain();
  CHECK_EQ(ready(epoll), 0);
}

CASE(edge_triggered) {
  int epoll = make_epoll();
  Pipe channel;
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN | EPOLLET));
  channel.put();
  CHECK_EQ(ready(epoll), EPOLLIN);
  CHECK_EQ(ready(epoll), 0);
  channel.put();  // new data is a new edge although the old was not read
  CHECK_EQ(ready(epoll), EPOLLIN);
  CHECK_EQ(ready(epoll), 0);
  CHECK_OK(control(epoll, EPOLL_CTL_MOD, channel.reader(), EPOLLIN | EPOLLET));  // re-arms
  CHECK_EQ(ready(epoll), EPOLLIN);
}

CASE(edge_triggered_add_of_a_ready_file_reports_once) {
  int epoll = make_epoll();
  Pipe channel;
  channel.put();
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN | EPOLLET));
  CHECK_EQ(ready(epoll), EPOLLIN);
  CHECK_EQ(ready(epoll), 0);
}

CASE(one_shot) {
  int epoll = make_epoll();
  Pipe channel;
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN | EPOLLONESHOT));
  channel.put();
  CHECK_EQ(ready(epoll), EPOLLIN);
  channel.put();
  CHECK_EQ(ready(epoll), 0);
  CHECK_OK(control(epoll, EPOLL_CTL_MOD, channel.reader(), EPOLLIN | EPOLLONESHOT));
  CHECK_EQ(ready(epoll), EPOLLIN);
}

CASE(hangup_needs_no_asking) {
  int epoll = make_epoll();
  Pipe channel;
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), 0));
  CHECK_EQ(ready(epoll), 0);
  channel.put();
  CHECK_EQ(ready(epoll), 0);
  close(channel.writer());
  CHECK_EQ(ready(epoll), EPOLLHUP);
}

CASE(errors) {
  int epoll = make_epoll();
  Pipe channel;
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN));
  CHECK_ERRNO(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN), EEXIST);
  CHECK_ERRNO(control(epoll, EPOLL_CTL_MOD, channel.writer(), EPOLLIN), ENOENT);
  CHECK_ERRNO(control(epoll, EPOLL_CTL_DEL, channel.writer(), 0), ENOENT);
  CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_DEL, channel.reader(), nullptr));
  CHECK_ERRNO(control(epoll, 9, channel.reader(), 0), EINVAL);
  CHECK_ERRNO(control(epoll, EPOLL_CTL_ADD, 999, EPOLLIN), EBADF);
  CHECK_ERRNO(control(999, EPOLL_CTL_ADD, channel.reader(), EPOLLIN), EBADF);
  CHECK_ERRNO(control(channel.reader(), EPOLL_CTL_ADD, channel.writer(), EPOLLIN), EINVAL);
  CHECK_ERRNO(control(epoll, EPOLL_CTL_ADD, epoll, EPOLLIN), EINVAL);
  int file = open("file", O_RDWR | O_CREAT, 0600);
  CHECK_ERRNO(control(epoll, EPOLL_CTL_ADD, file, EPOLLIN), EPERM);
  epoll_event event;
  CHECK_ERRNO(epoll_wait(epoll, &event, 0, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_epoll_wait, epoll, &event, -1, 0), EINVAL);
  CHECK_ERRNO(epoll_wait(channel.reader(), &event, 1, 0), EINVAL);
  CHECK_ERRNO(epoll_create1(1), EINVAL);
  CHECK_ERRNO(epoll_create(0), EINVAL);
  CHECK_ERRNO(syscall(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, channel.reader(), 8), EFAULT);
}

CASE(an_entry_lives_as_long_as_the_open_file) {
  int epoll = make_epoll();
  Pipe channel;
  int duplicate = dup(channel.reader());
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN, 5));
  CHECK_OK(
      control(epoll, EPOLL_CTL_ADD, duplicate, EPOLLIN, 6));  // another key: (file, descriptor)
  CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_DEL, duplicate, nullptr));
  close(channel.reader());
  channel.put();
  CHECK_EQ(ready(epoll), EPOLLIN);  // the duplicate keeps the description open, the entry stays
  close(duplicate);
  CHECK_EQ(ready(epoll), 0);
}

CASE(many_events_are_handed_out_fairly) {
  int epoll = make_epoll();
  Pipe channels[5];
  for (uint32_t i = 0; i < 5; ++i) {
    channels[i].put();
    CHECK_OK(control(epoll, EPOLL_CTL_ADD, channels[i].reader(), EPOLLIN, i));
  }
  // Level-triggered entries go to the back of the list once reported.
  int seen[5] = {};
  for (int round = 0; round < 5; ++round) {
    epoll_event events[2];
    CHECK_EQ(epoll_wait(epoll, events, 2, 0), 2);
    for (auto& event : events) ++seen[event.data.u64];
  }
  for (int count : seen) CHECK_EQ(count, 2);
}

CASE(nested) {
  int outer = make_epoll(), inner = make_epoll();
  Pipe channel;
  CHECK_OK(control(inner, EPOLL_CTL_ADD, channel.reader(), EPOLLIN));
  CHECK_OK(control(outer, EPOLL_CTL_ADD, inner, EPOLLIN));
  CHECK_EQ(ready(outer), 0);
  channel.put();
  CHECK_EQ(ready(outer), EPOLLIN);
  CHECK_EQ(ready(inner), EPOLLIN);
  channel.drain();
  CHECK_EQ(ready(outer), 0);
  CHECK_ERRNO(control(inner, EPOLL_CTL_ADD, outer, EPOLLIN), ELOOP);
}

CASE(nesting_depth_is_bounded) {
  int chain[8];
  for (int& fd : chain) fd = make_epoll();
  int linked = 0;
  for (int i = 0; i + 1 < 8; ++i) {
    if (control(chain[i], EPOLL_CTL_ADD, chain[i + 1], EPOLLIN) != 0) {
      CHECK_EQ(errno, ELOOP);
      break;
    }
    ++linked;
  }
  CHECK(linked < 7);
}

CASE(exclusive) {
  int epoll = make_epoll();
  Pipe channel;
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN | EPOLLEXCLUSIVE));
  CHECK_ERRNO(control(epoll, EPOLL_CTL_MOD, channel.reader(), EPOLLIN | EPOLLEXCLUSIVE), EINVAL);
  CHECK_ERRNO(control(epoll, EPOLL_CTL_MOD, channel.reader(), EPOLLIN), EINVAL);
  CHECK_ERRNO(
      control(epoll, EPOLL_CTL_ADD, channel.writer(), EPOLLOUT | EPOLLEXCLUSIVE | EPOLLONESHOT),
      EINVAL);
  channel.put();
  CHECK_EQ(ready(epoll), EPOLLIN);
}

CASE(timeout_and_wake_up) {
  int epoll = make_epoll();
  Pipe channel;
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN));
  int64_t start = guest::now_ns(CLOCK_MONOTONIC);
  CHECK_EQ(ready(epoll, 20), 0);
  CHECK(guest::now_ns(CLOCK_MONOTONIC) - start >= 20000000);
  pid_t parent = getpid();
  pid_t pid = guest::spawn([&] {
    guest::wait_until_blocked(parent);
    channel.put();
  });
  CHECK_EQ(ready(epoll, -1), EPOLLIN);
  CHECK_EXIT(pid, 0);
}

CASE(an_entry_added_while_another_thread_waits) {
  static int epoll;
  epoll = make_epoll();
  Pipe channel;
  channel.put();
  static std::atomic<pid_t> waiter;
  pthread_t thread;
  pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        waiter = static_cast<pid_t>(syscall(SYS_gettid));
        return reinterpret_cast<void*>(static_cast<uintptr_t>(ready(epoll, 10000)));
      },
      nullptr);
  while (waiter == 0) guest::sleep_ms(1);
  guest::wait_until_blocked(getpid(), waiter);
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN));
  void* result = nullptr;
  pthread_join(thread, &result);
  CHECK_EQ(reinterpret_cast<uintptr_t>(result), EPOLLIN);
}

namespace {

// SIGUSR1 with a handler, blocked and pending; `none` lets it through.
struct BlockedSignal {
  static volatile sig_atomic_t caught;
  sigset_t none;

  BlockedSignal() {
    ::signal(SIGUSR1, [](int) { caught = caught + 1; });
    sigset_t usr1;
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, nullptr);
    raise(SIGUSR1);
  }
};
volatile sig_atomic_t BlockedSignal::caught = 0;

}  // namespace

CASE(pwait_swaps_the_mask) {
  BlockedSignal signal;
  int epoll = make_epoll();
  epoll_event event;
  CHECK_ERRNO(epoll_pwait(epoll, &event, 1, 1000, &signal.none), EINTR);
  CHECK_EQ(signal.caught, 1);
}

CASE(pwait2_counts_in_nanoseconds) {
  int epoll = make_epoll();
  Pipe channel;
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, channel.reader(), EPOLLIN));
  epoll_event event = {};
  timespec timeout = {0, 20000000};
  int64_t start = guest::now_ns(CLOCK_MONOTONIC);
  int count = epoll_pwait2(epoll, &event, 1, &timeout, nullptr);
  if (count == -1 && errno == ENOSYS) guest::skip("epoll_pwait2 came with Linux 5.11");
  CHECK_EQ(count, 0);
  CHECK(guest::now_ns(CLOCK_MONOTONIC) - start >= 20000000);
  timeout = {0, 1000000000};
  CHECK_ERRNO(epoll_pwait2(epoll, &event, 1, &timeout, nullptr), EINVAL);
  timeout = {-1, 0};
  CHECK_ERRNO(epoll_pwait2(epoll, &event, 1, &timeout, nullptr), EINVAL);
  CHECK_ERRNO(syscall(SYS_epoll_pwait2, epoll, &event, 1, 8, nullptr, 8), EFAULT);
  pid_t parent = getpid();
  pid_t pid = guest::spawn([&] {
    guest::wait_until_blocked(parent);
    channel.put();
  });
  CHECK_EQ(epoll_pwait2(epoll, &event, 1, nullptr, nullptr), 1);  // no timeout: for ever
  CHECK_EQ(event.events, EPOLLIN);
  CHECK_EXIT(pid, 0);
  timeout = {0, 0};
  CHECK_EQ(epoll_pwait2(epoll, &event, 1, &timeout, nullptr), 1);
}

CASE(pwait2_swaps_the_mask) {
  BlockedSignal signal;
  int epoll = make_epoll();
  epoll_event event;
  timespec second = {1, 0};
  int count = epoll_pwait2(epoll, &event, 1, &second, &signal.none);
  if (count == -1 && errno == ENOSYS) guest::skip("epoll_pwait2 came with Linux 5.11");
  CHECK_ERRNO(count, EINTR);
  CHECK_EQ(signal.caught, 1);
  CHECK_ERRNO(syscall(SYS_epoll_pwait2, epoll, &event, 1, &second, &signal.none, 4), EINVAL);
}

CASE(both_directions_of_one_descriptor) {
  int epoll = make_epoll();
  int event = eventfd(0, EFD_NONBLOCK);
  CHECK_OK(control(epoll, EPOLL_CTL_ADD, event, EPOLLIN | EPOLLOUT));
  CHECK_EQ(ready(epoll), EPOLLOUT);
  CHECK_OK(eventfd_write(event, 1));
  CHECK_EQ(ready(epoll), EPOLLIN | EPOLLOUT);
  CHECK_OK(control(epoll, EPOLL_CTL_MOD, event, EPOLLIN));
  CHECK_EQ(ready(epoll), EPOLLIN);
}
