// Names and files under load and at the limits: several processes that change one tree, large and
// deep directories, names of any bytes, sparse files.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include "tests/guest/guest_test.h"

namespace {

constexpr int kProcesses = 3;
constexpr int kOperations = 300;
constexpr int kDirectories = 3;
constexpr int kNames = 6;

// The same sequence of operations everywhere, though not the same order among processes.
class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  int below(int limit) {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<int>((state_ >> 16) % static_cast<uint32_t>(limit));
  }

 private:
  uint32_t state_;
};

std::string directory_name(int number) { return "d" + std::to_string(number); }

std::string any_name(Random& random) {
  const std::string directory = directory_name(random.below(kDirectories));
  return directory + "/n" + std::to_string(random.below(kNames));
}

std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  DIR* directory = opendir(path.c_str());
  REQUIRE(directory != nullptr);
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(directory);
  return names;
}

int create_or_truncate(const std::string& path) {
  const int fd = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
  if (fd < 0) return -1;
  const std::string content(5000, 'x');
  CHECK_EQ(write(fd, content.data(), content.size()), content.size());
  return close(fd);
}

int one_operation(Random& random) {
  const std::string name = any_name(random);
  const std::string other = any_name(random);
  struct stat info = {};
  switch (random.below(8)) {
    case 0:
      return create_or_truncate(name);
    case 1:
      return rename(name.c_str(), other.c_str());
    case 2:
      return unlink(name.c_str());
    case 3:
      return mkdir(name.c_str(), 0700);
    case 4:
      return rmdir(name.c_str());
    case 5:
      return link(name.c_str(), other.c_str());
    case 6:
      return symlink("n1", name.c_str());
    default:
      return stat(name.c_str(), &info);
  }
}

// What Linux may answer to an operation on names that others change meanwhile.
bool is_expected(int error) {
  static const std::set<int> kExpected = {ENOENT, EEXIST,    EISDIR, ENOTDIR,
                                          EINVAL, ENOTEMPTY, ELOOP,  EPERM};
  return kExpected.contains(error);
}

void change_names(uint32_t seed) {
  Random random(seed);
  for (int i = 0; i < kOperations; i++) {
    if (one_operation(random) < 0 && !is_expected(errno)) {
      guest::fail(__FILE__, __LINE__, "an operation failed with %s",
                  guest::errno_text(errno).c_str());
    }
    if (i % 50 == 0) {
      // A name that goes and comes back meanwhile may be listed twice (POSIX, readdir), a name that
      // nobody made may not.
      for (const std::string& name : names_in(directory_name(random.below(kDirectories)))) {
        CHECK(name.size() >= 2 && name[0] == 'n' && std::stoi(name.substr(1)) < kNames);
      }
    }
  }
}

// Every name that is listed can be looked at and removed; then nothing is left.
void remove_all(const std::string& directory) {
  nlink_t subdirectories = 0;
  const std::vector<std::string> names = names_in(directory);
  struct stat before = {};
  CHECK_OK(stat(directory.c_str(), &before));
  for (const std::string& name : names) {
    const std::string path = directory + "/" + name;
    struct stat info = {};
    CHECK_OK(lstat(path.c_str(), &info));
    if (S_ISDIR(info.st_mode)) {
      subdirectories++;
      CHECK_OK(rmdir(path.c_str()));
    } else {
      CHECK(info.st_nlink >= 1);
      CHECK_OK(unlink(path.c_str()));
    }
  }
  // btrfs counts no subdirectories.
  CHECK(before.st_nlink == 1 || before.st_nlink == 2 + subdirectories);
  CHECK(names_in(directory).empty());
  CHECK_OK(rmdir(directory.c_str()));
}

void storm() {
  for (int i = 0; i < kDirectories; i++) REQUIRE(mkdir(directory_name(i).c_str(), 0700) == 0);
  std::array<pid_t, kProcesses> processes{};
  for (uint32_t i = 0; i < kProcesses; i++) {
    processes[i] = guest::spawn([i] { change_names(i); });
  }
  for (const pid_t process : processes) CHECK_EXIT(process, 0);
  for (int i = 0; i < kDirectories; i++) remove_all(directory_name(i));
}

}  // namespace

CASE(several_processes_change_one_tree) { storm(); }

CASE(several_processes_change_one_tree_of_tmp) {
  char directory[] = "/tmp/guest-storm-XXXXXX";
  REQUIRE(mkdtemp(directory) != nullptr && chdir(directory) == 0);
  storm();
  CHECK_OK(rmdir(directory));
}

CASE(directory_of_many_files) {
  constexpr size_t kFiles = 5000;
  REQUIRE(mkdir("many", 0700) == 0);
  const int directory = open("many", O_RDONLY | O_DIRECTORY);
  REQUIRE(directory >= 0);
  for (size_t i = 0; i < kFiles; i++) {
    const int fd = openat(directory, std::to_string(i).c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600);
    REQUIRE(fd >= 0);
    close(fd);
  }
  std::vector<std::string> names = names_in("many");
  CHECK_EQ(names.size(), kFiles);
  CHECK_EQ(std::set<std::string>(names.begin(), names.end()).size(), kFiles);
  for (size_t i = 0; i < kFiles; i += 2) {
    REQUIRE(unlinkat(directory, std::to_string(i).c_str(), 0) == 0);
  }
  CHECK_EQ(names_in("many").size(), kFiles / 2);
  CHECK_ERRNO(rmdir("many"), ENOTEMPTY);
  for (const std::string& name : names_in("many")) unlinkat(directory, name.c_str(), 0);
  CHECK_OK(rmdir("many"));
}

// Deeper than a path can say: 1,000 names of 5 bytes.
CASE(directory_beyond_the_longest_path) {
  constexpr int kDepth = 1000;
  for (int i = 0; i < kDepth; i++) {
    REQUIRE(mkdir("below", 0700) == 0 && chdir("below") == 0);
  }
  REQUIRE(guest::write_file("leaf", "deep"));
  char path[8192];
  CHECK_ERRNO(syscall(SYS_getcwd, path, sizeof path), ENAMETOOLONG);
  CHECK_EQ(guest::read_file("leaf"), "deep");
  CHECK_OK(unlink("leaf"));
  for (int i = 0; i < kDepth; i++) {
    REQUIRE(chdir("..") == 0 && (i == kDepth / 2 || rmdir("below") == 0));
    // From the middle on the tree has another name.
    if (i == kDepth / 2) {
      CHECK_OK(rename("below", "moved"));
      CHECK_OK(rmdir("moved"));
    }
  }
  CHECK(names_in(".").empty());
}

CASE(names_of_any_bytes_are_listed_as_they_are) {
  const std::set<std::string> names = {"new\nline",
                                       "\xff\xfe\x80",
                                       "\x01",
                                       "a\tb",
                                       "back\\slash",
                                       " ",
                                       "...",
                                       "-n",
                                       "*?[",
                                       "\xc3\xa4",
                                       std::string(255, 'l'),
                                       std::string(255, '\xc3')};
  REQUIRE(mkdir("dir", 0700) == 0);
  for (const std::string& name : names) REQUIRE(guest::write_file(("dir/" + name).c_str(), name));
  const std::vector<std::string> listed = names_in("dir");
  CHECK(std::set<std::string>(listed.begin(), listed.end()) == names);
  for (const std::string& name : listed) {
    const std::string path = "dir/" + name;
    CHECK(guest::read_file(path.c_str()) == name);
    CHECK_OK(rename(path.c_str(), "dir/other"));
    CHECK_OK(rename("dir/other", path.c_str()));
    CHECK_OK(unlink(path.c_str()));
  }
  CHECK_ERRNO(mkdir(("dir/" + std::string(256, 'l')).c_str(), 0700), ENAMETOOLONG);
  CHECK_OK(rmdir("dir"));
}

// A terabyte, or what the limit on the size of files allows.
CASE(sparse_file_of_a_terabyte) {
  rlimit limit = {};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const off_t size = static_cast<off_t>(std::min<rlim_t>(limit.rlim_cur, rlim_t{1} << 40));
  const int fd = open("sparse", O_CREAT | O_RDWR, 0600);
  REQUIRE(fd >= 0);
  CHECK_OK(ftruncate(fd, size));
  CHECK_EQ(pwrite(fd, "end", 3, size - 3), 3);
  CHECK_EQ(pwrite(fd, "middle", 6, size / 2), 6);
  struct stat info = {};
  CHECK_OK(fstat(fd, &info));
  CHECK_EQ(info.st_size, size);
  CHECK(info.st_blocks < 4096);
  char bytes[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  CHECK_EQ(pread(fd, bytes, 8, size / 4), 8);
  CHECK_EQ(std::string(bytes, 8), std::string(8, '\0'));
  CHECK_EQ(pread(fd, bytes, 8, size - 3), 3);
  CHECK_EQ(std::string(bytes, 3), "end");
  const off_t data = lseek(fd, size / 4, SEEK_DATA);
  CHECK(data > size / 4 && data <= size / 2);
  CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size));
  CHECK_ERRNO(lseek(fd, 0, SEEK_DATA), ENXIO);
  CHECK_OK(ftruncate(fd, 10));
  CHECK_OK(unlink("sparse"));
}
