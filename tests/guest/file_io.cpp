// Positional and vector I/O, seeking, holes, truncation, allocation, copies inside the kernel.
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/guest/guest_test.h"

namespace {

int make_file(const char* name, const std::string& content) {
  REQUIRE(guest::write_file(name, content));
  int fd = open(name, O_RDWR);
  REQUIRE(fd >= 0);
  return fd;
}

off_t size_of(int fd) {
  struct stat info = {};
  CHECK_OK(fstat(fd, &info));
  return info.st_size;
}

std::string content_of(int fd) {
  std::string content(static_cast<size_t>(size_of(fd)), '\0');
  CHECK_EQ(pread(fd, content.data(), content.size(), 0), content.size());
  return content;
}

}  // namespace

CASE(positional_io_leaves_the_offset) {
  int fd = make_file("file", "0123456789");
  char buffer[4] = {};
  CHECK_EQ(pread(fd, buffer, 3, 5), 3);
  CHECK_EQ(std::string(buffer), "567");
  CHECK_EQ(pwrite(fd, "AB", 2, 1), 2);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
  CHECK_EQ(content_of(fd), "0AB3456789");
  CHECK_EQ(pread(fd, buffer, 3, 8), 2);
  CHECK_EQ(pread(fd, buffer, 3, 100), 0);
  CHECK_ERRNO(pread(fd, buffer, 1, -1), EINVAL);
  CHECK_ERRNO(pwrite(fd, buffer, 1, -1), EINVAL);
}

CASE(counts_beyond_the_address_space) {
  int fd = make_file("file", "0123456789"), ends[2];
  REQUIRE(pipe(ends) == 0);
  REQUIRE(write(ends[1], "in", 2) == 2);
  char buffer[16] = {};
  for (size_t count : {SIZE_MAX, SIZE_MAX - 4096, size_t{SSIZE_MAX}}) {
    CHECK_ERRNO(syscall(SYS_read, fd, buffer, count), EFAULT);
    CHECK_ERRNO(syscall(SYS_write, fd, buffer, count), EFAULT);
    CHECK_ERRNO(syscall(SYS_pread64, fd, buffer, count, 0), EFAULT);
    CHECK_ERRNO(syscall(SYS_pwrite64, fd, buffer, count, 0), EFAULT);
    CHECK_ERRNO(syscall(SYS_read, ends[0], buffer, count), EFAULT);
    CHECK_ERRNO(syscall(SYS_write, ends[1], buffer, count), EFAULT);
    CHECK_ERRNO(syscall(SYS_read, ends[1], buffer, count), EBADF);
  }
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
  CHECK_EQ(content_of(fd), "0123456789");
  CHECK_EQ(read(ends[0], buffer, sizeof buffer), 2);
}

CASE(vectors) {
  int fd = make_file("file", "");
  iovec out[4] = {{const_cast<char*>("ab"), 2},
                  {nullptr, 0},
                  {const_cast<char*>("cde"), 3},
                  {const_cast<char*>("f"), 1}};
  CHECK_EQ(writev(fd, out, 4), 6);
  char first[1], second[10] = {};
  iovec in[2] = {{first, 1}, {second, 9}};
  CHECK_EQ(preadv(fd, in, 2, 0), 6);
  CHECK_EQ(std::string(second), "bcdef");
  CHECK_EQ(pwritev(fd, out, 1, 10), 2);
  CHECK_EQ(size_of(fd), 12);
  CHECK_ERRNO(readv(fd, in, -1), EINVAL);
  CHECK_ERRNO(readv(fd, in, IOV_MAX + 1), EINVAL);
  CHECK_EQ(readv(fd, in, 0), 0);
  iovec negative = {first, static_cast<size_t>(-1)};
  CHECK_ERRNO(readv(fd, &negative, 1), EINVAL);
  CHECK_ERRNO(syscall(SYS_readv, fd, 8, 1), EFAULT);
}

CASE(preadv2_and_pwritev2) {
  int fd = make_file("file", "abcdef");
  char buffer[4] = {};
  iovec vector = {buffer, 3};
  CHECK_EQ(preadv2(fd, &vector, 1, 1, 0), 3);
  CHECK_EQ(std::string(buffer), "bcd");
  CHECK_EQ(preadv2(fd, &vector, 1, -1, 0), 3);  // -1: at the offset, which moves
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3);
  iovec tail = {const_cast<char*>("xy"), 2};
  CHECK_EQ(pwritev2(fd, &tail, 1, 0, RWF_APPEND), 2);
  CHECK_EQ(content_of(fd), "abcdefxy");
  CHECK_ERRNO(preadv2(fd, &vector, 1, 0, 0x40000000), EOPNOTSUPP);
}

CASE(seeking) {
  int fd = make_file("file", "0123456789");
  CHECK_EQ(lseek(fd, 3, SEEK_SET), 3);
  CHECK_EQ(lseek(fd, 2, SEEK_CUR), 5);
  CHECK_EQ(lseek(fd, -1, SEEK_END), 9);
  CHECK_EQ(lseek(fd, 100, SEEK_END), 110);
  char byte;
  CHECK_EQ(read(fd, &byte, 1), 0);
  CHECK_ERRNO(lseek(fd, -1, SEEK_SET), EINVAL);
  CHECK_ERRNO(lseek(fd, -200, SEEK_CUR), EINVAL);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 110);
  CHECK_ERRNO(lseek(fd, 0, 77), EINVAL);
  CHECK_ERRNO(lseek(999, 0, SEEK_SET), EBADF);
}

CASE(data_and_holes) {
  int fd = make_file("file", "");
  REQUIRE(ftruncate(fd, 1 << 20) == 0);
  CHECK_EQ(pwrite(fd, "x", 1, 512 * 1024), 1);
  off_t data = lseek(fd, 0, SEEK_DATA);
  CHECK(data == 0 || data == 512 * 1024);  // a filesystem may know no holes
  off_t hole = lseek(fd, 512 * 1024, SEEK_HOLE);
  CHECK(hole > 512 * 1024 && hole <= 1 << 20);
  CHECK_ERRNO(lseek(fd, 1 << 20, SEEK_DATA), ENXIO);
  CHECK_ERRNO(lseek(fd, 1 << 20, SEEK_HOLE), ENXIO);
  CHECK_ERRNO(lseek(fd, -1, SEEK_DATA), ENXIO);
  std::string zeros(4096, '?');
  CHECK_EQ(pread(fd, zeros.data(), 4096, 4096), 4096);
  CHECK(zeros == std::string(4096, '\0'));
}

CASE(writing_beyond_the_end_leaves_zeros) {
  int fd = make_file("file", "ab");
  CHECK_EQ(pwrite(fd, "z", 1, 6), 1);
  CHECK_EQ(content_of(fd), std::string("ab\0\0\0\0z", 7));
}

CASE(truncation) {
  int fd = make_file("file", "0123456789");
  CHECK_OK(ftruncate(fd, 4));
  CHECK_EQ(content_of(fd), "0123");
  CHECK_OK(ftruncate(fd, 8));
  CHECK_EQ(content_of(fd), std::string("0123\0\0\0\0", 8));
  CHECK_OK(truncate("file", 2));
  CHECK_EQ(size_of(fd), 2);
  CHECK_ERRNO(truncate("file", -1), EINVAL);
  CHECK_ERRNO(truncate("missing", 0), ENOENT);
  CHECK_ERRNO(truncate(".", 0), EISDIR);
  int read_only = open("file", O_RDONLY);
  CHECK_ERRNO(ftruncate(read_only, 0), EINVAL);
  CHECK_OK(lseek(fd, 2, SEEK_SET));
  CHECK_OK(ftruncate(fd, 0));
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 2);  // the offset stays
}

CASE(allocation) {
  int fd = make_file("file", "abc");
  CHECK_OK(posix_fallocate(fd, 0, 100) == 0 ? 0 : -1);
  CHECK_EQ(size_of(fd), 100);
  CHECK_OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 10000));
  CHECK_EQ(size_of(fd), 100);
  CHECK_ERRNO(fallocate(fd, 0, 0, 0), EINVAL);
  CHECK_ERRNO(fallocate(fd, 0, -1, 10), EINVAL);
  CHECK_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);  // only with KEEP_SIZE
  int read_only = open("file", O_RDONLY);
  CHECK_ERRNO(fallocate(read_only, 0, 0, 10), EBADF);
}

CASE(punching_a_hole) {
  int fd = make_file("file", std::string(16384, 'd'));
  CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192));
  std::string content = content_of(fd);
  CHECK(content == std::string(4096, 'd') + std::string(8192, '\0') + std::string(4096, 'd'));
  CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 50));
  content = content_of(fd);
  CHECK(content.substr(90, 70) ==
        std::string(10, 'd') + std::string(50, '\0') + std::string(10, 'd'));
  CHECK_EQ(size_of(fd), 16384);
}

CASE(sendfile_between_files) {
  int in = make_file("in", "0123456789"), out = make_file("out", "");
  off_t offset = 2;
  CHECK_EQ(sendfile(out, in, &offset, 5), 5);
  CHECK_EQ(offset, 7);
  CHECK_EQ(lseek(in, 0, SEEK_CUR), 0);
  CHECK_EQ(content_of(out), "23456");
  CHECK_EQ(sendfile(out, in, nullptr, 100), 10);
  CHECK_EQ(lseek(in, 0, SEEK_CUR), 10);
  CHECK_EQ(content_of(out), "234560123456789");
  CHECK_EQ(sendfile(out, in, nullptr, 100), 0);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  offset = 0;
  CHECK_EQ(sendfile(ends[1], in, &offset, 3), 3);
  CHECK_ERRNO(sendfile(out, ends[0], nullptr, 1), EINVAL);
  int append = open("out", O_WRONLY | O_APPEND);
  CHECK_ERRNO(sendfile(append, in, nullptr, 1), EINVAL);
  int write_only = open("in", O_WRONLY);
  CHECK_ERRNO(sendfile(out, write_only, nullptr, 1), EBADF);
}

CASE(sendfile_to_a_socket) {
  int in = make_file("in", std::string(100000, 's'));
  int pair[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  pid_t pid = guest::spawn([&] {
    close(pair[0]);
    off_t offset = 0;
    while (offset < 100000) {
      if (sendfile(pair[1], in, &offset, 100000) <= 0) break;
    }
    CHECK_EQ(offset, 100000);
  });
  close(pair[1]);
  std::string buffer(4096, '\0');
  size_t total = 0;
  ssize_t got;
  while ((got = read(pair[0], buffer.data(), buffer.size())) > 0) total += static_cast<size_t>(got);
  CHECK_EQ(total, 100000);
  CHECK_EXIT(pid, 0);
}

CASE(copy_file_range_between_files) {
  int in = make_file("in", "0123456789"), out = make_file("out", "");
  off_t from = 3, to = 1;
  CHECK_EQ(copy_file_range(in, &from, out, &to, 4, 0), 4);
  CHECK_EQ(from, 7);
  CHECK_EQ(to, 5);
  CHECK_EQ(content_of(out), std::string("\0003456", 5));
  CHECK_EQ(copy_file_range(in, nullptr, out, nullptr, 100, 0), 10);
  CHECK_EQ(lseek(in, 0, SEEK_CUR), 10);
  CHECK_EQ(lseek(out, 0, SEEK_CUR), 10);
  CHECK_EQ(copy_file_range(in, nullptr, out, nullptr, 100, 0), 0);
  from = 0;
  to = 2;
  CHECK_ERRNO(copy_file_range(in, &from, in, &to, 5, 0), EINVAL);  // overlapping
  from = 0;
  to = 20;
  CHECK_EQ(copy_file_range(in, &from, in, &to, 5, 0), 5);
  CHECK_ERRNO(copy_file_range(in, nullptr, out, nullptr, 1, 1), EINVAL);
  int dir = open(".", O_RDONLY);
  CHECK_ERRNO(copy_file_range(dir, nullptr, out, nullptr, 1, 0), EISDIR);
  int append = open("out", O_WRONLY | O_APPEND);
  CHECK_ERRNO(copy_file_range(in, nullptr, append, nullptr, 1, 0), EBADF);
}

CASE(syncing) {
  int fd = make_file("file", "data");
  CHECK_OK(fsync(fd));
  CHECK_OK(fdatasync(fd));
  CHECK_OK(sync_file_range(fd, 0, 4, SYNC_FILE_RANGE_WRITE));
  CHECK_ERRNO(sync_file_range(fd, -1, 4, 0), EINVAL);
  CHECK_ERRNO(fsync(999), EBADF);
  int dir = open(".", O_RDONLY);
  CHECK_OK(fsync(dir));
  CHECK_OK(syncfs(fd));
  CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL), 0);
  CHECK_EQ(posix_fadvise(fd, 0, 0, 77), EINVAL);
  CHECK_OK(readahead(fd, 0, 4096));
}

CASE(file_size_limit) {
  pid_t pid = guest::spawn([] {
    static volatile sig_atomic_t caught;
    signal(SIGXFSZ, [](int) { caught = caught + 1; });
    int fd = make_file("file", "");
    // RLIMIT_FSIZE itself is set with the raw call: one limit, one write across it.
    struct {
      uint64_t current, maximum;
    } limit = {1000, 1000};
    REQUIRE(syscall(SYS_setrlimit, 1, &limit) == 0);
    std::string data(600, 'x');
    CHECK_EQ(write(fd, data.data(), 600), 600);
    CHECK_EQ(write(fd, data.data(), 600), 400);
    CHECK_EQ(caught, 0);
    CHECK_ERRNO(write(fd, data.data(), 600), EFBIG);
    CHECK_EQ(caught, 1);
    CHECK_ERRNO(ftruncate(fd, 1001), EFBIG);
    CHECK_EQ(caught, 2);
    CHECK_OK(ftruncate(fd, 10));
    signal(SIGXFSZ, SIG_DFL);
    CHECK_EQ(lseek(fd, 1000, SEEK_SET), 1000);
    (void)!write(fd, "x", 1);
  });
  CHECK_KILLED(pid, SIGXFSZ);
}

CASE(reads_of_two_processes_share_one_offset) {
  int fd = make_file("file", std::string(1000, 'a'));
  pid_t children[4];
  for (pid_t& pid : children) {
    pid = guest::spawn([fd] {
      char byte;
      for (int i = 0; i < 250; ++i) CHECK_EQ(read(fd, &byte, 1), 1);
    });
  }
  for (pid_t pid : children) CHECK_EXIT(pid, 0);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 1000);
}

CASE(appends_of_several_processes_never_overwrite) {
  int fd = make_file("log", "");
  close(fd);
  pid_t children[4];
  for (pid_t& pid : children) {
    pid = guest::spawn([] {
      int mine = open("log", O_WRONLY | O_APPEND);
      for (int i = 0; i < 100; ++i) CHECK_EQ(write(mine, "0123456789\n", 11), 11);
    });
  }
  for (pid_t pid : children) CHECK_EXIT(pid, 0);
  std::string content = guest::read_file("log");
  CHECK_EQ(content.size(), 4400);
  for (size_t i = 0; i < content.size(); i += 11)
    REQUIRE(content.compare(i, 11, "0123456789\n") == 0);
}
