// Reading directories: getdents64, offsets, changes during the reading.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <set>
#include <vector>

#include "tests/guest/guest_test.h"

namespace {

struct Entry {
  std::string name;
  unsigned char type;
  uint64_t inode;
  int64_t offset;
};

// One getdents64 call; empty at the end.
std::vector<Entry> read_some(int fd, size_t buffer_size) {
  std::string buffer(buffer_size, '\0');
  std::vector<Entry> entries;
  long got = syscall(SYS_getdents64, fd, buffer.data(), buffer.size());
  CHECK(got >= 0);
  for (long at = 0; at < got;) {
    auto* raw = reinterpret_cast<const dirent64*>(buffer.data() + at);
    CHECK_EQ(raw->d_reclen % 8, 0);
    entries.push_back({raw->d_name, raw->d_type, raw->d_ino, raw->d_off});
    at += raw->d_reclen;
  }
  return entries;
}

std::vector<Entry> read_all(int fd, size_t buffer_size = 4096) {
  std::vector<Entry> all;
  for (;;) {
    std::vector<Entry> some = read_some(fd, buffer_size);
    if (some.empty()) return all;
    all.insert(all.end(), some.begin(), some.end());
  }
}

std::set<std::string> names(const std::vector<Entry>& entries) {
  std::set<std::string> result;
  for (const Entry& entry : entries) CHECK(result.insert(entry.name).second);
  return result;
}

int open_dir(const char* path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY);
  REQUIRE(fd >= 0);
  return fd;
}

}  // namespace

CASE(entries_and_types) {
  REQUIRE(mkdir("dir", 0755) == 0 && mkdir("dir/sub", 0755) == 0 &&
          guest::write_file("dir/file", ""));
  REQUIRE(symlink("x", "dir/link") == 0 && mkfifo("dir/fifo", 0600) == 0);
  std::vector<Entry> entries = read_all(open_dir("dir"));
  CHECK_EQ(entries.size(), 6);
  struct stat info = {};
  for (const Entry& entry : entries) {
    unsigned char expected = entry.name == "file"   ? DT_REG
                             : entry.name == "link" ? DT_LNK
                             : entry.name == "fifo" ? DT_FIFO
                                                    : DT_DIR;
    CHECK_EQ(entry.type, expected);
    REQUIRE(lstat(("dir/" + entry.name).c_str(), &info) == 0);
    CHECK_EQ(entry.inode, info.st_ino);
  }
  CHECK(names(entries) == std::set<std::string>({".", "..", "fifo", "file", "link", "sub"}));
}

CASE(many_entries) {
  REQUIRE(mkdir("dir", 0755) == 0);
  std::set<std::string> expected = {".", ".."};
  for (int i = 0; i < 1500; ++i) {
    std::string name = "entry-" + std::to_string(i) + std::string(static_cast<size_t>(i % 60), 'x');
    REQUIRE(guest::write_file(("dir/" + name).c_str(), ""));
    expected.insert(name);
  }
  int fd = open_dir("dir");
  CHECK(names(read_all(fd)) == expected);
  CHECK(read_some(fd, 4096).empty());  // the end stays the end
  CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
  CHECK(names(read_all(fd, 32768)) == expected);
  CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
  CHECK(names(read_all(fd, 300)) == expected);
}

CASE(seeking_to_a_remembered_offset) {
  REQUIRE(mkdir("dir", 0755) == 0);
  for (int i = 0; i < 50; ++i)
    REQUIRE(guest::write_file(("dir/f" + std::to_string(i)).c_str(), ""));
  int fd = open_dir("dir");
  std::vector<Entry> all = read_all(fd);
  REQUIRE(all.size() == 52);
  for (size_t index : {size_t{0}, size_t{1}, size_t{20}, size_t{50}}) {
    CHECK_EQ(lseek(fd, all[index].offset, SEEK_SET), all[index].offset);
    std::vector<Entry> rest = read_all(fd);
    CHECK_EQ(rest.size(), all.size() - index - 1);
    if (!rest.empty()) CHECK_EQ(rest[0].name, all[index + 1].name);
  }
}

CASE(removing_while_reading_skips_nothing) {
  REQUIRE(mkdir("dir", 0755) == 0);
  for (int i = 0; i < 300; ++i)
    REQUIRE(guest::write_file(("dir/f" + std::to_string(i)).c_str(), ""));
  DIR* dir = opendir("dir");
  REQUIRE(dir != nullptr);
  int removed = 0;
  while (dirent* entry = readdir(dir)) {  // rm -r
    if (entry->d_name[0] == '.') continue;
    CHECK_OK(unlinkat(dirfd(dir), entry->d_name, 0));
    ++removed;
  }
  closedir(dir);
  CHECK_EQ(removed, 300);
  CHECK_OK(rmdir("dir"));
}

CASE(additions_do_not_repeat_old_entries) {
  REQUIRE(mkdir("dir", 0755) == 0);
  for (int i = 0; i < 100; ++i)
    REQUIRE(guest::write_file(("dir/old" + std::to_string(i)).c_str(), ""));
  int fd = open_dir("dir");
  std::vector<Entry> seen = read_some(fd, 1000);
  for (int i = 0; i < 100; ++i)
    REQUIRE(guest::write_file(("dir/new" + std::to_string(i)).c_str(), ""));
  std::vector<Entry> rest = read_all(fd);
  seen.insert(seen.end(), rest.begin(), rest.end());
  int old_entries = 0;
  for (const std::string& name : names(seen)) old_entries += name.rfind("old", 0) == 0 ? 1 : 0;
  CHECK_EQ(old_entries, 100);
}

CASE(errors) {
  char buffer[4096];
  REQUIRE(guest::write_file("file", ""));
  int file = open("file", O_RDONLY);
  CHECK_ERRNO(syscall(SYS_getdents64, file, buffer, sizeof buffer), ENOTDIR);
  CHECK_ERRNO(syscall(SYS_getdents64, 999, buffer, sizeof buffer), EBADF);
  int dir = open_dir(".");
  CHECK_ERRNO(syscall(SYS_getdents64, dir, buffer, 10), EINVAL);  // not even one entry fits
  CHECK_ERRNO(syscall(SYS_getdents64, dir, 8, sizeof buffer), EFAULT);
  int path_only = open(".", O_PATH);
  CHECK_ERRNO(syscall(SYS_getdents64, path_only, buffer, sizeof buffer), EBADF);
}

CASE(removed_directory) {
  REQUIRE(mkdir("dir", 0755) == 0);
  int fd = open_dir("dir");
  REQUIRE(rmdir("dir") == 0);
  char buffer[4096];
  CHECK_ERRNO(syscall(SYS_getdents64, fd, buffer, sizeof buffer), ENOENT);
}

CASE(old_getdents) {
  REQUIRE(mkdir("dir", 0755) == 0 && guest::write_file("dir/file", ""));
  int fd = open_dir("dir");
  alignas(8) char buffer[4096];
  long got = syscall(SYS_getdents, fd, buffer, sizeof buffer);
  CHECK(got > 0);
  int entries = 0;
  for (long at = 0; at < got; ++entries) {
    uint16_t length = 0;
    memcpy(&length, buffer + at + 16, sizeof length);
    REQUIRE(length > 0);
    at += length;
  }
  CHECK_EQ(entries, 3);
}

CASE(root_and_proc_can_be_listed) {
  std::set<std::string> root = names(read_all(open_dir("/")));
  CHECK(root.count("usr") == 1 && root.count("proc") == 1 && root.count("dev") == 1);
  std::set<std::string> self = names(read_all(open_dir("/proc/self/fd")));
  CHECK(self.count("0") == 1 && self.count("1") == 1 && self.count("2") == 1);
  std::set<std::string> tasks = names(read_all(open_dir("/proc/self/task")));
  CHECK_EQ(tasks.size(), 3);
  CHECK(tasks.count(std::to_string(getpid())) == 1);
}
