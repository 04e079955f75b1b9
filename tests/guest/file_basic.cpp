// open flags, read, write, positions: what every program needs first.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/guest/guest_test.h"

namespace {

std::string read_all(int fd) {
  std::string content;
  char buffer[256];
  ssize_t got;
  while ((got = read(fd, buffer, sizeof buffer)) > 0)
    content.append(buffer, static_cast<size_t>(got));
  return content;
}

mode_t mode_of(const char* path) {
  struct stat info = {};
  CHECK_OK(stat(path, &info));
  return info.st_mode;
}

}  // namespace

CASE(create_write_read_back) {
  int fd = CHECK_OK(open("file", O_RDWR | O_CREAT, 0644));
  CHECK_EQ(write(fd, "hello world", 11), 11);
  CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
  CHECK_EQ(read_all(fd), "hello world");
  CHECK_EQ(read(fd, nullptr, 0), 0);
  CHECK_OK(close(fd));
  CHECK_ERRNO(close(fd), EBADF);
  CHECK_EQ(guest::read_file("file"), "hello world");
}

CASE(lowest_free_descriptor) {
  int first = open(".", O_RDONLY);
  int second = open(".", O_RDONLY);
  CHECK_EQ(second, first + 1);
  close(first);
  CHECK_EQ(open(".", O_RDONLY), first);
}

CASE(access_modes) {
  REQUIRE(guest::write_file("file", "abc"));
  char byte;
  int read_only = open("file", O_RDONLY);
  CHECK_ERRNO(write(read_only, "x", 1), EBADF);
  CHECK_EQ(read(read_only, &byte, 1), 1);
  int write_only = open("file", O_WRONLY);
  CHECK_ERRNO(read(write_only, &byte, 1), EBADF);
  CHECK_EQ(write(write_only, "x", 1), 1);
  int neither = open("file", O_ACCMODE);  // 3: permission for both is checked, none is granted
  if (neither != -1) {
    CHECK_ERRNO(read(neither, &byte, 1), EBADF);
    CHECK_ERRNO(write(neither, "x", 1), EBADF);
  }
  CHECK_ERRNO(read(999, &byte, 1), EBADF);
  CHECK_ERRNO(write(-1, "x", 1), EBADF);
  CHECK_EQ(guest::read_file("file"), "xbc");
}

CASE(exclusive_creation) {
  CHECK_OK(open("file", O_CREAT | O_EXCL | O_WRONLY, 0600));
  CHECK_ERRNO(open("file", O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
  CHECK_OK(open("file", O_CREAT | O_WRONLY, 0600));
  REQUIRE(symlink("nowhere", "dangling") == 0);
  CHECK_ERRNO(open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
  CHECK_OK(open("dangling", O_CREAT | O_WRONLY, 0600));  // creates the target
  CHECK_OK(access("nowhere", F_OK));
}

CASE(truncation) {
  REQUIRE(guest::write_file("file", "0123456789"));
  CHECK_OK(open("file", O_RDONLY));
  CHECK_EQ(guest::read_file("file"), "0123456789");
  CHECK_OK(open("file", O_WRONLY | O_TRUNC));
  CHECK_EQ(guest::read_file("file"), "");
}

CASE(append_writes_at_the_end_whatever_the_offset) {
  REQUIRE(guest::write_file("file", "begin"));
  int fd = open("file", O_RDWR | O_APPEND);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
  CHECK_EQ(lseek(fd, 1, SEEK_SET), 1);
  CHECK_EQ(write(fd, "-one", 4), 4);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 9);
  CHECK_EQ(pwrite(fd, "-two", 4, 0), 4);  // Linux appends here too: pwrite(2), BUGS
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 9);
  CHECK_EQ(guest::read_file("file"), "begin-one-two");
  CHECK_OK(fcntl(fd, F_SETFL, 0));
  CHECK_EQ(pwrite(fd, "B", 1, 0), 1);
  CHECK_EQ(guest::read_file("file"), "Begin-one-two");
}

CASE(directories_are_not_opened_for_writing) {
  REQUIRE(mkdir("dir", 0755) == 0);
  CHECK_ERRNO(open("dir", O_WRONLY), EISDIR);
  CHECK_ERRNO(open("dir", O_RDWR), EISDIR);
  CHECK_ERRNO(open("dir", O_RDONLY | O_CREAT, 0600), EISDIR);
  CHECK_ERRNO(open("dir", O_RDONLY | O_TRUNC), EISDIR);
  int fd = CHECK_OK(open("dir", O_RDONLY));
  char byte;
  CHECK_ERRNO(read(fd, &byte, 1), EISDIR);
  CHECK_ERRNO(write(fd, "x", 1), EBADF);
  REQUIRE(guest::write_file("file", ""));
  CHECK_ERRNO(open("file", O_RDONLY | O_DIRECTORY), ENOTDIR);
  CHECK_OK(open("dir", O_RDONLY | O_DIRECTORY));
  CHECK_ERRNO(open("missing", O_RDONLY | O_DIRECTORY), ENOENT);
}

CASE(nofollow) {
  REQUIRE(guest::write_file("file", "x"));
  REQUIRE(symlink("file", "link") == 0);
  CHECK_ERRNO(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
  CHECK_OK(open("file", O_RDONLY | O_NOFOLLOW));
  REQUIRE(mkdir("dir", 0755) == 0);
  REQUIRE(symlink("dir", "dirlink") == 0);
  REQUIRE(guest::write_file("dir/inner", "y"));
  CHECK_OK(open("dirlink/inner", O_RDONLY | O_NOFOLLOW));  // only the last component counts
  CHECK_ERRNO(open("dirlink", O_RDONLY | O_DIRECTORY | O_NOFOLLOW), ENOTDIR);
}

CASE(path_descriptors) {
  REQUIRE(guest::write_file("file", "content"));
  int fd = CHECK_OK(open("file", O_PATH));
  char byte;
  CHECK_ERRNO(read(fd, &byte, 1), EBADF);
  CHECK_ERRNO(write(fd, "x", 1), EBADF);
  CHECK_ERRNO(lseek(fd, 0, SEEK_SET), EBADF);
  CHECK_ERRNO(fchmod(fd, 0600), EBADF);
  CHECK_ERRNO(ftruncate(fd, 0), EBADF);
  struct stat info = {};
  CHECK_OK(fstat(fd, &info));
  CHECK_EQ(info.st_size, 7);
  CHECK_EQ(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
  REQUIRE(symlink("file", "link") == 0);
  int link = CHECK_OK(open("link", O_PATH | O_NOFOLLOW));
  CHECK_OK(fstat(link, &info));
  CHECK(S_ISLNK(info.st_mode));
  char target[16];
  CHECK_EQ(readlinkat(link, "", target, sizeof target), 4);
  int dir = CHECK_OK(open(".", O_PATH | O_DIRECTORY));
  CHECK_OK(openat(dir, "file", O_RDONLY));
}

CASE(creation_mode_and_umask) {
  umask(022);
  CHECK_OK(open("a", O_CREAT | O_WRONLY, 0777));
  CHECK_EQ(mode_of("a"), S_IFREG | 0755);
  CHECK_EQ(umask(077), 022);
  CHECK_OK(open("b", O_CREAT | O_WRONLY, 0666));
  CHECK_EQ(mode_of("b"), S_IFREG | 0600);
  CHECK_OK(mkdir("d", 0777));
  CHECK_EQ(mode_of("d"), S_IFDIR | 0700);
  CHECK_EQ(umask(01000777), 077);
  CHECK_EQ(umask(0), 0777);
  // A file created without permission to write is still writable through the descriptor that
  // created it.
  int fd = CHECK_OK(open("c", O_CREAT | O_RDWR, 0400));
  CHECK_EQ(write(fd, "x", 1), 1);
}

CASE(temporary_files_without_a_name) {
  int fd = open(".", O_TMPFILE | O_RDWR, 0600);
  if (fd == -1 && errno == EOPNOTSUPP) guest::skip("no O_TMPFILE here");
  REQUIRE(fd >= 0);
  struct stat info = {};
  CHECK_OK(fstat(fd, &info));
  CHECK_EQ(info.st_nlink, 0);
  CHECK_EQ(write(fd, "temp", 4), 4);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  CHECK_OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
  CHECK_EQ(guest::read_file("named"), "temp");
  int excl = CHECK_OK(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
  snprintf(path, sizeof path, "/proc/self/fd/%d", excl);
  CHECK_ERRNO(linkat(AT_FDCWD, path, AT_FDCWD, "other", AT_SYMLINK_FOLLOW), ENOENT);
  CHECK_ERRNO(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
}

CASE(unlinked_file_lives_on) {
  REQUIRE(guest::write_file("file", "still here"));
  int fd = open("file", O_RDWR);
  CHECK_OK(unlink("file"));
  CHECK_ERRNO(access("file", F_OK), ENOENT);
  CHECK_EQ(read_all(fd), "still here");
  CHECK_EQ(write(fd, "!", 1), 1);
  struct stat info = {};
  CHECK_OK(fstat(fd, &info));
  CHECK_EQ(info.st_nlink, 0);
  CHECK_EQ(info.st_size, 11);
  REQUIRE(guest::write_file("file", "new"));
  CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
  CHECK_EQ(read_all(fd), "still here!");
}

CASE(getfl_shows_flags) {
  int fd = open("file", O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0600);
  CHECK_EQ(fcntl(fd, F_GETFL) & ~O_LARGEFILE & ~0100000, O_RDWR | O_APPEND | O_NONBLOCK);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  CHECK_OK(fcntl(fd, F_SETFL,
                 O_NONBLOCK | O_WRONLY | O_CREAT));  // access mode and creation flags are ignored
  CHECK_EQ(fcntl(fd, F_GETFL) & ~O_LARGEFILE & ~0100000, O_RDWR | O_NONBLOCK);
  CHECK_OK(fcntl(fd, F_SETFD, 0));
  CHECK_EQ(fcntl(fd, F_GETFD), 0);
  CHECK_ERRNO(fcntl(fd, 9999), EINVAL);
}

CASE(open_errors) {
  CHECK_ERRNO(open("missing", O_RDONLY), ENOENT);
  CHECK_ERRNO(open("", O_RDONLY), ENOENT);
  CHECK_ERRNO(open("missing/below", O_RDONLY | O_CREAT, 0600), ENOENT);
  REQUIRE(guest::write_file("file", ""));
  CHECK_ERRNO(open("file/below", O_RDONLY), ENOTDIR);
  CHECK_ERRNO(open("new/", O_RDONLY | O_CREAT, 0600), EISDIR);
  CHECK_ERRNO(openat(999, "file", O_RDONLY), EBADF);
  CHECK_OK(openat(999, "/", O_RDONLY));  // absolute: the descriptor is not looked at
  int fd = open("file", O_RDONLY);
  CHECK_ERRNO(openat(fd, "x", O_RDONLY), ENOTDIR);
  CHECK_ERRNO(open(std::string(5000, 'a').c_str(), O_RDONLY), ENAMETOOLONG);
  CHECK_ERRNO(open(std::string(256, 'a').c_str(), O_RDONLY | O_CREAT, 0600), ENAMETOOLONG);
  CHECK_OK(open(std::string(255, 'a').c_str(), O_RDONLY | O_CREAT, 0600));
}

CASE(creat_is_open) {
  int fd = CHECK_OK(creat("file", 0600));
  CHECK_EQ(write(fd, "x", 1), 1);
  char byte;
  CHECK_ERRNO(read(fd, &byte, 1), EBADF);
}

CASE(large_transfer) {
  std::string big(3 << 20, '\0');
  for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 2654435761u >> 24);
  int fd = open("big", O_RDWR | O_CREAT, 0600);
  CHECK_EQ(write(fd, big.data(), big.size()), big.size());
  std::string back(big.size() + 10, '?');
  CHECK_EQ(pread(fd, back.data(), back.size(), 0), big.size());
  back.resize(big.size());
  CHECK(back == big);
}
