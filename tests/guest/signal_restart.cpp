// Interrupted system calls: which restart under SA_RESTART, which never do, and what they have done
// by then.
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"

namespace {

volatile sig_atomic_t caught;

void handle(int flags) {
  struct sigaction action = {};
  action.sa_handler = [](int) { caught = caught + 1; };
  action.sa_flags = flags;
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
}

// A child that sends SIGUSR1 once this thread sleeps, and then runs `after` once the signal has
// been handled and the thread sleeps again (when after is given).
template <class After>
pid_t interrupt_then(After after) {
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    guest::wait_until_blocked(parent);
    kill(parent, SIGUSR1);
    guest::sleep_ms(10);
    after();
    _exit(0);
  }
  return pid;
}

pid_t interrupt() {
  return interrupt_then([] {});
}

struct Pipe {
  int ends[2];
  Pipe() { REQUIRE(pipe(ends) == 0); }
};

}  // namespace

CASE(read_restarts_under_sa_restart) {
  handle(SA_RESTART);
  Pipe channel;
  pid_t pid = interrupt_then([&] { (void)!write(channel.ends[1], "x", 1); });
  char byte = 0;
  CHECK_EQ(read(channel.ends[0], &byte, 1), 1);
  CHECK_EQ(byte, 'x');
  CHECK_EQ(caught, 1);
  CHECK_EXIT(pid, 0);
}

CASE(read_is_interrupted_without) {
  handle(0);
  Pipe channel;
  pid_t pid = interrupt();
  char byte;
  CHECK_ERRNO(read(channel.ends[0], &byte, 1), EINTR);
  CHECK_EQ(caught, 1);
  CHECK_EXIT(pid, 0);
}

CASE(an_ignored_signal_interrupts_nothing) {
  signal(SIGUSR1, SIG_IGN);
  Pipe channel;
  pid_t pid = interrupt_then([&] { (void)!write(channel.ends[1], "x", 1); });
  char byte;
  CHECK_EQ(read(channel.ends[0], &byte, 1), 1);
  CHECK_EXIT(pid, 0);
}

CASE(a_stop_and_continue_restarts_whatever_the_flags) {
  Pipe channel, ready;
  pid_t pid = guest::spawn([&] {
    handle(0);
    char byte = 0;
    CHECK_EQ(read(channel.ends[0], &byte, 1), 1);
    CHECK_EQ(caught, 0);
  });
  guest::wait_until_blocked(pid);
  kill(pid, SIGSTOP);
  int status = 0;
  CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
  kill(pid, SIGCONT);
  CHECK_EQ(write(channel.ends[1], "x", 1), 1);
  CHECK_EXIT(pid, 0);
}

CASE(a_partial_write_returns_what_it_wrote) {
  handle(SA_RESTART);
  Pipe channel;
  size_t capacity = static_cast<size_t>(fcntl(channel.ends[1], F_GETPIPE_SZ));
  std::string data(capacity + 1000, 'd');
  pid_t pid = interrupt();
  CHECK_EQ(write(channel.ends[1], data.data(), data.size()), capacity);
  CHECK_EQ(caught, 1);
  CHECK_EXIT(pid, 0);
}

CASE(wait_restarts_or_not) {
  pid_t sleeper = fork();
  if (sleeper == 0) {
    for (;;) pause();
  }
  handle(0);
  pid_t pid = interrupt();
  CHECK_ERRNO(waitpid(sleeper, nullptr, 0), EINTR);
  CHECK_EXIT(pid, 0);
  handle(SA_RESTART);
  pid = interrupt_then([sleeper] { kill(sleeper, SIGTERM); });
  int status = 0;
  CHECK_EQ(waitpid(sleeper, &status, 0), sleeper);
  CHECK_EQ(guest::status_text(status), "killed by SIGTERM");
  CHECK_EQ(caught, 2);
  CHECK_EXIT(pid, 0);
}

CASE(nanosleep_reports_the_rest) {
  handle(SA_RESTART);
  pid_t pid = interrupt();
  timespec want = {10, 0}, rest = {};
  CHECK_ERRNO(nanosleep(&want, &rest), EINTR);
  CHECK(rest.tv_sec == 9 || rest.tv_sec == 8);
  CHECK_EXIT(pid, 0);
}

CASE(nanosleep_goes_on_after_a_stop) {
  pid_t pid = guest::spawn([] {
    int64_t start = guest::now_ns(CLOCK_MONOTONIC);
    timespec want = {0, 150000000};
    CHECK_OK(nanosleep(&want, nullptr));
    int64_t slept = guest::now_ns(CLOCK_MONOTONIC) - start;
    CHECK(slept >= 150000000);
    CHECK(slept < 5000000000);
  });
  guest::wait_until_blocked(pid);
  kill(pid, SIGSTOP);
  CHECK_EQ(waitpid(pid, nullptr, WUNTRACED), pid);
  kill(pid, SIGCONT);
  CHECK_EXIT(pid, 0);
}

CASE(absolute_clock_nanosleep_has_no_rest) {
  handle(SA_RESTART);
  pid_t pid = interrupt();
  timespec until = {}, rest = {-5, -5};
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += 10;
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, &rest), EINTR);
  CHECK_EQ(rest.tv_sec, -5);
  CHECK_EXIT(pid, 0);
}

CASE(poll_select_and_epoll_are_never_restarted_by_handlers) {
  handle(SA_RESTART);
  Pipe channel;
  pollfd entry = {channel.ends[0], POLLIN, 0};
  pid_t pid = interrupt();
  CHECK_ERRNO(poll(&entry, 1, 10000), EINTR);
  CHECK_EXIT(pid, 0);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(channel.ends[0], &set);
  timeval timeout = {10, 0};
  pid = interrupt();
  CHECK_ERRNO(select(channel.ends[0] + 1, &set, nullptr, nullptr, &timeout), EINTR);
  CHECK(timeout.tv_sec == 9 || timeout.tv_sec == 8);  // Linux updates it
  CHECK_EXIT(pid, 0);
  int epoll = epoll_create1(0);
  epoll_event event = {};
  pid = interrupt();
  CHECK_ERRNO(epoll_wait(epoll, &event, 1, 10000), EINTR);
  CHECK_EXIT(pid, 0);
  CHECK_EQ(caught, 3);
}

CASE(pause_always_returns_after_a_handler) {
  handle(SA_RESTART);
  pid_t pid = interrupt();
  CHECK_ERRNO(pause(), EINTR);
  CHECK_EXIT(pid, 0);
}

CASE(futex_wait) {
  static uint32_t word;
  handle(0);
  pid_t pid = interrupt();
  CHECK_ERRNO(syscall(SYS_futex, &word, FUTEX_WAIT, 0, nullptr, nullptr, 0), EINTR);
  CHECK_EXIT(pid, 0);
  timespec timeout = {10, 0};
  handle(SA_RESTART);
  pid = interrupt();
  // A relative timeout makes it a restart-block call, which handlers always interrupt.
  CHECK_ERRNO(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &timeout, nullptr, 0), EINTR);
  CHECK_EXIT(pid, 0);
}

CASE(file_locks) {
  int mine = open("lock", O_RDWR | O_CREAT, 0600);
  int go[2];
  REQUIRE(pipe(go) == 0);
  pid_t holder = fork();
  if (holder == 0) {
    int fd = open("lock", O_RDWR);
    flock(fd, LOCK_EX);
    (void)!write(go[1], "x", 1);
    for (;;) pause();
  }
  char byte;
  REQUIRE(read(go[0], &byte, 1) == 1);
  handle(0);
  pid_t pid = interrupt();
  CHECK_ERRNO(flock(mine, LOCK_EX), EINTR);
  CHECK_EXIT(pid, 0);
  handle(SA_RESTART);
  pid = interrupt_then([holder] { kill(holder, SIGKILL); });
  CHECK_OK(flock(mine, LOCK_EX));
  CHECK_EXIT(pid, 0);
  CHECK_KILLED(holder, SIGKILL);
}

CASE(opening_a_fifo) {
  REQUIRE(mkfifo("fifo", 0600) == 0);
  handle(0);
  pid_t pid = interrupt();
  CHECK_ERRNO(open("fifo", O_RDONLY), EINTR);
  CHECK_EXIT(pid, 0);
  handle(SA_RESTART);
  pid = interrupt_then([] { close(open("fifo", O_WRONLY)); });
  CHECK_OK(open("fifo", O_RDONLY));
  CHECK_EXIT(pid, 0);
}

CASE(sockets_restart_unless_they_have_a_timeout) {
  int pair[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  handle(SA_RESTART);
  pid_t pid = interrupt_then([&] { (void)!write(pair[1], "x", 1); });
  char byte;
  CHECK_EQ(recv(pair[0], &byte, 1, 0), 1);
  CHECK_EXIT(pid, 0);
  timeval timeout = {10, 0};
  CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
  pid = interrupt();
  CHECK_ERRNO(recv(pair[0], &byte, 1, 0), EINTR);
  CHECK_EXIT(pid, 0);
}

CASE(many_interruptions_lose_nothing) {
  // An interval timer fires all the time while data flows through a pipe.
  handle(SA_RESTART);
  struct sigaction action = {};
  action.sa_handler = [](int) { caught = caught + 1; };
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  Pipe channel;
  pid_t pid = guest::spawn([&] {
    for (int i = 0; i < 200; ++i) {
      CHECK_EQ(write(channel.ends[1], &i, sizeof i), sizeof i);
      timespec gap = {0, 300000};
      nanosleep(&gap, nullptr);
    }
  });
  itimerval interval = {{0, 500}, {0, 500}};
  REQUIRE(setitimer(ITIMER_REAL, &interval, nullptr) == 0);
  for (int i = 0; i < 200; ++i) {
    int value = -1;
    REQUIRE(read(channel.ends[0], &value, sizeof value) == sizeof value);
    REQUIRE(value == i);
  }
  interval = {};
  setitimer(ITIMER_REAL, &interval, nullptr);
  CHECK(caught > 0);
  CHECK_EXIT(pid, 0);
}
