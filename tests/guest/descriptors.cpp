// The descriptor table: dup in all forms, close_range, limits, flags that belong to the descriptor
// or to the open file.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/guest/guest_test.h"
#include "tests/guest/unix_socket.h"

namespace {

constexpr long kCloseRange = 436;
constexpr unsigned kCloseRangeUnshare = 2, kCloseRangeCloexec = 4;

int open_root(int flags = 0) {
  int fd = open("/", O_RDONLY | flags);
  REQUIRE(fd >= 0);
  return fd;
}

bool is_open(int fd) { return fcntl(fd, F_GETFD) != -1; }

}  // namespace

CASE(dup_shares_the_open_file) {
  REQUIRE(guest::write_file("file", "abcdef"));
  int fd = open("file", O_RDONLY | O_CLOEXEC);
  int copy = CHECK_OK(dup(fd));
  CHECK_EQ(fcntl(copy, F_GETFD), 0);
  char byte;
  CHECK_EQ(read(fd, &byte, 1), 1);
  CHECK_EQ(lseek(copy, 0, SEEK_CUR), 1);
  CHECK_OK(fcntl(copy, F_SETFL, O_NONBLOCK));
  CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  close(fd);
  CHECK_EQ(read(copy, &byte, 1), 1);
  CHECK_EQ(byte, 'b');
  CHECK_ERRNO(dup(999), EBADF);
}

CASE(dup2_and_dup3) {
  int fd = open_root();
  CHECK_EQ(dup2(fd, 40), 40);
  CHECK(is_open(40));
  CHECK_EQ(dup2(fd, fd), fd);
  CHECK_ERRNO(dup2(999, 999), EBADF);
  CHECK_ERRNO(dup2(999, 40), EBADF);
  CHECK(is_open(40));
  CHECK_ERRNO(dup2(fd, -1), EBADF);
  CHECK_ERRNO(dup3(fd, fd, 0), EINVAL);
  CHECK_EQ(dup3(fd, 41, O_CLOEXEC), 41);
  CHECK_EQ(fcntl(41, F_GETFD), FD_CLOEXEC);
  CHECK_ERRNO(dup3(fd, 42, O_NONBLOCK), EINVAL);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK_EQ(dup2(fd, ends[1]), ends[1]);  // closes the write end
  char byte;
  CHECK_EQ(read(ends[0], &byte, 1), 0);
}

CASE(dupfd_takes_the_lowest_from_a_minimum) {
  int fd = open_root();
  CHECK_EQ(fcntl(fd, F_DUPFD, 50), 50);
  CHECK_EQ(fcntl(fd, F_DUPFD, 50), 51);
  CHECK_EQ(fcntl(fd, F_DUPFD_CLOEXEC, 50), 52);
  CHECK_EQ(fcntl(52, F_GETFD), FD_CLOEXEC);
  CHECK_ERRNO(fcntl(fd, F_DUPFD, -1), EINVAL);
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  CHECK_ERRNO(fcntl(fd, F_DUPFD, static_cast<int>(limit.rlim_cur)), EINVAL);
}

CASE(descriptor_limit) {
  rlimit limit = {20, 20};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  int last = -1, fd;
  while ((fd = open("/", O_RDONLY)) != -1) last = fd;
  CHECK_EQ(errno, EMFILE);
  CHECK_EQ(last, 19);
  CHECK_ERRNO(dup(0), EMFILE);
  CHECK_ERRNO(dup2(0, 20), EBADF);
  int ends[2];
  CHECK_ERRNO(pipe(ends), EMFILE);
  close(10);
  CHECK_ERRNO(pipe(ends), EMFILE);
  CHECK_EQ(open("/", O_RDONLY), 10);
}

CASE(close_range_closes) {
  for (int fd = 30; fd < 40; ++fd) REQUIRE(dup2(0, fd) == fd);
  CHECK_OK(syscall(kCloseRange, 32, 35, 0));
  CHECK(is_open(31));
  CHECK(!is_open(32));
  CHECK(!is_open(35));
  CHECK(is_open(36));
  CHECK_OK(syscall(kCloseRange, 38, ~0U, 0));
  CHECK(is_open(37));
  CHECK(!is_open(39));
  CHECK_ERRNO(syscall(kCloseRange, 5, 4, 0), EINVAL);
  CHECK_ERRNO(syscall(kCloseRange, 5, 6, 0x100), EINVAL);
  if (syscall(kCloseRange, 36, 36, kCloseRangeCloexec) == 0) {  // Linux 5.11
    CHECK_EQ(fcntl(36, F_GETFD), FD_CLOEXEC);
  }
  CHECK_OK(syscall(kCloseRange, 30, 31, kCloseRangeUnshare));
  CHECK(!is_open(30));
}

CASE(fionbio_and_fioclex) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  int on = 1, off = 0;
  CHECK_OK(ioctl(ends[0], FIONBIO, &on));
  char byte;
  CHECK_ERRNO(read(ends[0], &byte, 1), EAGAIN);
  CHECK_OK(ioctl(ends[0], FIONBIO, &off));
  CHECK_EQ(fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
  CHECK_OK(ioctl(ends[0], FIOCLEX));
  CHECK_EQ(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
  CHECK_OK(ioctl(ends[0], FIONCLEX));
  CHECK_EQ(fcntl(ends[0], F_GETFD), 0);
  CHECK_ERRNO(ioctl(ends[0], 0x12345678), ENOTTY);
  CHECK_ERRNO(ioctl(999, FIONBIO, &on), EBADF);
}

CASE(descriptors_travel_through_sockets) {
  int pair[2];
  guest_unix::make_pair(SOCK_STREAM, pair);
  REQUIRE(guest::write_file("file", "passed"));
  int fd = open("file", O_RDONLY);
  guest_unix::Message out("d", SCM_RIGHTS, fd);
  CHECK_EQ(sendmsg(pair[0], &out.header, 0), 1);
  close(fd);
  guest_unix::Message in;
  CHECK_EQ(recvmsg(pair[1], &in.header, MSG_CMSG_CLOEXEC), 1);
  int received = -1;
  REQUIRE(in.received(SCM_RIGHTS, &received));
  CHECK_EQ(fcntl(received, F_GETFD), FD_CLOEXEC);
  char buffer[8] = {};
  CHECK_EQ(read(received, buffer, 7), 6);
  CHECK_EQ(std::string(buffer), "passed");
}

CASE(owner_of_the_smallest_number) {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  CHECK_ERRNO(fcntl(fds[0], F_SETOWN, INT32_MIN), EINVAL);
}

CASE(closing_standard_descriptors) {
  close(0);
  CHECK_EQ(open("/dev/null", O_RDONLY), 0);
  CHECK_ERRNO(close(-1), EBADF);
  CHECK_ERRNO(close(1 << 30), EBADF);
}

CASE(proc_self_fd_lists_descriptors) {
  int fd = open("/dev/null", O_RDONLY);
  char path[64], target[64] = {};
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  CHECK(readlink(path, target, sizeof target - 1) > 0);
  CHECK_EQ(std::string(target), "/dev/null");
  close(fd);
  CHECK_ERRNO(readlink(path, target, sizeof target - 1), ENOENT);
  struct stat info = {};
  CHECK_OK(lstat("/proc/self/fd/1", &info));
  CHECK(S_ISLNK(info.st_mode));
}
