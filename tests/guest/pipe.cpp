// Pipes and FIFOs.
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "tests/guest/guest_test.h"

namespace {

struct Pipe {
  int read_end, write_end;
  explicit Pipe(int flags = 0) {
    int ends[2];
    REQUIRE(pipe2(ends, flags) == 0);
    read_end = ends[0];
    write_end = ends[1];
  }
};

short poll_now(int fd, short events) {
  pollfd entry = {fd, events, 0};
  CHECK(poll(&entry, 1, 0) >= 0);
  return entry.revents;
}

// Writes until the pipe is full and returns how much went in.
size_t fill(int fd, size_t step) {
  std::string data(step, 'f');
  size_t total = 0;
  for (;;) {
    ssize_t written = write(fd, data.data(), data.size());
    if (written == -1) {
      CHECK_EQ(errno, EAGAIN);
      return total;
    }
    total += static_cast<size_t>(written);
  }
}

}  // namespace

CASE(bytes_pass_in_order) {
  Pipe channel;
  CHECK_EQ(write(channel.write_end, "abc", 3), 3);
  CHECK_EQ(write(channel.write_end, "def", 3), 3);
  char buffer[10] = {};
  CHECK_EQ(read(channel.read_end, buffer, 4), 4);
  CHECK_EQ(read(channel.read_end, buffer + 4, 6), 2);
  CHECK_EQ(std::string(buffer), "abcdef");
}

CASE(end_of_file_after_the_last_writer) {
  Pipe channel;
  int second = dup(channel.write_end);
  CHECK_EQ(write(second, "x", 1), 1);
  close(channel.write_end);
  CHECK_EQ(poll_now(channel.read_end, POLLIN), POLLIN);
  char byte;
  CHECK_EQ(read(channel.read_end, &byte, 1), 1);
  CHECK_EQ(poll_now(channel.read_end, POLLIN), 0);
  close(second);
  CHECK_EQ(poll_now(channel.read_end, POLLIN), POLLHUP);
  CHECK_EQ(read(channel.read_end, &byte, 1), 0);
}

CASE(writing_without_readers) {
  Pipe channel;
  close(channel.read_end);
  signal(SIGPIPE, SIG_IGN);
  CHECK_ERRNO(write(channel.write_end, "x", 1), EPIPE);
  CHECK_EQ(poll_now(channel.write_end, POLLOUT), POLLOUT | POLLERR);
  CHECK_EQ(write(channel.write_end, "", 0), 0);  // nothing to write, nothing noticed
  pid_t pid = guest::spawn([&] {
    signal(SIGPIPE, SIG_DFL);
    (void)!write(channel.write_end, "x", 1);
  });
  CHECK_KILLED(pid, SIGPIPE);
}

CASE(a_reader_that_leaves_wakes_the_writer) {
  Pipe channel;
  pid_t pid = guest::spawn([&] {
    close(channel.read_end);
    signal(SIGPIPE, SIG_IGN);
    std::string data(1 << 20, 'x');
    CHECK_EQ(write(channel.write_end, data.data(), data.size()), 65536);
    CHECK_ERRNO(write(channel.write_end, "x", 1), EPIPE);
  });
  guest::wait_until_blocked(pid);
  close(channel.read_end);
  CHECK_EXIT(pid, 0);
}

CASE(nonblocking) {
  Pipe channel(O_NONBLOCK);
  char byte;
  CHECK_ERRNO(read(channel.read_end, &byte, 1), EAGAIN);
  CHECK_EQ(fill(channel.write_end, 4096), 65536);
  CHECK_ERRNO(write(channel.write_end, "x", 1), EAGAIN);
  CHECK_EQ(poll_now(channel.write_end, POLLOUT), 0);
  std::string page(4096, '\0');
  CHECK_EQ(read(channel.read_end, page.data(), 4096), 4096);
  CHECK_EQ(poll_now(channel.write_end, POLLOUT), POLLOUT);
  CHECK_EQ(write(channel.write_end, "x", 1), 1);
}

CASE(small_writes_are_atomic_large_ones_partial) {
  Pipe channel(O_NONBLOCK);
  fill(channel.write_end, 4096);
  std::string data(4096, 'x');
  CHECK_EQ(read(channel.read_end, data.data(), 100), 100);
  CHECK_ERRNO(write(channel.write_end, data.data(), PIPE_BUF),
              EAGAIN);  // all or nothing up to PIPE_BUF
  std::string sink(8192, '\0');
  CHECK_EQ(read(channel.read_end, sink.data(), 4096 - 100), 4096 - 100);
  std::string large(20000, 'y');
  CHECK_EQ(write(channel.write_end, large.data(), large.size()), 4096);
}

CASE(concurrent_small_writes_never_mix) {
  Pipe channel;
  constexpr int kWriters = 4, kRecords = 200;
  constexpr size_t kRecord = 512;
  for (int writer = 0; writer < kWriters; ++writer) {
    if (fork() == 0) {
      std::string record(kRecord, static_cast<char>('a' + writer));
      for (int i = 0; i < kRecords; ++i)
        (void)!write(channel.write_end, record.data(), record.size());
      _exit(0);
    }
  }
  close(channel.write_end);
  std::string record(kRecord, '\0');
  int count[kWriters] = {};
  for (;;) {
    size_t have = 0;
    while (have < kRecord) {
      ssize_t got = read(channel.read_end, record.data() + have, kRecord - have);
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    if (have == 0) break;
    REQUIRE(have == kRecord);
    REQUIRE(record == std::string(kRecord, record[0]));
    ++count[record[0] - 'a'];
  }
  for (int records : count) CHECK_EQ(records, kRecords);
}

CASE(capacity) {
  Pipe channel(O_NONBLOCK);
  CHECK_EQ(fcntl(channel.read_end, F_GETPIPE_SZ), 65536);
  CHECK_EQ(fcntl(channel.write_end, F_SETPIPE_SZ, 5000), 8192);  // a power of two pages
  CHECK_EQ(fcntl(channel.read_end, F_GETPIPE_SZ), 8192);
  CHECK_EQ(fill(channel.write_end, 4096), 8192);
  CHECK_ERRNO(fcntl(channel.write_end, F_SETPIPE_SZ, 4096), EBUSY);
  CHECK_EQ(fcntl(channel.write_end, F_SETPIPE_SZ, 1 << 20), 1 << 20);
  CHECK_EQ(fill(channel.write_end, 4096), (1 << 20) - 8192);
  CHECK_ERRNO(fcntl(channel.write_end, F_SETPIPE_SZ, -1), EINVAL);
  int file = open("file", O_RDWR | O_CREAT, 0600);
  CHECK_ERRNO(fcntl(file, F_GETPIPE_SZ), EBADF);
}

CASE(fionread) {
  Pipe channel;
  int available = -1;
  CHECK_OK(ioctl(channel.read_end, FIONREAD, &available));
  CHECK_EQ(available, 0);
  CHECK_EQ(write(channel.write_end, "12345", 5), 5);
  CHECK_OK(ioctl(channel.read_end, FIONREAD, &available));
  CHECK_EQ(available, 5);
}

CASE(what_pipes_refuse) {
  Pipe channel;
  CHECK_ERRNO(lseek(channel.read_end, 0, SEEK_CUR), ESPIPE);
  char byte;
  CHECK_ERRNO(pread(channel.read_end, &byte, 1, 0), ESPIPE);
  CHECK_ERRNO(pwrite(channel.write_end, "x", 1, 0), ESPIPE);
  CHECK_ERRNO(read(channel.write_end, &byte, 1), EBADF);
  CHECK_ERRNO(write(channel.read_end, "x", 1), EBADF);
  CHECK_ERRNO(ftruncate(channel.write_end, 0), EINVAL);
  CHECK_ERRNO(fsync(channel.write_end), EINVAL);
  CHECK_ERRNO(fallocate(channel.write_end, 0, 0, 1), ESPIPE);
  int ends[2];
  CHECK_ERRNO(pipe2(ends, O_CREAT), EINVAL);
}

CASE(stat_and_flags) {
  Pipe channel(O_CLOEXEC);
  struct stat info = {};
  CHECK_OK(fstat(channel.read_end, &info));
  CHECK_EQ(info.st_mode, S_IFIFO | 0600);
  CHECK_EQ(info.st_nlink, 1);
  CHECK_EQ(info.st_size, 0);
  CHECK_EQ(fcntl(channel.read_end, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(fcntl(channel.read_end, F_GETFL), O_RDONLY);
  CHECK_EQ(fcntl(channel.write_end, F_GETFL), O_WRONLY);
}

CASE(vectors) {
  Pipe channel;
  iovec out[3] = {{const_cast<char*>("one"), 3}, {nullptr, 0}, {const_cast<char*>("two"), 3}};
  CHECK_EQ(writev(channel.write_end, out, 3), 6);
  char first[2], second[10] = {};
  iovec in[2] = {{first, 2}, {second, 9}};
  CHECK_EQ(readv(channel.read_end, in, 2), 6);
  CHECK_EQ(std::string(second), "etwo");
}

CASE(packet_mode) {
  Pipe channel(O_DIRECT);
  CHECK_EQ(write(channel.write_end, "first", 5), 5);
  CHECK_EQ(write(channel.write_end, "second", 6), 6);
  char buffer[16];
  CHECK_EQ(read(channel.read_end, buffer, 3), 3);  // the rest of the packet is dropped
  CHECK_EQ(read(channel.read_end, buffer, sizeof buffer), 6);
}

CASE(a_blocked_reader_gets_what_is_written) {
  Pipe channel;
  pid_t pid = guest::spawn([&] {
    char buffer[16];
    CHECK_EQ(read(channel.read_end, buffer, sizeof buffer), 5);
    CHECK_EQ(std::string(buffer, 5), "hello");
  });
  guest::wait_until_blocked(pid);
  CHECK_EQ(write(channel.write_end, "hello", 5), 5);
  CHECK_EXIT(pid, 0);
}

CASE(fifo_open_waits_for_the_other_side) {
  REQUIRE(mkfifo("fifo", 0600) == 0);
  CHECK_ERRNO(mkfifo("fifo", 0600), EEXIST);
  pid_t pid = guest::spawn([] {
    int fd = CHECK_OK(open("fifo", O_WRONLY));
    CHECK_EQ(write(fd, "through", 7), 7);
  });
  guest::wait_until_blocked(pid);
  int fd = CHECK_OK(open("fifo", O_RDONLY));
  char buffer[16];
  CHECK_EQ(read(fd, buffer, sizeof buffer), 7);
  CHECK_EQ(read(fd, buffer, sizeof buffer), 0);
  CHECK_EXIT(pid, 0);
}

CASE(fifo_open_without_waiting) {
  REQUIRE(mkfifo("fifo", 0600) == 0);
  CHECK_ERRNO(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
  int reader = CHECK_OK(open("fifo", O_RDONLY | O_NONBLOCK));
  char byte;
  CHECK_EQ(read(reader, &byte, 1), 0);  // no writer yet: end of file
  int writer = CHECK_OK(open("fifo", O_WRONLY | O_NONBLOCK));
  CHECK_ERRNO(read(reader, &byte, 1), EAGAIN);
  CHECK_EQ(write(writer, "x", 1), 1);
  CHECK_EQ(read(reader, &byte, 1), 1);
  close(writer);
  CHECK_EQ(read(reader, &byte, 1), 0);
  int both = CHECK_OK(open("fifo", O_RDWR));  // never blocks
  CHECK_EQ(write(both, "y", 1), 1);
  CHECK_EQ(read(both, &byte, 1), 1);
  CHECK_EQ(byte, 'y');
}

CASE(fifo_survives_its_name) {
  REQUIRE(mkfifo("fifo", 0644) == 0);
  struct stat info = {};
  CHECK_OK(stat("fifo", &info));
  CHECK_EQ(info.st_mode & S_IFMT, S_IFIFO);
  int both = open("fifo", O_RDWR);
  CHECK_OK(unlink("fifo"));
  CHECK_EQ(write(both, "z", 1), 1);
  char byte;
  CHECK_EQ(read(both, &byte, 1), 1);
}

CASE(pipe_through_proc_self_fd) {
  Pipe channel;
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", channel.write_end);
  int again = CHECK_OK(open(path, O_WRONLY));
  CHECK_EQ(write(again, "x", 1), 1);
  char byte;
  CHECK_EQ(read(channel.read_end, &byte, 1), 1);
  char target[64] = {};
  CHECK(readlink(path, target, sizeof target - 1) > 0);
  CHECK_EQ(std::string(target, 6), "pipe:[");
}
