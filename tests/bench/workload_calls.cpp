#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "tests/bench/workload.h"

namespace bench {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kMapped = 1 << 20;

int open_or_die(const char* path, int flags, mode_t mode = 0) {
  const int fd = ::open(path, flags | O_CLOEXEC, mode);
  if (fd < 0) die(path);
  return fd;
}

// Reads a file to its end; returns its bytes.
size_t read_whole(const std::string& path) {
  std::array<char, 16384> buffer;
  const int fd = open_or_die(path.c_str(), O_RDONLY);
  size_t total = 0;
  for (;;) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0) die(path.c_str());
    if (n == 0) break;
    total += static_cast<size_t>(n);
  }
  ::close(fd);
  return total;
}

// The directories of the tree are found by d_type, as find(1) does it.
size_t read_tree(const std::string& path) {
  DIR* dir = ::opendir(path.c_str());
  if (dir == nullptr) die(path.c_str());
  size_t total = 0;
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    const std::string inner = path + "/" + entry->d_name;
    total += entry->d_type == DT_DIR ? read_tree(inner) : read_whole(inner);
  }
  ::closedir(dir);
  return total;
}

double timed_walk(const char* path) {
  const uint64_t start = now_ns();
  if (read_tree(path) == 0) die("the tree is empty");
  return static_cast<double>(now_ns() - start);
}

}  // namespace

void getppid_loop() {
  report("getppid", ns_per_round([] { ::syscall(SYS_getppid); }));
}

void read_zero_loop() {
  const int fd = open_or_die("/dev/zero", O_RDONLY);
  report("read", ns_per_round([fd] {
           char byte;
           if (::read(fd, &byte, 1) != 1) die("read");
         }));
}

void pread_loop() {
  std::array<char, 512> block{};
  const int out = open_or_die("block", O_RDWR | O_CREAT | O_TRUNC, 0600);
  for (int i = 0; i < 16; i++) {
    if (::write(out, block.data(), block.size()) != static_cast<ssize_t>(block.size()))
      die("write");
  }
  off_t at = 0;
  report("pread", ns_per_round([&] {
           if (::pread(out, block.data(), block.size(), at) <= 0) die("pread");
           at = (at + 512) % 8192;
         }));
}

void stat_loop(const char* path) {
  report("stat", ns_per_round([path] {
           struct stat status;
           if (::stat(path, &status) < 0) die(path);
         }));
}

void open_loop(const char* path) {
  report("open", ns_per_round([path] {
           char byte;
           const int fd = open_or_die(path, O_RDONLY);
           if (::read(fd, &byte, 1) != 1) die(path);
           ::close(fd);
         }));
}

void create_loop() {
  std::array<char, kPage> page{};
  report("create", ns_per_round([&page] {
           const int fd = open_or_die("new", O_WRONLY | O_CREAT | O_EXCL, 0600);
           if (::write(fd, page.data(), page.size()) != static_cast<ssize_t>(kPage)) die("write");
           ::close(fd);
           if (::unlink("new") < 0) die("unlink");
         }));
}

void mmap_loop() {
  report("mmap", ns_per_round([] {
           void* p =
               ::mmap(nullptr, kMapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
           if (p == MAP_FAILED) die("mmap");
           auto* bytes = static_cast<volatile char*>(p);
           for (size_t at = 0; at < kMapped; at += kPage) bytes[at] = 1;
           ::munmap(p, kMapped);
         }));
}

void walk(const char* path) {
  report("cold", timed_walk(path));
  std::array<double, 5> warm;
  for (double& one : warm) one = timed_walk(path);
  std::ranges::sort(warm);
  report("warm", warm[warm.size() / 2]);
}

}  // namespace bench
