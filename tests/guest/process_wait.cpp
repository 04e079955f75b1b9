// wait4 and waitid: selection, options, status words and siginfo.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"

namespace {

pid_t child_that_exits(int code) {
  pid_t pid = fork();
  if (pid == 0) _exit(code);
  return pid;
}

pid_t child_that_pauses() {
  pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  // In a group of its own, whose parent is of the same session: an orphaned group would ignore
  // SIGTSTP.
  setpgid(pid, pid);
  return pid;
}

void reap(pid_t pid) {
  kill(pid, SIGKILL);
  guest::wait_for(pid);
}

}  // namespace

CASE(no_children) {
  CHECK_ERRNO(waitpid(-1, nullptr, 0), ECHILD);
  CHECK_ERRNO(waitpid(1, nullptr, WNOHANG), ECHILD);
  CHECK_ERRNO(waitpid(-1, nullptr, 0x1000), EINVAL);
  siginfo_t info;
  CHECK_ERRNO(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
  CHECK_ERRNO(waitid(P_ALL, 0, &info, 0), EINVAL);
  CHECK_ERRNO(waitid(P_ALL, 0, &info, WNOHANG), EINVAL);
  CHECK_ERRNO(waitid(static_cast<idtype_t>(77), 0, &info, WEXITED), EINVAL);
}

CASE(wait_returns_the_pid_and_reaps) {
  pid_t pid = child_that_exits(3);
  int status = 0;
  CHECK_EQ(waitpid(-1, &status, 0), pid);
  CHECK_EQ(guest::status_text(status), "exited 3");
  CHECK_ERRNO(waitpid(pid, &status, 0), ECHILD);
  CHECK_ERRNO(kill(pid, 0), ESRCH);
}

CASE(nohang) {
  pid_t pid = child_that_pauses();
  int status = 1234;
  CHECK_EQ(waitpid(pid, &status, WNOHANG), 0);
  CHECK_EQ(status, 1234);
  siginfo_t info;
  memset(&info, 0xff, sizeof info);
  CHECK_EQ(waitid(P_PID, pid, &info, WEXITED | WNOHANG), 0);
  CHECK_EQ(info.si_pid, 0);
  CHECK_EQ(info.si_signo, 0);
  kill(pid, SIGTERM);
  CHECK_KILLED(pid, SIGTERM);
}

CASE(a_zombie_is_still_there) {
  pid_t pid = child_that_exits(0);
  siginfo_t info = {};
  CHECK_OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
  CHECK_EQ(info.si_pid, pid);
  CHECK_OK(kill(pid, 0));
  CHECK_OK(kill(pid, SIGKILL));  // of no effect
  CHECK_EQ(getpgid(pid), getpgrp());
  CHECK_EXIT(pid, 0);
}

CASE(waitid_tells_how_it_ended) {
  siginfo_t info = {};
  pid_t pid = child_that_exits(300);
  CHECK_OK(waitid(P_PID, pid, &info, WEXITED));
  CHECK_EQ(info.si_signo, SIGCHLD);
  CHECK_EQ(info.si_code, CLD_EXITED);
  CHECK_EQ(info.si_status, 300 & 0xff);
  CHECK_EQ(info.si_pid, pid);
  CHECK_EQ(info.si_uid, getuid());
  pid = child_that_pauses();
  kill(pid, SIGKILL);
  CHECK_OK(waitid(P_ALL, 0, &info, WEXITED));
  CHECK_EQ(info.si_code, CLD_KILLED);
  CHECK_EQ(info.si_status, SIGKILL);
}

CASE(raw_waitid_accepts_a_null_info_and_fills_rusage) {
  pid_t pid = child_that_exits(1);
  rusage usage;
  memset(&usage, 0xff, sizeof usage);
  CHECK_OK(syscall(SYS_waitid, P_PID, pid, nullptr, WEXITED, &usage));
  CHECK(usage.ru_utime.tv_sec == 0);
  CHECK_EQ(usage.ru_ixrss, 0);
}

CASE(stopped_and_continued) {
  pid_t pid = child_that_pauses();
  int status = 0;
  kill(pid, SIGSTOP);
  CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
  CHECK_EQ(guest::status_text(status), "stopped by SIGSTOP");
  CHECK_EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);  // reported once
  kill(pid, SIGCONT);
  CHECK_EQ(waitpid(pid, &status, WCONTINUED), pid);
  CHECK_EQ(guest::status_text(status), "continued");
  CHECK_EQ(waitpid(pid, &status, WCONTINUED | WNOHANG), 0);
  kill(pid, SIGTSTP);
  siginfo_t info = {};
  CHECK_OK(waitid(P_PID, pid, &info, WSTOPPED));
  CHECK_EQ(info.si_code, CLD_STOPPED);
  CHECK_EQ(info.si_status, SIGTSTP);
  kill(pid, SIGCONT);
  CHECK_OK(waitid(P_PID, pid, &info, WCONTINUED));
  CHECK_EQ(info.si_code, CLD_CONTINUED);
  CHECK_EQ(info.si_status, SIGCONT);
  reap(pid);
}

CASE(nowait_leaves_a_stop_to_be_reported_again) {
  pid_t pid = child_that_pauses();
  kill(pid, SIGSTOP);
  siginfo_t info = {};
  CHECK_OK(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT));
  CHECK_OK(waitid(P_PID, pid, &info, WSTOPPED));
  info.si_pid = 1;
  CHECK_OK(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG));
  CHECK_EQ(info.si_pid, 0);
  reap(pid);
}

CASE(stops_are_not_reported_unless_asked) {
  pid_t pid = child_that_pauses();
  kill(pid, SIGSTOP);
  siginfo_t info = {};
  CHECK_OK(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT));
  CHECK_EQ(waitpid(pid, nullptr, WNOHANG), 0);
  reap(pid);  // SIGKILL also ends a stopped process
}

CASE(selection_by_group) {
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  pid_t other = fork();
  if (other == 0) {
    setpgid(0, 0);
    CHECK_EQ(write(ready[1], "x", 1), 1);
    _exit(1);
  }
  char byte;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  pid_t same = child_that_exits(2);
  int status = 0;
  CHECK_EQ(waitpid(0, &status, 0), same);
  CHECK_ERRNO(waitpid(0, &status, 0), ECHILD);
  CHECK_EQ(waitpid(-other, &status, 0), other);
  CHECK_ERRNO(waitpid(-other, &status, 0), ECHILD);
  CHECK_ERRNO(waitpid(INT32_MIN, &status, 0), ESRCH);
  CHECK_ERRNO(waitid(P_PGID, 12345678, nullptr, WEXITED), ECHILD);
}

CASE(only_own_children) {
  pid_t child = child_that_pauses();
  pid_t other = guest::spawn([child] { CHECK_ERRNO(waitpid(child, nullptr, 0), ECHILD); });
  CHECK_EXIT(other, 0);
  reap(child);
}

CASE(wait4_usage) {
  pid_t pid = guest::spawn([] {
    int64_t start = guest::now_ns(CLOCK_PROCESS_CPUTIME_ID);
    while (guest::now_ns(CLOCK_PROCESS_CPUTIME_ID) - start < 30000000) {
    }
  });
  rusage usage = {};
  int status = 0;
  CHECK_EQ(wait4(pid, &status, 0, &usage), pid);
  int64_t used = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000L +
                 usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
  CHECK(used >= 20000);
}

CASE(bad_addresses) {
  pid_t pid = child_that_exits(0);
  CHECK_ERRNO(syscall(SYS_wait4, pid, 8, 0, nullptr), EFAULT);
  CHECK_ERRNO(waitpid(pid, nullptr, 0), ECHILD);  // it was reaped all the same
}

CASE(ignored_sigchld_reaps_by_itself) {
  signal(SIGCHLD, SIG_IGN);
  pid_t pid = child_that_exits(5);
  CHECK_ERRNO(waitpid(pid, nullptr, 0), ECHILD);  // blocks until the last child is gone
  signal(SIGCHLD, SIG_DFL);
  pid = child_that_exits(6);
  CHECK_EXIT(pid, 6);
}

CASE(nocldwait) {
  struct sigaction action = {};
  static volatile sig_atomic_t signals;
  action.sa_handler = [](int) { signals = signals + 1; };
  action.sa_flags = SA_NOCLDWAIT | SA_RESTART;
  REQUIRE(sigaction(SIGCHLD, &action, nullptr) == 0);
  pid_t pid = child_that_exits(5);
  CHECK_ERRNO(waitpid(pid, nullptr, 0), ECHILD);
  CHECK_EQ(signals, 1);  // Linux still sends it
}

CASE(clone_children_need_wclone) {
  // A child whose exit signal is not SIGCHLD is invisible to plain waits.
  signal(SIGUSR2, SIG_IGN);
  pid_t pid = static_cast<pid_t>(syscall(SYS_clone, SIGUSR2, nullptr, nullptr, nullptr, nullptr));
  if (pid == 0) _exit(4);
  CHECK_ERRNO(waitpid(pid, nullptr, 0), ECHILD);
  int status = 0;
  CHECK_EQ(waitpid(pid, &status, __WCLONE), pid);
  CHECK_EQ(guest::status_text(status), "exited 4");
  pid = static_cast<pid_t>(syscall(SYS_clone, 0, nullptr, nullptr, nullptr, nullptr));
  if (pid == 0) _exit(5);
  CHECK_EQ(waitpid(pid, &status, __WALL), pid);
  CHECK_EQ(guest::status_text(status), "exited 5");
}
