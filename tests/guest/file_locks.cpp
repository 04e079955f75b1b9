// flock, POSIX record locks, open-file-description locks.
#include <fcntl.h>
#include <sys/file.h>

#include "tests/guest/guest_test.h"
#include "tests/guest/turn.h"

namespace {

using guest::Turn;

struct flock record(short type, off_t start, off_t length) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

int set_lock(int fd, int command, short type, off_t start = 0, off_t length = 0) {
  struct flock lock = record(type, start, length);
  return fcntl(fd, command, &lock);
}

int open_file() {
  int fd = open("file", O_RDWR | O_CREAT, 0600);
  REQUIRE(fd >= 0);
  return fd;
}

}  // namespace

CASE(flock_belongs_to_the_open_file) {
  int first = open_file(), second = open_file();
  CHECK_OK(flock(first, LOCK_EX));
  CHECK_ERRNO(flock(second, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  CHECK_ERRNO(flock(second, LOCK_SH | LOCK_NB), EWOULDBLOCK);
  int copy = dup(first);
  CHECK_OK(flock(copy, LOCK_EX | LOCK_NB));
  close(first);
  CHECK_ERRNO(flock(second, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  close(copy);
  CHECK_OK(flock(second, LOCK_EX | LOCK_NB));
  CHECK_OK(flock(second, LOCK_UN));
  CHECK_ERRNO(flock(second, 77), EINVAL);
  CHECK_ERRNO(flock(999, LOCK_EX), EBADF);
}

CASE(flock_shared_and_converted) {
  int first = open_file(), second = open_file();
  CHECK_OK(flock(first, LOCK_SH));
  CHECK_OK(flock(second, LOCK_SH | LOCK_NB));
  CHECK_ERRNO(flock(first, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  // A failed conversion has given the old lock up.
  CHECK_OK(flock(second, LOCK_EX | LOCK_NB));
}

CASE(flock_is_inherited_by_fork) {
  int fd = open_file(), other = open_file();
  CHECK_OK(flock(fd, LOCK_EX));
  pid_t pid = guest::spawn([fd] { CHECK_OK(flock(fd, LOCK_UN)); });  // the same open file
  CHECK_EXIT(pid, 0);
  CHECK_OK(flock(other, LOCK_EX | LOCK_NB));
}

CASE(flock_waits) {
  int fd = open_file();
  CHECK_OK(flock(fd, LOCK_EX));
  pid_t pid = guest::spawn([] {
    int mine = open_file();
    CHECK_OK(flock(mine, LOCK_EX));
  });
  guest::wait_until_blocked(pid);
  CHECK_OK(flock(fd, LOCK_UN));
  CHECK_EXIT(pid, 0);
}

CASE(posix_locks_conflict_between_processes_only) {
  int fd = open_file(), other = open_file();
  CHECK_OK(set_lock(fd, F_SETLK, F_WRLCK, 10, 10));
  CHECK_OK(set_lock(other, F_SETLK, F_WRLCK, 10, 10));
  pid_t parent = getpid();
  pid_t pid = guest::spawn([fd, parent] {
    CHECK_ERRNO(set_lock(fd, F_SETLK, F_WRLCK, 15, 1), EAGAIN);
    CHECK_ERRNO(set_lock(fd, F_SETLK, F_RDLCK, 0, 0), EAGAIN);
    CHECK_OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 10));
    CHECK_OK(set_lock(fd, F_SETLK, F_WRLCK, 20, 5));
    struct flock probe = record(F_WRLCK, 0, 0);
    CHECK_OK(fcntl(fd, F_GETLK, &probe));
    CHECK_EQ(probe.l_type, F_WRLCK);
    CHECK_EQ(probe.l_pid, parent);
    CHECK_EQ(probe.l_start, 10);
    CHECK_EQ(probe.l_len, 10);
    probe = record(F_WRLCK, 100, 5);
    CHECK_OK(fcntl(fd, F_GETLK, &probe));
    CHECK_EQ(probe.l_type, F_UNLCK);
  });
  CHECK_EXIT(pid, 0);
}

CASE(closing_any_descriptor_releases_posix_locks) {
  int fd = open_file();
  CHECK_OK(set_lock(fd, F_SETLK, F_WRLCK));
  close(open_file());
  pid_t pid = guest::spawn([fd] { CHECK_OK(set_lock(fd, F_SETLK, F_WRLCK)); });
  CHECK_EXIT(pid, 0);
}

CASE(posix_ranges_split_and_merge) {
  int fd = open_file();
  CHECK_OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 100));
  CHECK_OK(set_lock(fd, F_SETLK, F_UNLCK, 40, 20));
  CHECK_OK(set_lock(fd, F_SETLK, F_RDLCK, 80, 10));
  pid_t pid = guest::spawn([fd] {
    auto probe = [fd](off_t start, off_t length, short type = F_WRLCK) {
      struct flock lock = record(type, start, length);
      CHECK_OK(fcntl(fd, F_GETLK, &lock));
      return lock;
    };
    struct flock lock = probe(0, 0);
    CHECK_EQ(lock.l_start, 0);
    CHECK_EQ(lock.l_len, 40);
    CHECK_EQ(probe(45, 10).l_type, F_UNLCK);
    lock = probe(60, 0);
    CHECK_EQ(lock.l_start, 60);
    CHECK_EQ(lock.l_len, 20);
    lock = probe(85, 1);
    CHECK_EQ(lock.l_type, F_RDLCK);
    CHECK_EQ(lock.l_start, 80);
    CHECK_EQ(lock.l_len, 10);
    CHECK_EQ(probe(85, 1, F_RDLCK).l_type, F_UNLCK);
    CHECK_EQ(probe(95, 1).l_len, 10);
  });
  CHECK_EXIT(pid, 0);
}

CASE(posix_lock_arguments) {
  int fd = open_file();
  CHECK_ERRNO(set_lock(fd, F_SETLK, 77), EINVAL);
  CHECK_ERRNO(set_lock(fd, F_SETLK, F_WRLCK, -5, 10), EINVAL);
  CHECK_OK(set_lock(fd, F_SETLK, F_WRLCK, 20, -10));  // bytes 10 to 19
  struct flock whence = record(F_UNLCK, -5, 0);
  whence.l_whence = 9;
  CHECK_ERRNO(fcntl(fd, F_SETLK, &whence), EINVAL);
  int read_only = open("file", O_RDONLY);
  CHECK_ERRNO(set_lock(read_only, F_SETLK, F_WRLCK), EBADF);
  CHECK_OK(set_lock(read_only, F_SETLK, F_RDLCK));
  int write_only = open("file", O_WRONLY);
  CHECK_ERRNO(set_lock(write_only, F_SETLK, F_RDLCK), EBADF);
}

CASE(posix_lock_of_the_longest_negative_length) {
  const int fd = open_file();
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = 10;
  lock.l_len = INT64_MIN;
  CHECK_ERRNO(fcntl(fd, F_SETLK, &lock), EINVAL);
}

CASE(posix_lock_waits_and_is_released_by_exit) {
  Turn locked;
  pid_t holder = fork();
  if (holder == 0) {
    int fd = open_file();
    set_lock(fd, F_SETLK, F_WRLCK);
    locked.give();
    guest::sleep_ms(20);
    _exit(0);
  }
  locked.take();
  int fd = open_file();
  CHECK_ERRNO(set_lock(fd, F_SETLK, F_WRLCK), EAGAIN);
  CHECK_OK(set_lock(fd, F_SETLKW, F_WRLCK));
  CHECK_EXIT(holder, 0);
}

CASE(deadlock_is_detected) {
  Turn child_ready, go;
  int fd = open_file();
  CHECK_OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 1));
  pid_t pid = guest::spawn([&] {
    int mine = open_file();
    CHECK_OK(set_lock(mine, F_SETLK, F_WRLCK, 1, 1));
    child_ready.give();
    CHECK_OK(set_lock(mine, F_SETLKW, F_WRLCK, 0, 1));
  });
  child_ready.take();
  guest::wait_until_blocked(pid);
  CHECK_ERRNO(set_lock(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
  CHECK_OK(set_lock(fd, F_SETLK, F_UNLCK, 0, 1));
  CHECK_EXIT(pid, 0);
}

CASE(ofd_locks_belong_to_the_open_file) {
  int first = open_file(), second = open_file();
  CHECK_OK(set_lock(first, F_OFD_SETLK, F_WRLCK, 0, 10));
  CHECK_ERRNO(set_lock(second, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
  CHECK_OK(set_lock(second, F_OFD_SETLK, F_WRLCK, 10, 1));
  struct flock probe = record(F_WRLCK, 0, 0);
  CHECK_OK(fcntl(second, F_OFD_GETLK, &probe));
  CHECK_EQ(probe.l_pid, -1);
  CHECK_EQ(probe.l_len, 10);
  close(open_file());  // does not release anything
  CHECK_ERRNO(set_lock(second, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
  CHECK_ERRNO(set_lock(second, F_SETLK, F_WRLCK, 5, 1), EAGAIN);  // they conflict with POSIX locks
  close(first);
  CHECK_OK(set_lock(second, F_OFD_SETLK, F_WRLCK, 5, 1));
  probe.l_pid = 1;
  CHECK_ERRNO(fcntl(second, F_OFD_SETLK, &probe), EINVAL);
}

CASE(flock_and_posix_locks_do_not_see_each_other) {
  int first = open_file(), second = open_file();
  CHECK_OK(flock(first, LOCK_EX));
  pid_t pid = guest::spawn([second] { CHECK_OK(set_lock(second, F_SETLK, F_WRLCK)); });
  CHECK_EXIT(pid, 0);
}

CASE(lockf_uses_the_position) {
  int fd = open_file();
  CHECK_EQ(lseek(fd, 50, SEEK_SET), 50);
  CHECK_OK(lockf(fd, F_TLOCK, 10));
  pid_t pid = guest::spawn([] {
    int mine = open_file();
    CHECK_OK(lockf(mine, F_TLOCK, 50));
    CHECK_EQ(lseek(mine, 55, SEEK_SET), 55);
    CHECK_ERRNO(lockf(mine, F_TLOCK, 1), EAGAIN);
    CHECK_ERRNO(lockf(mine, F_TEST, 1), EACCES);
  });
  CHECK_EXIT(pid, 0);
}
