// Path resolution: slashes, dots, symlinks, limits, and openat2's restrictions.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/guest/guest_test.h"

namespace {

void make_file(const char* name, const std::string& content = "") {
  REQUIRE(guest::write_file(name, content));
}
void make_dir(const char* name) { REQUIRE(mkdir(name, 0755) == 0); }
void make_link(const char* target, const char* name) { REQUIRE(symlink(target, name) == 0); }

int try_stat(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info);
}

long openat2(int dir, const char* path, uint64_t flags, uint64_t resolve = 0, uint64_t mode = 0) {
  open_how how = {};
  how.flags = flags;
  how.mode = mode;
  how.resolve = resolve;
  return syscall(437, dir, path, &how, sizeof how);
}

}  // namespace

CASE(empty_paths_and_bad_directories) {
  constexpr int kBad = 999;
  constexpr long kFchmodat2 = 452;
  make_file("file");
  struct stat info = {};
  struct statx more = {};
  char text[8];
  char* const none[] = {nullptr};
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  // No path is looked at before the descriptor.
  CHECK_ERRNO(openat(kBad, "", O_RDONLY), ENOENT);
  CHECK_ERRNO(openat2(kBad, "", O_RDONLY), ENOENT);
  CHECK_ERRNO(mkdirat(kBad, "", 0700), ENOENT);
  CHECK_ERRNO(mknodat(kBad, "", S_IFREG | 0600, 0), ENOENT);
  CHECK_ERRNO(unlinkat(kBad, "", 0), ENOENT);
  CHECK_ERRNO(unlinkat(kBad, "", AT_REMOVEDIR), ENOENT);
  CHECK_ERRNO(symlinkat("target", kBad, ""), ENOENT);
  CHECK_ERRNO(symlinkat("", kBad, "name"), ENOENT);
  CHECK_ERRNO(linkat(kBad, "", AT_FDCWD, "name", 0), ENOENT);
  CHECK_ERRNO(linkat(AT_FDCWD, "file", kBad, "", 0), ENOENT);
  CHECK_ERRNO(renameat(kBad, "", AT_FDCWD, "name"), ENOENT);
  CHECK_ERRNO(renameat(AT_FDCWD, "file", kBad, ""), ENOENT);
  CHECK_ERRNO(syscall(SYS_futimesat, kBad, "", nullptr), ENOENT);
  CHECK_ERRNO(syscall(SYS_fchmodat, kBad, "", 0600), ENOENT);
  CHECK_ERRNO(syscall(SYS_faccessat, kBad, "", R_OK), ENOENT);
  // Where it may be the descriptor itself that is meant, it is.
  for (int flags : {0, AT_EMPTY_PATH}) {
    const int expected = flags == 0 ? ENOENT : EBADF;
    CHECK_ERRNO(syscall(kFchmodat2, kBad, "", 0600, flags), expected);
    CHECK_ERRNO(syscall(SYS_fchownat, kBad, "", uid, gid, flags), expected);
    CHECK_ERRNO(syscall(SYS_utimensat, kBad, "", nullptr, flags), expected);
    CHECK_ERRNO(syscall(SYS_faccessat2, kBad, "", R_OK, flags), expected);
    CHECK_ERRNO(syscall(SYS_newfstatat, kBad, "", &info, flags), expected);
    CHECK_ERRNO(syscall(SYS_statx, kBad, "", flags, STATX_SIZE, &more), expected);
    CHECK_ERRNO(syscall(SYS_execveat, kBad, "", none, none, flags), expected);
  }
  CHECK_ERRNO(readlinkat(kBad, "", text, sizeof text), EBADF);
  CHECK_ERRNO(readlinkat(AT_FDCWD, "", text, sizeof text), ENOENT);
}

CASE(slashes_and_dots) {
  make_dir("dir");
  make_file("dir/file", "x");
  for (const char* path : {"dir/file", "./dir/file", "dir//file", "dir/./file", "dir/../dir/file",
                           ".//.//dir///file"}) {
    CHECK_EQ(guest::read_file(path), "x");
  }
  CHECK_OK(try_stat("dir/"));
  CHECK_OK(try_stat("dir/."));
  CHECK_OK(try_stat("dir/.."));
  CHECK_ERRNO(try_stat("dir/file/"), ENOTDIR);
  CHECK_ERRNO(try_stat("dir/file/."), ENOTDIR);
  CHECK_ERRNO(try_stat("dir/file/.."), ENOTDIR);
  CHECK_ERRNO(try_stat("missing/.."), ENOENT);
  CHECK_ERRNO(try_stat(""), ENOENT);
  CHECK_OK(try_stat("/"));
  CHECK_OK(try_stat("//"));
  CHECK_OK(try_stat("/.."));
  CHECK_OK(try_stat("/../../usr"));
  CHECK_OK(try_stat("...") == -1 && errno == ENOENT ? 0 : -1);
}

CASE(links_in_the_middle) {
  make_dir("a");
  make_dir("a/b");
  make_file("a/b/file", "x");
  make_link("a/b", "ab");
  make_link("../a", "a/up");
  make_link("ab/file", "chain");
  CHECK_EQ(guest::read_file("ab/file"), "x");
  CHECK_EQ(guest::read_file("ab/../b/file"), "x");  // .. of the target, not of the link
  CHECK_EQ(guest::read_file("a/up/up/up/b/file"), "x");
  CHECK_EQ(guest::read_file("chain"), "x");
  make_link("/", "root");
  CHECK_OK(try_stat("root/usr"));
}

CASE(trailing_slashes_follow_links) {
  make_dir("dir");
  make_link("dir", "link");
  make_file("file");
  make_link("file", "filelink");
  struct stat info = {};
  CHECK_OK(lstat("link", &info));
  CHECK(S_ISLNK(info.st_mode));
  CHECK_OK(lstat("link/", &info));
  CHECK(S_ISDIR(info.st_mode));
  CHECK_ERRNO(lstat("filelink/", &info), ENOTDIR);
  char target[8];
  CHECK_ERRNO(readlink("link/", target, sizeof target), EINVAL);
  CHECK_ERRNO(unlink("link/"), ENOTDIR);
  CHECK_ERRNO(rmdir("link"), ENOTDIR);
  CHECK_ERRNO(rmdir("link/"), ENOTDIR);
  make_link("nowhere", "dangling");
  CHECK_ERRNO(mkdir("dangling/", 0755), EEXIST);
}

CASE(loops) {
  make_link("self", "self");
  CHECK_ERRNO(try_stat("self"), ELOOP);
  make_link("two", "one");
  make_link("one", "two");
  CHECK_ERRNO(try_stat("one"), ELOOP);
  CHECK_ERRNO(open("one", O_CREAT | O_WRONLY, 0600), ELOOP);
  struct stat info = {};
  CHECK_OK(lstat("one", &info));
}

CASE(forty_links_are_the_limit) {
  make_file("l0", "end");
  for (int i = 1; i <= 41; ++i) {
    make_link(("l" + std::to_string(i - 1)).c_str(), ("l" + std::to_string(i)).c_str());
  }
  CHECK_EQ(guest::read_file("l40"), "end");
  CHECK_ERRNO(try_stat("l41"), ELOOP);
}

CASE(lengths) {
  std::string longest(255, 'n');
  make_file(longest.c_str());
  CHECK_OK(try_stat(longest));
  CHECK_ERRNO(try_stat(longest + "n"), ENAMETOOLONG);
  CHECK_ERRNO(mkdir((longest + "n").c_str(), 0755), ENAMETOOLONG);
  make_dir("d");
  std::string exact = "d";
  while (exact.size() + 2 <= 4095) exact += "/.";
  CHECK_EQ(exact.size(), 4095);
  CHECK_OK(try_stat(exact));
  CHECK_ERRNO(try_stat(exact + "/"), ENAMETOOLONG);
}

CASE(names_are_bytes) {
  for (const char* name :
       {"\xff\xfe", "with space", "new\nline", "-dash", "\xc3\xa4", "*?[", "\\"}) {
    make_file(name, "x");
    CHECK_EQ(guest::read_file(name), "x");
    CHECK_OK(unlink(name));
  }
}

CASE(relative_to_a_directory) {
  make_dir("dir");
  make_dir("dir/sub");
  make_file("dir/file", "inside");
  int dir = open("dir", O_RDONLY | O_DIRECTORY);
  CHECK_OK(openat(dir, "file", O_RDONLY));
  CHECK_OK(openat(dir, "sub/../file", O_RDONLY));
  CHECK_OK(openat(dir, "../dir/file", O_RDONLY));
  CHECK_OK(mkdirat(dir, "new", 0755));
  CHECK_OK(symlinkat("file", dir, "link"));
  CHECK_OK(unlinkat(dir, "link", 0));
  CHECK_OK(try_stat("dir/new"));
  CHECK_OK(rename("dir", "moved"));
  CHECK_OK(openat(dir, "file", O_RDONLY));
  CHECK_OK(unlinkat(dir, "file", 0));
  CHECK_ERRNO(openat(dir, "file", O_RDONLY), ENOENT);
}

CASE(openat2_checks_its_arguments) {
  make_file("file");
  CHECK_OK(openat2(AT_FDCWD, "file", O_RDONLY));
  CHECK_ERRNO(openat2(AT_FDCWD, "file", 1ULL << 40),
              EINVAL);  // unlike open, unknown flags are refused
  CHECK_ERRNO(openat2(AT_FDCWD, "file", O_RDONLY, 1ULL << 30), EINVAL);
  CHECK_ERRNO(openat2(AT_FDCWD, "file", O_RDONLY, 0, 0600), EINVAL);  // a mode without O_CREAT
  CHECK_ERRNO(openat2(AT_FDCWD, "file", O_PATH | O_RDWR), EINVAL);
  open_how how = {};
  CHECK_ERRNO(syscall(437, AT_FDCWD, "file", &how, 8), EINVAL);
  struct {
    open_how how;
    uint64_t more;
  } extended = {};
  CHECK_OK(syscall(437, AT_FDCWD, "file", &extended, sizeof extended));
  extended.more = 1;
  CHECK_ERRNO(syscall(437, AT_FDCWD, "file", &extended, sizeof extended), E2BIG);
  CHECK_ERRNO(syscall(437, AT_FDCWD, "file", 8, sizeof how), EFAULT);
}

CASE(resolve_beneath) {
  make_dir("dir");
  make_file("dir/file", "x");
  make_file("outside");
  make_link("file", "dir/good");
  make_link("../outside", "dir/escape");
  make_link("/etc/passwd", "dir/absolute");
  make_dir("dir/sub");
  make_link("../file", "dir/sub/up");
  int dir = open("dir", O_RDONLY | O_DIRECTORY);
  CHECK_OK(openat2(dir, "file", O_RDONLY, RESOLVE_BENEATH));
  CHECK_OK(openat2(dir, "good", O_RDONLY, RESOLVE_BENEATH));
  CHECK_OK(openat2(dir, "sub/../file", O_RDONLY, RESOLVE_BENEATH));
  CHECK_OK(openat2(dir, "sub/up", O_RDONLY, RESOLVE_BENEATH));
  CHECK_ERRNO(openat2(dir, "../outside", O_RDONLY, RESOLVE_BENEATH), EXDEV);
  CHECK_ERRNO(openat2(dir, "escape", O_RDONLY, RESOLVE_BENEATH), EXDEV);
  CHECK_ERRNO(openat2(dir, "absolute", O_RDONLY, RESOLVE_BENEATH), EXDEV);
  CHECK_ERRNO(openat2(dir, "/etc/passwd", O_RDONLY, RESOLVE_BENEATH), EXDEV);
  CHECK_ERRNO(openat2(dir, "..", O_RDONLY, RESOLVE_BENEATH), EXDEV);
}

CASE(resolve_in_root) {
  make_dir("dir");
  make_file("dir/file", "x");
  make_link("/file", "dir/absolute");
  make_link("../../../file", "dir/relative");
  int dir = open("dir", O_RDONLY | O_DIRECTORY);
  CHECK_OK(openat2(dir, "/file", O_RDONLY, RESOLVE_IN_ROOT));
  CHECK_OK(openat2(dir, "absolute", O_RDONLY, RESOLVE_IN_ROOT));
  CHECK_OK(openat2(dir, "relative", O_RDONLY, RESOLVE_IN_ROOT));
  CHECK_OK(openat2(dir, "../../file", O_RDONLY, RESOLVE_IN_ROOT));
  CHECK_ERRNO(openat2(dir, "/etc/passwd", O_RDONLY, RESOLVE_IN_ROOT), ENOENT);
  CHECK_ERRNO(openat2(dir, "file", O_RDONLY, RESOLVE_IN_ROOT | RESOLVE_BENEATH), EINVAL);
}

CASE(resolve_no_symlinks) {
  make_dir("dir");
  make_file("dir/file", "x");
  make_link("file", "dir/link");
  make_link("dir", "dirlink");
  CHECK_OK(openat2(AT_FDCWD, "dir/file", O_RDONLY, RESOLVE_NO_SYMLINKS));
  CHECK_ERRNO(openat2(AT_FDCWD, "dir/link", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
  CHECK_ERRNO(openat2(AT_FDCWD, "dirlink/file", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
  CHECK_OK(openat2(AT_FDCWD, "dir/link", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS));
  CHECK_OK(openat2(AT_FDCWD, "dir/link", O_RDONLY, RESOLVE_NO_MAGICLINKS));
  int fd = open("dir/file", O_RDONLY);
  std::string magic = "/proc/self/fd/" + std::to_string(fd);
  CHECK_OK(openat2(AT_FDCWD, magic.c_str(), O_RDONLY));
  CHECK_ERRNO(openat2(AT_FDCWD, magic.c_str(), O_RDONLY, RESOLVE_NO_MAGICLINKS), ELOOP);
}

CASE(resolve_no_xdev) {
  make_file("file");
  CHECK_OK(openat2(AT_FDCWD, "file", O_RDONLY, RESOLVE_NO_XDEV));
  CHECK_ERRNO(openat2(AT_FDCWD, "/proc/self/status", O_RDONLY, RESOLVE_NO_XDEV), EXDEV);
}

CASE(reopening_through_proc_self_fd) {
  make_file("file", "0123");
  int fd = open("file", O_RDONLY);
  char byte;
  CHECK_EQ(read(fd, &byte, 1), 1);
  std::string path = "/proc/self/fd/" + std::to_string(fd);
  CHECK_EQ(guest::read_file(path.c_str()), "0123");  // a new description with its own offset
  int writer = CHECK_OK(open(path.c_str(), O_WRONLY));
  CHECK_EQ(write(writer, "X", 1), 1);
  CHECK_EQ(guest::read_file("file"), "X123");
  unlink("file");
  CHECK_EQ(guest::read_file(path.c_str()), "X123");
  CHECK_ERRNO(open("/proc/self/fd/999", O_RDONLY), ENOENT);
}
