// eventfd, timerfd, signalfd, memfd with seals.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "tests/guest/guest_test.h"

namespace {

short poll_now(int fd, int timeout = 0) {
  pollfd entry = {fd, POLLIN | POLLOUT, 0};
  CHECK(poll(&entry, 1, timeout) >= 0);
  return entry.revents;
}

}  // namespace

CASE(eventfd_counts) {
  int fd = CHECK_OK(eventfd(3, EFD_NONBLOCK));
  eventfd_t value = 0;
  CHECK_OK(eventfd_read(fd, &value));
  CHECK_EQ(value, 3);
  CHECK_ERRNO(eventfd_read(fd, &value), EAGAIN);
  CHECK_EQ(poll_now(fd), POLLOUT);
  CHECK_OK(eventfd_write(fd, 5));
  CHECK_OK(eventfd_write(fd, 6));
  CHECK_EQ(poll_now(fd), POLLIN | POLLOUT);
  CHECK_OK(eventfd_read(fd, &value));
  CHECK_EQ(value, 11);
}

CASE(eventfd_semaphore) {
  int fd = CHECK_OK(eventfd(2, EFD_NONBLOCK | EFD_SEMAPHORE));
  eventfd_t value = 0;
  CHECK_OK(eventfd_read(fd, &value));
  CHECK_EQ(value, 1);
  CHECK_OK(eventfd_read(fd, &value));
  CHECK_EQ(value, 1);
  CHECK_ERRNO(eventfd_read(fd, &value), EAGAIN);
}

CASE(eventfd_limits) {
  int fd = CHECK_OK(eventfd(0, EFD_NONBLOCK));
  uint64_t value = ~0ULL;
  CHECK_ERRNO(write(fd, &value, 8), EINVAL);
  value = ~0ULL - 1;
  CHECK_EQ(write(fd, &value, 8), 8);
  CHECK_EQ(poll_now(fd), POLLIN);
  value = 1;
  CHECK_ERRNO(write(fd, &value, 8), EAGAIN);
  CHECK_ERRNO(write(fd, &value, 7), EINVAL);
  CHECK_ERRNO(read(fd, &value, 7), EINVAL);
  char large[16];
  CHECK_EQ(read(fd, large, sizeof large), 8);
  CHECK_ERRNO(eventfd(0, 0x1000), EINVAL);
}

CASE(lseek_of_files_without_a_position) {
  sigset_t none;
  sigemptyset(&none);
  const int files[] = {eventfd(0, 0), epoll_create1(0), timerfd_create(CLOCK_MONOTONIC, 0),
                       signalfd(-1, &none, 0)};
  char byte;
  for (int fd : files) {
    CHECK_EQ(lseek(fd, 5, SEEK_SET), 0);  // accepted and without effect
    CHECK_ERRNO(pread(fd, &byte, 1, 0), ESPIPE);
  }
  CHECK_ERRNO(lseek(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)), 0, SEEK_SET), ESPIPE);
}

CASE(eventfd_blocks_and_wakes) {
  int fd = CHECK_OK(eventfd(0, 0));
  pid_t pid = guest::spawn([fd] {
    eventfd_t value = 0;
    CHECK_OK(eventfd_read(fd, &value));
    CHECK_EQ(value, 9);
  });
  guest::wait_until_blocked(pid);
  CHECK_OK(eventfd_write(fd, 9));
  CHECK_EXIT(pid, 0);
}

CASE(timerfd_one_shot) {
  int fd = CHECK_OK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  uint64_t expirations = 0;
  CHECK_ERRNO(read(fd, &expirations, 8), EAGAIN);
  itimerspec timer = {}, now = {};
  timer.it_value.tv_nsec = 10000000;
  int64_t start = guest::now_ns(CLOCK_MONOTONIC);
  CHECK_OK(timerfd_settime(fd, 0, &timer, nullptr));
  CHECK_OK(timerfd_gettime(fd, &now));
  CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 10000000);
  CHECK_EQ(poll_now(fd, 5000), POLLIN);
  CHECK(guest::now_ns(CLOCK_MONOTONIC) - start >= 10000000);
  CHECK_EQ(read(fd, &expirations, 8), 8);
  CHECK_EQ(expirations, 1);
  CHECK_ERRNO(read(fd, &expirations, 8), EAGAIN);
  CHECK_OK(timerfd_gettime(fd, &now));
  CHECK_EQ(now.it_value.tv_nsec, 0);
}

CASE(timerfd_interval_accumulates) {
  int fd = CHECK_OK(timerfd_create(CLOCK_MONOTONIC, 0));
  itimerspec timer = {{0, 5000000}, {0, 5000000}};
  CHECK_OK(timerfd_settime(fd, 0, &timer, nullptr));
  guest::sleep_ms(27);
  uint64_t expirations = 0;
  CHECK_EQ(read(fd, &expirations, 8), 8);
  CHECK(expirations >= 5);
  itimerspec old = {};
  timer = {};
  CHECK_OK(timerfd_settime(fd, 0, &timer, &old));
  CHECK_EQ(old.it_interval.tv_nsec, 5000000);
}

CASE(timerfd_absolute) {
  int fd = CHECK_OK(timerfd_create(CLOCK_REALTIME, 0));
  itimerspec timer = {};
  clock_gettime(CLOCK_REALTIME, &timer.it_value);
  timer.it_value.tv_sec -= 10;  // in the past: expires at once
  CHECK_OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &timer, nullptr));
  uint64_t expirations = 0;
  CHECK_EQ(read(fd, &expirations, 8), 8);
  CHECK_EQ(expirations, 1);
}

CASE(timerfd_errors) {
  CHECK_ERRNO(timerfd_create(77, 0), EINVAL);
  CHECK_ERRNO(timerfd_create(CLOCK_MONOTONIC, 0x1000), EINVAL);
  int fd = CHECK_OK(timerfd_create(CLOCK_MONOTONIC, 0));
  itimerspec timer = {};
  timer.it_value.tv_nsec = 1000000000;
  CHECK_ERRNO(timerfd_settime(fd, 0, &timer, nullptr), EINVAL);
  timer.it_value.tv_nsec = 1;
  CHECK_ERRNO(timerfd_settime(fd, 0x100, &timer, nullptr), EINVAL);
  CHECK_ERRNO(timerfd_settime(0, 0, &timer, nullptr), EINVAL);
  CHECK_ERRNO(timerfd_settime(999, 0, &timer, nullptr), EBADF);
  uint64_t value = 1;
  CHECK_ERRNO(read(fd, &value, 4), EINVAL);
  CHECK_ERRNO(write(fd, &value, 8), EINVAL);
}

CASE(signalfd_reads_signals) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGRTMIN);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  int fd = CHECK_OK(signalfd(-1, &set, SFD_NONBLOCK));
  signalfd_siginfo infos[4];
  CHECK_ERRNO(read(fd, infos, sizeof infos), EAGAIN);
  CHECK_EQ(poll_now(fd), 0);
  kill(getpid(), SIGUSR1);
  sigval value = {};
  value.sival_int = 44;
  sigqueue(getpid(), SIGRTMIN, value);
  CHECK_EQ(poll_now(fd), POLLIN);
  CHECK_EQ(read(fd, infos, sizeof infos), 2 * sizeof infos[0]);
  CHECK_EQ(infos[0].ssi_signo, SIGUSR1);
  CHECK_EQ(infos[0].ssi_code, SI_USER);
  CHECK_EQ(infos[0].ssi_pid, getpid());
  CHECK_EQ(infos[0].ssi_uid, getuid());
  CHECK_EQ(infos[1].ssi_signo, SIGRTMIN);
  CHECK_EQ(infos[1].ssi_int, 44);
  CHECK_ERRNO(read(fd, infos, 10), EINVAL);
}

CASE(signalfd_mask_can_be_changed) {
  sigset_t both, one;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  sigemptyset(&one);
  sigaddset(&one, SIGUSR2);
  sigprocmask(SIG_BLOCK, &both, nullptr);
  int fd = CHECK_OK(signalfd(-1, &one, SFD_NONBLOCK));
  raise(SIGUSR1);
  signalfd_siginfo info;
  CHECK_ERRNO(read(fd, &info, sizeof info), EAGAIN);
  CHECK_EQ(signalfd(fd, &both, 0), fd);
  CHECK_EQ(read(fd, &info, sizeof info), sizeof info);
  CHECK_EQ(info.ssi_signo, SIGUSR1);
  CHECK_ERRNO(signalfd(0, &both, 0), EINVAL);
  CHECK_ERRNO(signalfd(-1, &both, 0x1000), EINVAL);
}

CASE(signalfd_of_a_child_exit) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  int fd = CHECK_OK(signalfd(-1, &set, 0));
  pid_t pid = fork();
  if (pid == 0) _exit(17);
  signalfd_siginfo info;
  CHECK_EQ(read(fd, &info, sizeof info), sizeof info);
  CHECK_EQ(info.ssi_signo, SIGCHLD);
  CHECK_EQ(info.ssi_pid, pid);
  CHECK_EQ(info.ssi_status, 17);
  CHECK_EXIT(pid, 17);
}

CASE(memfd_is_a_file) {
  int fd = CHECK_OK(memfd_create("name", MFD_CLOEXEC));
  CHECK_EQ(write(fd, "data", 4), 4);
  struct stat info = {};
  CHECK_OK(fstat(fd, &info));
  CHECK_EQ(info.st_size, 4);
  CHECK_EQ(info.st_mode & S_IFMT, S_IFREG);
  CHECK_EQ(info.st_nlink, 0);
  char* mapped = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  REQUIRE(mapped != MAP_FAILED);
  CHECK_EQ(memcmp(mapped, "data", 4), 0);
  mapped[0] = 'D';
  char buffer[4];
  CHECK_EQ(pread(fd, buffer, 4, 0), 4);
  CHECK_EQ(buffer[0], 'D');
  CHECK_EQ(pwrite(fd, "x", 1, 1), 1);
  CHECK_EQ(mapped[1], 'x');
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  char path[32], target[64] = {};
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  CHECK(readlink(path, target, sizeof target - 1) > 0);
  CHECK_EQ(std::string(target), "/memfd:name (deleted)");
  CHECK_ERRNO(memfd_create("x", 0x4000), EINVAL);
  CHECK_ERRNO(memfd_create(std::string(300, 'n').c_str(), 0), EINVAL);
}

CASE(seals) {
  int plain = CHECK_OK(memfd_create("plain", 0));
  CHECK_EQ(fcntl(plain, F_GET_SEALS), F_SEAL_SEAL);
  CHECK_ERRNO(fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
  int fd = CHECK_OK(memfd_create("sealed", MFD_ALLOW_SEALING));
  CHECK_EQ(fcntl(fd, F_GET_SEALS), 0);
  CHECK_EQ(write(fd, "12345678", 8), 8);
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
  CHECK_ERRNO(ftruncate(fd, 4), EPERM);
  CHECK_OK(ftruncate(fd, 16));
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
  CHECK_ERRNO(ftruncate(fd, 32), EPERM);
  CHECK_ERRNO(pwrite(fd, "x", 1, 16), EPERM);
  void* mapped = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  REQUIRE(mapped != MAP_FAILED);
  CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
  munmap(mapped, 4096);
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
  CHECK_ERRNO(pwrite(fd, "x", 1, 0), EPERM);
  CHECK_ERRNO(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EPERM);
  CHECK_OK(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
  CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
  CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  int null = open("/dev/null", O_RDWR);
  CHECK_ERRNO(fcntl(null, F_GET_SEALS), EINVAL);
}
