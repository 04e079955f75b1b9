// poll, ppoll, select, pselect.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "tests/guest/guest_test.h"

namespace {

struct Pipe {
  int ends[2];
  Pipe() { REQUIRE(pipe(ends) == 0); }
  int reader() const { return ends[0]; }
  int writer() const { return ends[1]; }
};

sigset_t only(int signo) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signo);
  return set;
}

}  // namespace

CASE(poll_reports_what_is_ready) {
  Pipe empty, full;
  CHECK_EQ(write(full.writer(), "x", 1), 1);
  pollfd entries[4] = {{empty.reader(), POLLIN, 0},
                       {full.reader(), POLLIN, 0},
                       {empty.writer(), POLLOUT, 0},
                       {-1, POLLIN, 7}};
  CHECK_EQ(poll(entries, 4, 1000), 2);
  CHECK_EQ(entries[0].revents, 0);
  CHECK_EQ(entries[1].revents, POLLIN);
  CHECK_EQ(entries[2].revents, POLLOUT);
  CHECK_EQ(entries[3].revents, 0);  // negative descriptors are skipped and cleared
}

CASE(poll_closed_descriptor) {
  pollfd entry = {999, POLLIN, 0};
  CHECK_EQ(poll(&entry, 1, 1000), 1);
  CHECK_EQ(entry.revents, POLLNVAL);
}

CASE(regular_files_are_always_ready) {
  int fd = open("file", O_RDWR | O_CREAT, 0600);
  pollfd entry = {fd, POLLIN | POLLOUT | POLLPRI, 0};
  CHECK_EQ(poll(&entry, 1, 0), 1);
  CHECK_EQ(entry.revents, POLLIN | POLLOUT);
  int dir = open(".", O_RDONLY);
  entry = {dir, POLLIN, 0};
  CHECK_EQ(poll(&entry, 1, 0), 1);
}

CASE(poll_times_out) {
  Pipe channel;
  pollfd entry = {channel.reader(), POLLIN, 99};
  int64_t start = guest::now_ns(CLOCK_MONOTONIC);
  CHECK_EQ(poll(&entry, 1, 20), 0);
  CHECK(guest::now_ns(CLOCK_MONOTONIC) - start >= 20000000);
  CHECK_EQ(entry.revents, 0);
  CHECK_EQ(poll(nullptr, 0, 1), 0);
  CHECK_EQ(poll(&entry, 1, 0), 0);
}

CASE(poll_wakes_up) {
  Pipe channel;
  pid_t parent = getpid();
  pid_t pid = guest::spawn([&] {
    guest::wait_until_blocked(parent);
    CHECK_EQ(write(channel.writer(), "x", 1), 1);
  });
  pollfd entry = {channel.reader(), POLLIN, 0};
  CHECK_EQ(poll(&entry, 1, -1), 1);
  CHECK_EQ(entry.revents, POLLIN);
  CHECK_EXIT(pid, 0);
}

CASE(poll_errors) {
  rlimit files = {64, 64};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &files) == 0);
  pollfd entries[65] = {};
  for (auto& entry : entries) entry.fd = -1;
  CHECK_ERRNO(poll(entries, 65, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_poll, 8, 1, 0), EFAULT);
}

CASE(the_same_descriptor_twice) {
  Pipe channel;
  CHECK_EQ(write(channel.writer(), "x", 1), 1);
  pollfd entries[2] = {{channel.reader(), POLLIN, 0}, {channel.reader(), POLLIN, 0}};
  CHECK_EQ(poll(entries, 2, 0), 2);
}

CASE(ppoll_swaps_the_mask) {
  static volatile sig_atomic_t caught;
  signal(SIGUSR1, [](int) { caught = caught + 1; });
  sigset_t usr1 = only(SIGUSR1), none;
  sigemptyset(&none);
  sigprocmask(SIG_BLOCK, &usr1, nullptr);
  raise(SIGUSR1);
  timespec wait = {5, 0};
  CHECK_ERRNO(ppoll(nullptr, 0, &wait, &none), EINTR);
  CHECK_EQ(caught, 1);
  sigset_t now;
  sigprocmask(SIG_BLOCK, nullptr, &now);
  CHECK(sigismember(&now, SIGUSR1));
  // What is ready wins: the pending signal stays pending.
  Pipe channel;
  CHECK_EQ(write(channel.writer(), "x", 1), 1);
  raise(SIGUSR1);
  pollfd entry = {channel.reader(), POLLIN, 0};
  CHECK_EQ(ppoll(&entry, 1, &wait, &none), 1);
}

CASE(ppoll_timeouts) {
  timespec wait = {0, 10000000};
  CHECK_EQ(syscall(SYS_ppoll, nullptr, 0, &wait, nullptr, 8), 0);
  CHECK_EQ(wait.tv_sec, 0);
  CHECK_EQ(wait.tv_nsec, 0);  // the system call writes back what is left
  wait = {0, -1};
  CHECK_ERRNO(ppoll(nullptr, 0, &wait, nullptr), EINVAL);
  wait = {0, 1000000000};
  CHECK_ERRNO(ppoll(nullptr, 0, &wait, nullptr), EINVAL);
  sigset_t set;
  sigemptyset(&set);
  wait = {0, 0};
  CHECK_ERRNO(syscall(SYS_ppoll, nullptr, 0, &wait, &set, 7), EINVAL);
}

CASE(select_sets) {
  Pipe empty, full;
  CHECK_EQ(write(full.writer(), "x", 1), 1);
  fd_set readers, writers;
  FD_ZERO(&readers);
  FD_ZERO(&writers);
  FD_SET(empty.reader(), &readers);
  FD_SET(full.reader(), &readers);
  FD_SET(empty.writer(), &writers);
  timeval timeout = {5, 0};
  CHECK_EQ(select(full.writer() + 1, &readers, &writers, nullptr, &timeout), 2);
  CHECK(!FD_ISSET(empty.reader(), &readers));
  CHECK(FD_ISSET(full.reader(), &readers));
  CHECK(FD_ISSET(empty.writer(), &writers));
}

CASE(select_hangup_is_readable) {
  Pipe channel;
  close(channel.writer());
  fd_set readers;
  FD_ZERO(&readers);
  FD_SET(channel.reader(), &readers);
  CHECK_EQ(select(channel.reader() + 1, &readers, nullptr, nullptr, nullptr), 1);
}

CASE(select_errors) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(50, &set);  // closed, but within the table of 64 that every process starts with
  timeval timeout = {0, 0};
  CHECK_ERRNO(select(51, &set, nullptr, nullptr, &timeout), EBADF);
  CHECK_ERRNO(select(-1, nullptr, nullptr, nullptr, &timeout), EINVAL);
  timeout = {-1, 0};
  CHECK_ERRNO(select(0, nullptr, nullptr, nullptr, &timeout), EINVAL);
}

CASE(select_for_longer_than_there_is_time) {
  timeval timeout = {INT64_MAX, INT64_MAX};
  CHECK_ERRNO(syscall(SYS_select, 0, nullptr, nullptr, nullptr, &timeout), EINVAL);
}

CASE(select_as_a_sleep) {
  timeval timeout = {0, 20000};
  int64_t start = guest::now_ns(CLOCK_MONOTONIC);
  CHECK_EQ(select(0, nullptr, nullptr, nullptr, &timeout), 0);
  CHECK(guest::now_ns(CLOCK_MONOTONIC) - start >= 20000000);
  CHECK_EQ(timeout.tv_usec, 0);
}

CASE(pselect_swaps_the_mask) {
  static volatile sig_atomic_t caught;
  signal(SIGUSR2, [](int) { caught = caught + 1; });
  sigset_t usr2 = only(SIGUSR2), none;
  sigemptyset(&none);
  sigprocmask(SIG_BLOCK, &usr2, nullptr);
  pid_t parent = getpid();
  pid_t pid = guest::spawn([parent] {
    guest::wait_until_blocked(parent);
    kill(parent, SIGUSR2);
  });
  timespec wait = {10, 0};
  CHECK_ERRNO(pselect(0, nullptr, nullptr, nullptr, &wait, &none), EINTR);
  CHECK_EQ(caught, 1);
  CHECK_EXIT(pid, 0);
}

CASE(socket_pair_states) {
  int pair[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  pollfd entry = {pair[0], POLLIN | POLLOUT | POLLRDHUP, 0};
  CHECK_EQ(poll(&entry, 1, 0), 1);
  CHECK_EQ(entry.revents, POLLOUT);
  shutdown(pair[1], SHUT_WR);
  CHECK_EQ(poll(&entry, 1, 0), 1);
  CHECK_EQ(entry.revents, POLLIN | POLLOUT | POLLRDHUP);
  close(pair[1]);
  CHECK_EQ(poll(&entry, 1, 0), 1);
  CHECK_EQ(entry.revents, POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
}
