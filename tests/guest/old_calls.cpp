// System calls that glibc no longer makes, or that few programs make, by number: their newer forms
// have cases elsewhere.
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <utime.h>

#include "tests/guest/guest_test.h"

namespace {

constexpr int kCapSysAdmin = 21, kCapSysChroot = 18, kCapSetgid = 6;
constexpr long kFchmodat2 = 452;

}  // namespace

CASE(open_and_stat) {
  umask(022);
  int fd = CHECK_OK(static_cast<int>(syscall(SYS_open, "file", O_CREAT | O_RDWR, 0666)));
  CHECK_EQ(write(fd, "abc", 3), 3);
  REQUIRE(syscall(SYS_symlink, "file", "link") == 0);
  struct stat info = {};
  CHECK_OK(syscall(SYS_stat, "link", &info));
  CHECK_EQ(info.st_mode, S_IFREG | 0644);
  CHECK_EQ(info.st_size, 3);
  CHECK_OK(syscall(SYS_lstat, "link", &info));
  CHECK(S_ISLNK(info.st_mode));
  CHECK_OK(syscall(SYS_fstat, fd, &info));
  CHECK_EQ(info.st_size, 3);
  CHECK_ERRNO(syscall(SYS_stat, "missing", &info), ENOENT);
  CHECK_ERRNO(syscall(SYS_fstat, 999, &info), EBADF);
  CHECK_ERRNO(syscall(SYS_stat, "file", 8), EFAULT);
}

CASE(names) {
  CHECK_OK(syscall(SYS_mknod, "fifo", S_IFIFO | 0600, 0));
  CHECK_OK(syscall(SYS_mkdir, "dir", 0755));
  CHECK_OK(syscall(SYS_link, "fifo", "dir/second"));
  CHECK_OK(syscall(SYS_rename, "dir/second", "dir/third"));
  char target[8];
  CHECK_ERRNO(syscall(SYS_readlink, "fifo", target, sizeof target), EINVAL);
  CHECK_OK(syscall(SYS_access, "dir/third", F_OK));
  CHECK_OK(syscall(SYS_faccessat, AT_FDCWD, "dir/third", F_OK));
  CHECK_OK(syscall(SYS_unlink, "dir/third"));
  CHECK_OK(syscall(SYS_rmdir, "dir"));
}

CASE(times) {
  REQUIRE(guest::write_file("file", ""));
  utimbuf seconds = {1000, 2000};
  CHECK_OK(syscall(SYS_utime, "file", &seconds));
  struct stat info = {};
  CHECK_OK(stat("file", &info));
  CHECK_EQ(info.st_atim.tv_sec, 1000);
  CHECK_EQ(info.st_mtim.tv_sec, 2000);
  timeval micro[2] = {{3000, 5}, {4000, 6}};
  CHECK_OK(syscall(SYS_utimes, "file", micro));
  CHECK_OK(stat("file", &info));
  CHECK_EQ(info.st_mtim.tv_nsec, 6000);
  micro[1] = {5000, 7};
  CHECK_OK(syscall(SYS_futimesat, AT_FDCWD, "file", micro));
  CHECK_OK(stat("file", &info));
  CHECK_EQ(info.st_mtim.tv_sec, 5000);
  micro[0].tv_usec = 1000000;
  CHECK_ERRNO(syscall(SYS_utimes, "file", micro), EINVAL);
  CHECK_OK(syscall(SYS_utime, "file", nullptr));
}

CASE(owners_and_modes) {
  REQUIRE(guest::write_file("file", "") && symlink("file", "link") == 0);
  int fd = open("file", O_RDONLY);
  CHECK_OK(syscall(SYS_fchown, fd, -1, -1));
  CHECK_OK(syscall(SYS_fchown, fd, geteuid(), getegid()));
  CHECK_OK(syscall(SYS_fchownat, AT_FDCWD, "link", geteuid(), getegid(), AT_SYMLINK_NOFOLLOW));
  CHECK_OK(syscall(SYS_fchownat, fd, "", geteuid(), getegid(), AT_EMPTY_PATH));
  CHECK_ERRNO(syscall(SYS_fchownat, AT_FDCWD, "file", 0, 0, 0x10), EINVAL);
  CHECK_ERRNO(syscall(SYS_fchown, 999, 0, 0), EBADF);
  if (syscall(kFchmodat2, AT_FDCWD, "file", 0600, 0) == -1) {
    CHECK_EQ(errno, ENOSYS);  // before Linux 6.6
    return;
  }
  CHECK_OK(syscall(kFchmodat2, AT_FDCWD, "link", 0640, 0));
  struct stat info = {};
  CHECK_OK(fstat(fd, &info));
  CHECK_EQ(info.st_mode & 07777, 0640);
  CHECK_ERRNO(syscall(kFchmodat2, AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
  CHECK_OK(syscall(kFchmodat2, fd, "", 0600, AT_EMPTY_PATH));
}

CASE(processes) {
  pid_t pid = static_cast<pid_t>(syscall(SYS_fork));
  if (pid == 0) syscall(SYS_exit, 5);
  CHECK_EXIT(pid, 5);
  pid = static_cast<pid_t>(syscall(SYS_fork));
  if (pid == 0) syscall(SYS_exit_group, 6);
  CHECK_EXIT(pid, 6);
  CHECK_EQ(syscall(SYS_getpgrp), getpgid(0));
}

CASE(descriptors) {
  int ends[2];
  CHECK_OK(syscall(SYS_pipe, ends));
  CHECK_EQ(syscall(SYS_dup2, ends[0], 50), 50);
  CHECK_OK(syscall(SYS_eventfd, 3));
  uint64_t set = 1 << 9;
  CHECK_OK(syscall(SYS_signalfd, -1, &set, 8));
  CHECK_ERRNO(syscall(SYS_signalfd, -1, &set, 4), EINVAL);
  int epoll = static_cast<int>(CHECK_OK(syscall(SYS_epoll_create, 10)));
  epoll_event event = {};
  CHECK_EQ(syscall(SYS_epoll_wait, epoll, &event, 1, 0), 0);
  CHECK_ERRNO(syscall(SYS_epoll_create, -1), EINVAL);
}

CASE(clocks) {
  timespec brief = {0, 1000000};
  CHECK_OK(syscall(SYS_nanosleep, &brief, nullptr));
  timeval now = {};
  CHECK_OK(syscall(SYS_gettimeofday, &now, nullptr));
  // time(2) has the second of the last tick, gettimeofday(2) that of now.
  timespec tick = {};
  CHECK_OK(syscall(SYS_clock_gettime, CLOCK_REALTIME_COARSE, &tick));
  time_t seconds = 0;
  CHECK_EQ(syscall(SYS_time, &seconds), seconds);
  CHECK(seconds >= tick.tv_sec);
  CHECK(seconds >= now.tv_sec - 1);
  CHECK_ERRNO(syscall(SYS_time, 8), EFAULT);
  unsigned cpu = 9999;
  CHECK_OK(syscall(SYS_getcpu, &cpu, nullptr, nullptr));
  CHECK(cpu < 4096);
  CHECK_EQ(syscall(SYS_alarm, 100), 0);
  CHECK(syscall(SYS_alarm, 0) > 90);
}

CASE(a_signal_with_a_value_to_one_thread) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  siginfo_t info = {};
  info.si_code = SI_QUEUE;
  info.si_value.sival_int = 66;
  CHECK_OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGUSR1, &info));
  siginfo_t received = {};
  CHECK_EQ(sigwaitinfo(&set, &received), SIGUSR1);
  CHECK_EQ(received.si_value.sival_int, 66);
  CHECK_ERRNO(syscall(SYS_rt_tgsigqueueinfo, getpid(), 0x3ffffffe, SIGUSR1, &info), ESRCH);
  CHECK_ERRNO(syscall(SYS_rt_tgsigqueueinfo, getpid(), -1, SIGUSR1, &info), EINVAL);
}

CASE(fsgid) {
  CHECK_EQ(syscall(SYS_setfsgid, -1), getegid());
  if (!guest::has_capability(kCapSetgid)) {
    CHECK_EQ(syscall(SYS_setfsgid, getegid() + 1), getegid());
    CHECK_EQ(syscall(SYS_setfsgid, -1), getegid());
  } else {
    CHECK_EQ(syscall(SYS_setfsgid, 777), getegid());
    CHECK_EQ(syscall(SYS_setfsgid, -1), 777);
  }
}

CASE(chroot_changes_the_root) {
  if (!guest::has_capability(kCapSysChroot)) {
    CHECK_ERRNO(chroot("."), EPERM);
    return;
  }
  REQUIRE(mkdir("jail", 0755) == 0 && guest::write_file("jail/file", "inside") &&
          mkdir("jail/sub", 0755) == 0);
  pid_t pid = guest::spawn([] {
    int result = chroot("jail");
    if (result == -1 && errno == EPERM) return;  // a container engine's filter
    CHECK_EQ(result, 0);
    CHECK_EQ(guest::read_file("/file"), "inside");
    CHECK_EQ(guest::read_file("/../../file"), "inside");
    CHECK_ERRNO(access("/etc", F_OK), ENOENT);
    CHECK_OK(chdir("/sub"));
    char cwd[64] = {};
    CHECK(syscall(SYS_getcwd, cwd, sizeof cwd) > 0);
    CHECK_EQ(std::string(cwd), "/sub");
  });
  CHECK_EXIT(pid, 0);
  CHECK_ERRNO(chroot("missing"), ENOENT);
  CHECK_ERRNO(chroot("jail/file"), ENOTDIR);
}

CASE(personality_of_a_process) {
  CHECK_EQ(personality(0xffffffff), PER_LINUX);
  CHECK_EQ(personality(ADDR_NO_RANDOMIZE), PER_LINUX);
  CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE);
  CHECK_EQ(guest::read_file("/proc/self/personality"), "00040000\n");
  CHECK_EXIT(guest::spawn([] { CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE); }), 0);
}

CASE(host_and_domain_names) {
  if (guest::has_capability(kCapSysAdmin)) {
    CHECK_ERRNO(sethostname("x", 65), EINVAL);
    CHECK_ERRNO(setdomainname("x", 65), EINVAL);
  } else {
    CHECK_ERRNO(sethostname("x", 1), EPERM);
    CHECK_ERRNO(setdomainname("x", 1), EPERM);
  }
}

CASE(scheduling_details) {
  struct {
    int priority;
  } zero = {0}, one = {1};
  CHECK_OK(syscall(SYS_sched_setparam, 0, &zero));
  CHECK_ERRNO(syscall(SYS_sched_setparam, 0, &one), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_setparam, -1, &zero), EINVAL);
  constexpr int kWhoProcess = 1, kBestEffort = 2 << 13;
  CHECK_OK(syscall(SYS_ioprio_set, kWhoProcess, 0, kBestEffort | 6));
  CHECK_EQ(syscall(SYS_ioprio_get, kWhoProcess, 0), kBestEffort | 6);
  CHECK_EXIT(
      guest::spawn([] { CHECK_EQ(syscall(SYS_ioprio_get, kWhoProcess, 0), kBestEffort | 6); }), 0);
  CHECK_ERRNO(syscall(SYS_ioprio_set, 9, 0, kBestEffort), EINVAL);
  CHECK_ERRNO(syscall(SYS_ioprio_set, kWhoProcess, 0, 1), EINVAL);  // a level without a class
  CHECK_ERRNO(syscall(SYS_ioprio_get, kWhoProcess, 0x3ffffffe), ESRCH);
}

CASE(memory_details) {
  char* memory = static_cast<char*>(
      mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(memory != MAP_FAILED);
  CHECK_OK(syscall(SYS_mlock2, memory, 4096, 1));
  CHECK_ERRNO(syscall(SYS_mlock2, memory, 4096, 2), EINVAL);
  CHECK_OK(syscall(SYS_munlock, memory, 4096));
  CHECK_OK(syscall(SYS_pkey_mprotect, memory, 4096, PROT_READ, -1));
  CHECK_ERRNO(syscall(SYS_pkey_mprotect, memory, 4096, PROT_READ, 20), EINVAL);
  int mode = -1;
  if (syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) == 0) {
    CHECK_EQ(mode, MPOL_DEFAULT);
    CHECK_OK(syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0));
    CHECK_OK(syscall(SYS_mbind, memory, 4096, MPOL_DEFAULT, nullptr, 0, 0));
    CHECK_ERRNO(syscall(SYS_mbind, memory, 4096, 99, nullptr, 0, 0), EINVAL);
  } else {
    CHECK(errno == ENOSYS || errno == EPERM);
  }
}

CASE(kernel_log_is_not_for_everyone) {
  if (guest::has_capability(34) || guest::has_capability(kCapSysAdmin)) return;  // CAP_SYSLOG
  char buffer[16];
  CHECK_ERRNO(syscall(SYS_syslog, 4, buffer, sizeof buffer), EPERM);
}

CASE(sync_everything) { CHECK_OK(syscall(SYS_sync)); }
