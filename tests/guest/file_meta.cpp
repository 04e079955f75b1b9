// stat, statx, modes, owners, times, access checks, statfs.
#include <fcntl.h>
#include <grp.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <utime.h>

#include "tests/guest/guest_test.h"

namespace {

constexpr int kCapChown = 0, kCapDacOverride = 1, kCapSetuid = 7;

struct stat stat_of(const char* path) {
  struct stat info = {};
  CHECK_OK(stat(path, &info));
  return info;
}

bool before(const timespec& a, const timespec& b) {
  return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

bool same(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

// Longer than a tick of the coarse clock that file times come from.
void next_tick() { guest::sleep_ms(15); }

}  // namespace

CASE(regular_file) {
  umask(022);
  REQUIRE(guest::write_file("file", std::string(5000, 'x')));
  struct stat info = stat_of("file");
  CHECK_EQ(info.st_mode, S_IFREG | 0644);
  CHECK_EQ(info.st_nlink, 1);
  CHECK_EQ(info.st_size, 5000);
  CHECK_EQ(info.st_uid, geteuid());
  CHECK_EQ(info.st_gid, getegid());
  CHECK(info.st_ino != 0);
  CHECK(info.st_blksize >= 512);
  CHECK(info.st_blocks > 0);
  struct stat by_fd = {};
  int fd = open("file", O_RDONLY);
  CHECK_OK(fstat(fd, &by_fd));
  CHECK_EQ(by_fd.st_ino, info.st_ino);
  CHECK_EQ(by_fd.st_dev, info.st_dev);
}

CASE(other_kinds) {
  umask(022);
  REQUIRE(mkdir("dir", 0750) == 0 && symlink("target", "link") == 0 && mkfifo("fifo", 0640) == 0);
  CHECK_EQ(stat_of("dir").st_mode, S_IFDIR | 0750);
  struct stat info = {};
  CHECK_OK(lstat("link", &info));
  CHECK_EQ(info.st_mode, S_IFLNK | 0777);
  CHECK_EQ(info.st_size, 6);
  CHECK_ERRNO(stat("link", &info), ENOENT);
  CHECK_EQ(stat_of("fifo").st_mode, S_IFIFO | 0640);
  CHECK_EQ(stat_of("/dev/null").st_mode, S_IFCHR | 0666);
  CHECK_EQ(stat_of("/dev/null").st_rdev, makedev(1, 3));
  CHECK_EQ(stat_of(".").st_ino, stat_of("dir/..").st_ino);
}

CASE(link_counts) {
  REQUIRE(guest::write_file("file", "") && link("file", "second") == 0);
  CHECK_EQ(stat_of("file").st_nlink, 2);
  CHECK_EQ(stat_of("file").st_ino, stat_of("second").st_ino);
  unlink("file");
  CHECK_EQ(stat_of("second").st_nlink, 1);
  REQUIRE(mkdir("dir", 0755) == 0 && mkdir("dir/a", 0755) == 0 && mkdir("dir/b", 0755) == 0);
  CHECK_EQ(stat_of("dir").st_nlink, 4);
  rmdir("dir/a");
  CHECK_EQ(stat_of("dir").st_nlink, 3);
}

CASE(fstatat_flags) {
  REQUIRE(guest::write_file("file", "abc") && symlink("file", "link") == 0);
  int dir = open(".", O_RDONLY | O_DIRECTORY);
  struct stat info = {};
  CHECK_OK(fstatat(dir, "link", &info, AT_SYMLINK_NOFOLLOW));
  CHECK(S_ISLNK(info.st_mode));
  CHECK_OK(fstatat(dir, "link", &info, 0));
  CHECK(S_ISREG(info.st_mode));
  CHECK_OK(fstatat(dir, "", &info, AT_EMPTY_PATH));
  CHECK(S_ISDIR(info.st_mode));
  CHECK_ERRNO(fstatat(dir, "", &info, 0), ENOENT);
  CHECK_ERRNO(fstatat(dir, "link", &info, 0x10), EINVAL);
  CHECK_ERRNO(fstatat(999, "link", &info, 0), EBADF);
  CHECK_ERRNO(syscall(SYS_newfstatat, dir, "link", 8, 0), EFAULT);
}

CASE(statx_fields) {
  umask(022);
  REQUIRE(guest::write_file("file", "abc"));
  struct statx info = {};
  CHECK_OK(statx(AT_FDCWD, "file", 0, STATX_BASIC_STATS | STATX_BTIME, &info));
  CHECK_EQ(info.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
  CHECK_EQ(info.stx_mode, S_IFREG | 0644);
  CHECK_EQ(info.stx_size, 3);
  CHECK_EQ(info.stx_nlink, 1);
  struct stat old = stat_of("file");
  CHECK_EQ(info.stx_ino, old.st_ino);
  CHECK_EQ(makedev(info.stx_dev_major, info.stx_dev_minor), old.st_dev);
  CHECK_EQ(info.stx_mtime.tv_sec, old.st_mtim.tv_sec);
  CHECK_EQ(info.stx_mtime.tv_nsec, old.st_mtim.tv_nsec);
  int fd = open("file", O_RDONLY);
  CHECK_OK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &info));
  CHECK_EQ(info.stx_size, 3);
  CHECK_ERRNO(statx(AT_FDCWD, "file", 0x10, STATX_SIZE, &info), EINVAL);
  CHECK_ERRNO(statx(AT_FDCWD, "file", 0, 0x80000000, &info), EINVAL);
  CHECK_ERRNO(statx(AT_FDCWD, "missing", 0, STATX_SIZE, &info), ENOENT);
}

CASE(chmod_variants) {
  REQUIRE(guest::write_file("file", "") && symlink("file", "link") == 0);
  CHECK_OK(chmod("link", 0600));
  CHECK_EQ(stat_of("file").st_mode & 07777, 0600);
  CHECK_OK(chmod("file", 04755));
  CHECK_EQ(stat_of("file").st_mode & 07777, 04755);
  int fd = open("file", O_RDONLY);
  CHECK_OK(fchmod(fd, 0444));
  CHECK_EQ(stat_of("file").st_mode & 07777, 0444);
  CHECK_OK(fchmodat(AT_FDCWD, "file", 0640, 0));
  CHECK_EQ(stat_of("file").st_mode & 07777, 0640);
  CHECK_ERRNO(chmod("missing", 0600), ENOENT);
  CHECK_ERRNO(fchmod(999, 0600), EBADF);
}

CASE(writing_clears_set_id_bits_for_users) {
  REQUIRE(guest::write_file("file", ""));
  CHECK_OK(chmod("file", 06755));
  pid_t pid = guest::spawn([] {
    if (guest::has_capability(kCapSetuid)) {
      REQUIRE(chown("file", 1234, 1234) == 0 && chmod("file", 06755) == 0);
      REQUIRE(setgroups(0, nullptr) == 0 && setresgid(1234, 1234, 1234) == 0 &&
              setresuid(1234, 1234, 1234) == 0);
    }
    int fd = open("file", O_WRONLY);
    REQUIRE(fd >= 0);
    CHECK_EQ(write(fd, "x", 1), 1);
    struct stat info = {};
    CHECK_OK(fstat(fd, &info));
    CHECK_EQ(info.st_mode & 07777, 0755);
  });
  CHECK_EXIT(pid, 0);
}

CASE(chown_by_the_owner) {
  REQUIRE(guest::write_file("file", ""));
  CHECK_OK(chown("file", -1, -1));
  CHECK_OK(chown("file", geteuid(), getegid()));
  CHECK_ERRNO(chown("missing", 0, 0), ENOENT);
  if (guest::has_capability(kCapChown)) {
    CHECK_OK(chmod("file", 06755));
    CHECK_OK(chown("file", 1234, 5678));
    struct stat info = stat_of("file");
    CHECK_EQ(info.st_uid, 1234);
    CHECK_EQ(info.st_gid, 5678);
    CHECK_EQ(info.st_mode & 07777, 0755);  // the set-id bits are gone, root or not
    REQUIRE(symlink("file", "link") == 0);
    CHECK_OK(lchown("link", 77, 88));
    CHECK_EQ(stat_of("file").st_uid, 1234);
    CHECK_OK(lstat("link", &info));
    CHECK_EQ(info.st_uid, 77);
  } else {
    CHECK_ERRNO(chown("file", geteuid() + 1, -1), EPERM);
    CHECK_ERRNO(chown("file", -1, getegid() + 1), EPERM);
    if (geteuid() != 0) CHECK_ERRNO(chown("/", -1, getegid()), EPERM);
  }
}

CASE(times_follow_operations) {
  REQUIRE(guest::write_file("file", "abc"));
  struct stat start = stat_of("file");
  next_tick();
  int fd = open("file", O_RDWR);
  CHECK_EQ(write(fd, "x", 1), 1);
  struct stat written = stat_of("file");
  CHECK(before(start.st_mtim, written.st_mtim));
  CHECK(same(written.st_mtim, written.st_ctim));
  next_tick();
  CHECK_OK(fchmod(fd, 0600));
  struct stat changed = stat_of("file");
  CHECK(same(changed.st_mtim, written.st_mtim));
  CHECK(before(written.st_ctim, changed.st_ctim));
  next_tick();
  REQUIRE(link("file", "second") == 0);
  CHECK(before(changed.st_ctim, stat_of("file").st_ctim));
  next_tick();
  struct stat linked = stat_of("file");
  CHECK_OK(rename("second", "third"));
  CHECK(same(linked.st_mtim, stat_of("file").st_mtim));
}

CASE(directory_times) {
  REQUIRE(mkdir("dir", 0755) == 0);
  struct stat start = stat_of("dir");
  next_tick();
  REQUIRE(guest::write_file("dir/file", ""));
  struct stat created = stat_of("dir");
  CHECK(before(start.st_mtim, created.st_mtim));
  next_tick();
  REQUIRE(guest::write_file("dir/file", "content"));
  CHECK(same(created.st_mtim, stat_of("dir").st_mtim));
  next_tick();
  unlink("dir/file");
  CHECK(before(created.st_mtim, stat_of("dir").st_mtim));
}

CASE(utimensat_sets_times) {
  REQUIRE(guest::write_file("file", "") && symlink("file", "link") == 0);
  timespec times[2] = {{1000, 123456789}, {2000, 987654321}};
  CHECK_OK(utimensat(AT_FDCWD, "file", times, 0));
  struct stat info = stat_of("file");
  CHECK(same(info.st_atim, times[0]));
  CHECK(same(info.st_mtim, times[1]));
  times[0].tv_nsec = UTIME_OMIT;
  times[1] = {3000, 0};
  CHECK_OK(utimensat(AT_FDCWD, "link", times, 0));
  info = stat_of("file");
  CHECK_EQ(info.st_atim.tv_sec, 1000);
  CHECK_EQ(info.st_mtim.tv_sec, 3000);
  CHECK_OK(utimensat(AT_FDCWD, "link", times, AT_SYMLINK_NOFOLLOW));
  CHECK_OK(lstat("link", &info));
  CHECK_EQ(info.st_mtim.tv_sec, 3000);
  times[0].tv_nsec = UTIME_NOW;
  times[1].tv_nsec = UTIME_NOW;
  CHECK_OK(utimensat(AT_FDCWD, "file", times, 0));
  CHECK(stat_of("file").st_mtim.tv_sec > 1000000000);
  int fd = open("file", O_RDONLY);
  times[0] = times[1] = {5000, 0};
  CHECK_OK(futimens(fd, times));
  CHECK_EQ(stat_of("file").st_mtim.tv_sec, 5000);
  times[0] = {0, 1000000000};
  CHECK_ERRNO(utimensat(AT_FDCWD, "file", times, 0), EINVAL);
  CHECK_ERRNO(utimensat(AT_FDCWD, "missing", nullptr, 0), ENOENT);
  utimbuf old = {6000, 7000};
  CHECK_OK(utime("file", &old));
  CHECK_EQ(stat_of("file").st_mtim.tv_sec, 7000);
  timeval micro[2] = {{8000, 5}, {9000, 6}};
  CHECK_OK(utimes("file", micro));
  CHECK_EQ(stat_of("file").st_mtim.tv_nsec, 6000);
}

CASE(access_of_the_owner) {
  REQUIRE(guest::write_file("file", ""));
  CHECK_OK(chmod("file", 0400));
  CHECK_OK(access("file", F_OK));
  CHECK_OK(access("file", R_OK));
  if (guest::has_capability(kCapDacOverride)) {
    CHECK_OK(access("file", W_OK));
  } else {
    CHECK_ERRNO(access("file", W_OK), EACCES);
    CHECK_ERRNO(open("file", O_WRONLY), EACCES);
  }
  CHECK_ERRNO(access("file", X_OK), EACCES);  // root, too: no x bit at all
  CHECK_ERRNO(access("missing", F_OK), ENOENT);
  CHECK_ERRNO(access("file", 8), EINVAL);
  CHECK_ERRNO(faccessat(AT_FDCWD, "file", F_OK, 0x10), EINVAL);
  CHECK_OK(syscall(439, AT_FDCWD, "file", R_OK, AT_EACCESS));  // faccessat2
  CHECK_ERRNO(syscall(439, AT_FDCWD, "file", R_OK, 0x10), EINVAL);
  REQUIRE(symlink("nowhere", "link") == 0);
  CHECK_ERRNO(access("link", F_OK), ENOENT);
  CHECK_OK(faccessat(AT_FDCWD, "link", F_OK, AT_SYMLINK_NOFOLLOW));
}

CASE(permissions_bind_an_ordinary_user) {
  // As root the checks run in a child that gave its privileges away; as a user they run directly.
  REQUIRE(mkdir("private", 0755) == 0 && guest::write_file("private/file", "secret"));
  bool root = guest::has_capability(kCapSetuid);
  CHECK_OK(chmod("private", root ? 0700 : 0));
  CHECK_OK(mkdir("readonly", 0755));
  REQUIRE(guest::write_file("readonly/file", "x"));
  CHECK_OK(chmod("readonly", 0555));
  CHECK_OK(chmod(".", 0755));
  pid_t pid = guest::spawn([root] {
    if (root) {
      REQUIRE(setgroups(0, nullptr) == 0 && setresgid(1234, 1234, 1234) == 0 &&
              setresuid(1234, 1234, 1234) == 0);
    }
    struct stat info = {};
    CHECK_ERRNO(open("private/file", O_RDONLY), EACCES);
    CHECK_ERRNO(stat("private/file", &info), EACCES);
    CHECK_ERRNO(stat("private/missing", &info), EACCES);
    CHECK_ERRNO(open("private", O_RDONLY), EACCES);
    CHECK_ERRNO(chdir("private"), EACCES);
    CHECK_OK(stat("private", &info));
    CHECK_ERRNO(open("readonly/new", O_CREAT | O_WRONLY, 0600), EACCES);
    CHECK_ERRNO(unlink("readonly/file"), EACCES);
    CHECK_ERRNO(rename("readonly/file", "readonly/other"), EACCES);
    CHECK_ERRNO(mkdir("readonly/dir", 0755), EACCES);
    CHECK_EQ(guest::read_file("readonly/file"), "x");
  });
  CHECK_EXIT(pid, 0);
  chmod("private", 0755);
}

CASE(sticky_directories) {
  if (!guest::has_capability(kCapSetuid)) return;
  REQUIRE(mkdir("sticky", 0777) == 0 && chmod("sticky", 01777) == 0 &&
          guest::write_file("sticky/file", ""));
  pid_t pid = guest::spawn([] {
    REQUIRE(setgroups(0, nullptr) == 0 && setresgid(1234, 1234, 1234) == 0 &&
            setresuid(1234, 1234, 1234) == 0);
    CHECK_ERRNO(unlink("sticky/file"), EPERM);
    CHECK_ERRNO(rename("sticky/file", "sticky/mine"), EPERM);
    REQUIRE(guest::write_file("sticky/own", ""));
    CHECK_OK(unlink("sticky/own"));
  });
  CHECK_EXIT(pid, 0);
}

CASE(setgid_directories_pass_their_group_on) {
  if (!guest::has_capability(kCapChown)) return;
  REQUIRE(mkdir("shared", 0777) == 0 && chown("shared", 0, 4321) == 0 &&
          chmod("shared", 02777) == 0);
  REQUIRE(guest::write_file("shared/file", "") && mkdir("shared/dir", 0755) == 0);
  CHECK_EQ(stat_of("shared/file").st_gid, 4321);
  CHECK_EQ(stat_of("shared/dir").st_gid, 4321);
  CHECK_EQ(stat_of("shared/dir").st_mode & S_ISGID, S_ISGID);
}

CASE(statfs_answers) {
  struct statfs info = {};
  CHECK_OK(statfs(".", &info));
  CHECK(info.f_bsize > 0);
  CHECK_EQ(info.f_namelen, 255);
  CHECK(info.f_blocks >= info.f_bfree);
  CHECK_OK(statfs("/proc", &info));
  CHECK_EQ(info.f_type, 0x9fa0);
  int fd = open(".", O_RDONLY);
  CHECK_OK(fstatfs(fd, &info));
  CHECK_ERRNO(statfs("missing", &info), ENOENT);
  CHECK_ERRNO(fstatfs(999, &info), EBADF);
}
