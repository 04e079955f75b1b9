// Names: link, symlink, readlink, unlink, rename in all its forms, mkdir, rmdir, mknod.
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/guest/guest_test.h"

namespace {

void make_file(const char* name, const std::string& content = "") {
  REQUIRE(guest::write_file(name, content));
}
void make_dir(const char* name) { REQUIRE(mkdir(name, 0755) == 0); }

bool exists(const char* path) {
  struct stat info = {};
  return lstat(path, &info) == 0;
}

ino_t inode(const char* path) {
  struct stat info = {};
  CHECK_OK(lstat(path, &info));
  return info.st_ino;
}

long rename2(const char* from, const char* to, unsigned flags) {
  return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

}  // namespace

CASE(hard_links) {
  make_file("file", "content");
  CHECK_OK(link("file", "other"));
  CHECK_EQ(inode("file"), inode("other"));
  REQUIRE(guest::write_file("other", "changed"));
  CHECK_EQ(guest::read_file("file"), "changed");
  CHECK_ERRNO(link("file", "other"), EEXIST);
  CHECK_ERRNO(link("missing", "new"), ENOENT);
  make_dir("dir");
  CHECK_ERRNO(link("dir", "dirlink"), EPERM);
  CHECK_ERRNO(link("file", "missing/new"), ENOENT);
  CHECK_ERRNO(link("file", "file/new"), ENOTDIR);
  CHECK_ERRNO(link("file", "new/"), ENOENT);
  REQUIRE(symlink("file", "symbolic") == 0);
  CHECK_OK(link("symbolic", "hard_to_symbolic"));  // link does not follow
  CHECK_EQ(inode("symbolic"), inode("hard_to_symbolic"));
  CHECK_OK(linkat(AT_FDCWD, "symbolic", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
  CHECK_EQ(inode("file"), inode("followed"));
  CHECK_ERRNO(linkat(AT_FDCWD, "file", AT_FDCWD, "x", 0x10), EINVAL);
}

CASE(symbolic_links) {
  CHECK_OK(symlink("some/target", "link"));
  char buffer[64] = {};
  CHECK_EQ(readlink("link", buffer, sizeof buffer), 11);
  CHECK_EQ(std::string(buffer), "some/target");
  CHECK_EQ(readlink("link", buffer, 4), 4);  // cut, without an error
  CHECK_ERRNO(readlink("link", buffer, 0), EINVAL);
  make_file("file");
  CHECK_ERRNO(readlink("file", buffer, sizeof buffer), EINVAL);
  CHECK_ERRNO(readlink("missing", buffer, sizeof buffer), ENOENT);
  CHECK_ERRNO(symlink("x", "link"), EEXIST);
  CHECK_ERRNO(symlink("", "empty"), ENOENT);
  CHECK_ERRNO(symlink("x", ""), ENOENT);
  CHECK_ERRNO(symlink(std::string(4096, 'a').c_str(), "long"), ENAMETOOLONG);
  CHECK_OK(symlink(std::string(4095, 'a').c_str(), "long"));
  CHECK_OK(unlink("link"));
  CHECK(!exists("link"));
}

CASE(unlinking) {
  make_file("file");
  make_dir("dir");
  CHECK_OK(unlink("file"));
  CHECK_ERRNO(unlink("file"), ENOENT);
  CHECK_ERRNO(unlink("dir"), EISDIR);
  CHECK_ERRNO(unlink(""), ENOENT);
  CHECK_ERRNO(unlink("."), EISDIR);
  make_file("file");
  CHECK_ERRNO(unlink("file/"), ENOTDIR);
  CHECK_ERRNO(unlink("dir/"), EISDIR);
  CHECK_OK(unlinkat(AT_FDCWD, "dir", AT_REMOVEDIR));
  CHECK_ERRNO(unlinkat(AT_FDCWD, "file", AT_REMOVEDIR), ENOTDIR);
  CHECK_ERRNO(unlinkat(AT_FDCWD, "file", 0x10), EINVAL);
}

CASE(directories) {
  CHECK_OK(mkdir("dir", 0755));
  CHECK_ERRNO(mkdir("dir", 0755), EEXIST);
  CHECK_OK(mkdir("slashes///", 0755));
  CHECK_ERRNO(mkdir("missing/dir", 0755), ENOENT);
  CHECK_ERRNO(mkdir(".", 0755), EEXIST);
  CHECK_ERRNO(mkdir("..", 0755), EEXIST);
  CHECK_ERRNO(mkdir("/", 0755), EEXIST);
  make_file("file");
  CHECK_ERRNO(mkdir("file/dir", 0755), ENOTDIR);
  REQUIRE(symlink("nowhere", "dangling") == 0);
  CHECK_ERRNO(mkdir("dangling", 0755), EEXIST);
  make_file("dir/inner");
  CHECK_ERRNO(rmdir("dir"), ENOTEMPTY);
  CHECK_ERRNO(rmdir("file"), ENOTDIR);
  CHECK_ERRNO(rmdir("missing"), ENOENT);
  CHECK_ERRNO(rmdir("dir/."), EINVAL);
  CHECK_ERRNO(rmdir("dir/.."), ENOTEMPTY);
  CHECK_ERRNO(rmdir("/"), EBUSY);
  unlink("dir/inner");
  CHECK_OK(rmdir("dir/"));
  CHECK(!exists("dir"));
}

CASE(rename_files) {
  make_file("a", "A");
  make_file("b", "B");
  ino_t number = inode("a");
  CHECK_OK(rename("a", "c"));
  CHECK(!exists("a"));
  CHECK_EQ(inode("c"), number);
  CHECK_OK(rename("c", "b"));  // replaces
  CHECK_EQ(guest::read_file("b"), "A");
  CHECK_EQ(inode("b"), number);
  CHECK_OK(rename("b", "b"));
  CHECK_ERRNO(rename("missing", "x"), ENOENT);
  CHECK_ERRNO(rename("b", "missing/x"), ENOENT);
  CHECK_ERRNO(rename("b", ""), ENOENT);
  CHECK_ERRNO(rename("b", "new/"), ENOTDIR);
}

CASE(rename_of_two_links_to_one_file_does_nothing) {
  make_file("a");
  REQUIRE(link("a", "b") == 0);
  CHECK_OK(rename("a", "b"));
  CHECK(exists("a"));
  CHECK(exists("b"));
}

CASE(rename_directories) {
  make_dir("one");
  make_file("one/inner", "x");
  make_dir("empty");
  make_dir("full");
  make_file("full/thing");
  make_file("file");
  CHECK_ERRNO(rename("one", "full"), ENOTEMPTY);
  CHECK_OK(rename("one", "empty"));
  CHECK_EQ(guest::read_file("empty/inner"), "x");
  CHECK_ERRNO(rename("empty", "file"), ENOTDIR);
  CHECK_ERRNO(rename("file", "empty"), EISDIR);
  CHECK_ERRNO(rename("empty", "empty/below"), EINVAL);
  CHECK_ERRNO(rename("empty/.", "x"), EBUSY);
  CHECK_ERRNO(rename("full/..", "x"), EBUSY);
  CHECK_OK(rename("empty", "moved/"));
  CHECK_OK(rename("moved", "full/moved"));
  CHECK_EQ(guest::read_file("full/moved/inner"), "x");
  struct stat up = {}, parent = {};
  CHECK_OK(stat("full/moved/..", &up));
  CHECK_OK(stat("full", &parent));
  CHECK_EQ(up.st_ino, parent.st_ino);
}

CASE(rename_flags) {
  make_file("a", "A");
  make_file("b", "B");
  CHECK_ERRNO(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
  CHECK_OK(rename2("a", "c", RENAME_NOREPLACE));
  CHECK_OK(rename2("c", "b", RENAME_EXCHANGE));
  CHECK_EQ(guest::read_file("c"), "B");
  CHECK_EQ(guest::read_file("b"), "A");
  CHECK_ERRNO(rename2("c", "missing", RENAME_EXCHANGE), ENOENT);
  CHECK_ERRNO(rename2("b", "c", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
  CHECK_ERRNO(rename2("b", "c", 0x100), EINVAL);
  make_dir("dir");
  make_file("dir/inside", "I");
  CHECK_OK(rename2("b", "dir", RENAME_EXCHANGE));  // a file and a directory
  CHECK_EQ(guest::read_file("dir"), "A");
  CHECK_EQ(guest::read_file("b/inside"), "I");
  CHECK_ERRNO(rename2("b", "b/inside", RENAME_EXCHANGE), EINVAL);
}

CASE(open_files_follow_renames) {
  make_dir("dir");
  make_file("dir/file", "x");
  int dir = open("dir", O_RDONLY | O_DIRECTORY);
  CHECK_OK(rename("dir", "renamed"));
  CHECK_OK(faccessat(dir, "file", F_OK, 0));
  CHECK_OK(renameat(dir, "file", AT_FDCWD, "outside"));
  CHECK_EQ(guest::read_file("outside"), "x");
  char path[64], target[4096] = {};
  snprintf(path, sizeof path, "/proc/self/fd/%d", dir);
  CHECK(readlink(path, target, sizeof target - 1) > 0);
  CHECK_EQ(std::string(strrchr(target, '/')), "/renamed");
}

CASE(cwd_follows_renames_and_survives_removal) {
  make_dir("dir");
  REQUIRE(chdir("dir") == 0);
  CHECK_OK(rename("../dir", "../moved"));
  char path[4096];
  CHECK(getcwd(path, sizeof path) != nullptr);
  CHECK_EQ(std::string(strrchr(path, '/')), "/moved");
  CHECK_OK(rmdir("../moved"));
  CHECK_ERRNO(syscall(SYS_getcwd, path, sizeof path), ENOENT);
  CHECK_ERRNO(open("new", O_CREAT | O_WRONLY, 0600), ENOENT);
  CHECK_ERRNO(mkdir("new", 0755), ENOENT);
  CHECK_OK(access(".", F_OK));
  struct stat info = {};
  CHECK_OK(stat(".", &info));
  CHECK_EQ(info.st_nlink, 0);
  CHECK_OK(chdir(".."));
}

CASE(getcwd_sizes) {
  REQUIRE(chdir("/") == 0);
  char path[16];
  CHECK_EQ(syscall(SYS_getcwd, path, sizeof path), 2);
  CHECK_EQ(std::string(path), "/");
  CHECK_ERRNO(syscall(SYS_getcwd, path, 1), ERANGE);
  CHECK_OK(chdir("usr"));
  CHECK_EQ(syscall(SYS_getcwd, path, sizeof path), 5);
  int fd = open("..", O_RDONLY);
  CHECK_OK(fchdir(fd));
  CHECK_EQ(syscall(SYS_getcwd, path, sizeof path), 2);
  int file = open("/dev/null", O_RDONLY);
  CHECK_ERRNO(fchdir(file), ENOTDIR);
  CHECK_ERRNO(fchdir(999), EBADF);
  CHECK_ERRNO(chdir("/dev/null"), ENOTDIR);
}

CASE(mknod_kinds) {
  umask(022);
  CHECK_OK(mknod("regular", S_IFREG | 0644, 0));
  CHECK_OK(mknod("plain", 0600, 0));  // type 0 is a regular file
  struct stat info = {};
  CHECK_OK(stat("plain", &info));
  CHECK_EQ(info.st_mode, S_IFREG | 0600);
  CHECK_OK(mknod("fifo", S_IFIFO | 0644, 0));
  CHECK_OK(mknod("socket", S_IFSOCK | 0644, 0));
  CHECK_OK(stat("socket", &info));
  CHECK_EQ(info.st_mode, S_IFSOCK | 0644);
  CHECK_ERRNO(open("socket", O_RDONLY), ENXIO);
  CHECK_ERRNO(mknod("regular", S_IFREG, 0), EEXIST);
  CHECK_ERRNO(mknod("dir", S_IFDIR | 0755, 0), EPERM);
  CHECK_ERRNO(mknod("bad", S_IFMT, 0), EINVAL);
  if (geteuid() != 0) CHECK_ERRNO(mknod("device", S_IFCHR | 0600, 0x103), EPERM);
}

CASE(deep_trees) {
  // 100 levels: 300 characters of path, removed again from below.
  for (int i = 0; i < 100; ++i) {
    make_dir("dd");
    REQUIRE(chdir("dd") == 0);
  }
  make_file("leaf", "deep");
  for (int i = 0; i < 100; ++i) REQUIRE(chdir("..") == 0);
  std::string path;
  for (int i = 0; i < 100; ++i) path += "dd/";
  CHECK_EQ(guest::read_file((path + "leaf").c_str()), "deep");
  CHECK_OK(unlink((path + "leaf").c_str()));
  for (int i = 0; i < 100; ++i) {
    REQUIRE(rmdir(path.c_str()) == 0);
    path.resize(path.size() - 3);
  }
}
