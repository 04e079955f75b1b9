// Sessions, process groups, orphans, sub-reapers, parent-death signals, job control.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"
#include "tests/guest/turn.h"

namespace {

using guest::Turn;

pid_t child_that_pauses() {
  pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  return pid;
}

void end(pid_t pid) {
  kill(pid, SIGKILL);
  guest::wait_for(pid);
}

}  // namespace

CASE(new_session) {
  pid_t pid = guest::spawn([] {
    CHECK_EQ(setsid(), getpid());
    CHECK_EQ(getsid(0), getpid());
    CHECK_EQ(getpgrp(), getpid());
    CHECK_ERRNO(setsid(), EPERM);  // already a leader
    CHECK_ERRNO(setpgid(0, 0), EPERM);
    CHECK_ERRNO(open("/dev/tty", O_RDWR), ENXIO);
  });
  CHECK_EXIT(pid, 0);
}

CASE(process_groups) {
  pid_t pid = child_that_pauses();
  CHECK_EQ(getpgid(pid), getpgrp());
  CHECK_OK(setpgid(pid, pid));
  CHECK_EQ(getpgid(pid), pid);
  CHECK_EQ(getsid(pid), getsid(0));
  pid_t second = child_that_pauses();
  CHECK_OK(setpgid(second, pid));
  CHECK_EQ(getpgid(second), pid);
  CHECK_ERRNO(setpgid(second, 0x3ffffffe), EPERM);
  CHECK_ERRNO(setpgid(0x3ffffffe, 0), ESRCH);
  CHECK_ERRNO(setpgid(0, -1), EINVAL);
  CHECK_ERRNO(getpgid(0x3ffffffe), ESRCH);
  CHECK_ERRNO(getsid(0x3ffffffe), ESRCH);
  CHECK_OK(kill(-pid, SIGTERM));
  CHECK_KILLED(pid, SIGTERM);
  CHECK_KILLED(second, SIGTERM);
  CHECK_ERRNO(kill(-pid, 0), ESRCH);
}

CASE(setpgid_after_exec_is_refused) {
  Turn ready;
  pid_t pid = fork();
  if (pid == 0) {
    dup2(ready.ends[1], 1);
    execl(guest::self_path(), "x", "--role", "say_ready", nullptr);
    _exit(9);
  }
  ready.take();
  CHECK_ERRNO(setpgid(pid, pid), EACCES);
  end(pid);
}

ROLE(say_ready) {
  if (write(1, "x", 1) != 1) return 1;
  for (;;) pause();
}

CASE(setpgid_across_sessions_is_refused) {
  Turn ready;
  pid_t pid = fork();
  if (pid == 0) {
    setsid();
    ready.give();
    for (;;) pause();
  }
  ready.take();
  CHECK_ERRNO(setpgid(pid, pid), EPERM);
  end(pid);
}

CASE(orphans_go_to_the_subreaper) {
  CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  int value = 0;
  CHECK_OK(prctl(PR_GET_CHILD_SUBREAPER, &value));
  CHECK_EQ(value, 1);
  pid_t reaper = getpid();
  Turn orphaned, told;
  pid_t pid = guest::spawn([&] {
    CHECK_OK(prctl(PR_GET_CHILD_SUBREAPER, &value));
    CHECK_EQ(value, 0);  // not inherited
    if (fork() == 0) {
      orphaned.take();
      while (getppid() != reaper) guest::sleep_ms(1);
      _exit(21);
    }
  });
  CHECK_EXIT(pid, 0);
  orphaned.give();
  int status = 0;
  CHECK(wait(&status) > 0);
  CHECK_EQ(guest::status_text(status), "exited 21");
}

CASE(a_zombie_grandchild_is_handed_on) {
  CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  pid_t pid = guest::spawn([] {
    pid_t inner = fork();
    if (inner == 0) _exit(22);
    siginfo_t info = {};
    CHECK_OK(waitid(P_PID, inner, &info, WEXITED | WNOWAIT));  // a zombie that nobody has reaped
  });
  CHECK_EXIT(pid, 0);
  int status = 0;
  CHECK(wait(&status) > 0);
  CHECK_EQ(guest::status_text(status), "exited 22");
}

CASE(orphans_without_a_subreaper_leave_the_family) {
  Turn done;
  pid_t parent = getpid();
  pid_t pid = guest::spawn([&] {
    pid_t middle = getpid();
    if (fork() == 0) {
      while (getppid() == middle) guest::sleep_ms(1);
      CHECK(getppid() != parent);
      CHECK_EQ(guest::failures, 0);
      done.give();
      _exit(0);
    }
  });
  CHECK_EXIT(pid, 0);
  done.take();
  CHECK_ERRNO(wait(nullptr), ECHILD);
}

CASE(parent_death_signal) {
  CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  Turn ready;
  pid_t middle = fork();
  if (middle == 0) {
    if (fork() == 0) {
      CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
      int value = 0;
      CHECK_OK(prctl(PR_GET_PDEATHSIG, &value));
      CHECK_EQ(value, SIGUSR1);
      signal(SIGUSR1, [](int) { _exit(31); });
      ready.give();
      for (;;) pause();
    }
    ready.take();
    _exit(0);
  }
  CHECK_EXIT(middle, 0);
  int status = 0;
  CHECK(wait(&status) > 0);
  CHECK_EQ(guest::status_text(status), "exited 31");
  CHECK_ERRNO(prctl(PR_SET_PDEATHSIG, 65), EINVAL);
}

CASE(parent_death_signal_is_cleared_in_children) {
  CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
  pid_t pid = guest::spawn([] {
    int value = -1;
    CHECK_OK(prctl(PR_GET_PDEATHSIG, &value));
    CHECK_EQ(value, 0);
  });
  CHECK_EXIT(pid, 0);
}

CASE(stop_signals_wake_the_parent) {
  static volatile sig_atomic_t code;
  struct sigaction action = {};
  action.sa_sigaction = [](int, siginfo_t* info, void*) { code = info->si_code; };
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGCHLD, &action, nullptr);
  pid_t pid = child_that_pauses();
  kill(pid, SIGSTOP);
  while (code == 0) guest::sleep_ms(1);
  CHECK_EQ(code, CLD_STOPPED);
  code = 0;
  kill(pid, SIGCONT);
  while (code == 0) guest::sleep_ms(1);
  CHECK_EQ(code, CLD_CONTINUED);
  code = 0;
  action.sa_flags |= SA_NOCLDSTOP;
  sigaction(SIGCHLD, &action, nullptr);
  kill(pid, SIGSTOP);
  CHECK_EQ(waitpid(pid, nullptr, WUNTRACED), pid);
  guest::sleep_ms(5);
  CHECK_EQ(code, 0);
  end(pid);
}

CASE(a_stopped_process_does_not_run) {
  Turn ready;
  int counter[2];
  REQUIRE(pipe2(counter, O_NONBLOCK) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    for (;;) {
      (void)!write(counter[1], "x", 1);
      guest::sleep_ms(1);
    }
  }
  char buffer[4096];
  while (read(counter[0], buffer, sizeof buffer) <= 0) guest::sleep_ms(1);
  kill(pid, SIGSTOP);
  CHECK_EQ(waitpid(pid, nullptr, WUNTRACED), pid);
  while (read(counter[0], buffer, sizeof buffer) > 0) {
  }
  guest::sleep_ms(20);
  CHECK_ERRNO(read(counter[0], buffer, sizeof buffer), EAGAIN);
  kill(pid, SIGCONT);
  for (int i = 0; i < 5000 && read(counter[0], buffer, sizeof buffer) <= 0; ++i) guest::sleep_ms(1);
  end(pid);
}

CASE(signals_wait_for_a_stopped_process_except_sigkill_and_sigcont) {
  Turn ready;
  pid_t pid = fork();
  if (pid == 0) {
    signal(SIGUSR1, [](int) { _exit(41); });
    ready.give();
    for (;;) pause();
  }
  ready.take();
  kill(pid, SIGSTOP);
  CHECK_EQ(waitpid(pid, nullptr, WUNTRACED), pid);
  kill(pid, SIGUSR1);
  guest::sleep_ms(5);
  CHECK_EQ(waitpid(pid, nullptr, WNOHANG), 0);
  kill(pid, SIGCONT);
  CHECK_EXIT(pid, 41);
}

CASE(sigcont_discards_pending_stops_and_runs_its_handler) {
  Turn ready;
  pid_t pid = fork();
  if (pid == 0) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    sigprocmask(SIG_BLOCK, &stop, nullptr);
    signal(SIGCONT, [](int) {});
    raise(SIGTSTP);
    sigset_t pending;
    sigpending(&pending);
    if (!sigismember(&pending, SIGTSTP)) _exit(1);
    raise(SIGCONT);
    sigpending(&pending);
    _exit(sigismember(&pending, SIGTSTP) ? 2 : 51);
  }
  CHECK_EXIT(pid, 51);
}

CASE(orphaned_groups_do_not_stop_by_the_keyboard_signals) {
  pid_t pid = guest::spawn([] {
    setsid();  // a session of one: its group is orphaned
    raise(SIGTSTP);
    raise(SIGTTIN);
    raise(SIGTTOU);
  });
  CHECK_EXIT(pid, 0);
}

CASE(a_group_that_becomes_orphaned_while_stopped_is_hung_up) {
  CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  Turn ready;
  pid_t middle = fork();
  if (middle == 0) {
    setsid();
    pid_t inner = fork();
    if (inner == 0) {
      setpgid(0, 0);
      signal(SIGHUP, [](int) { _exit(61); });
      ready.give();
      raise(SIGTSTP);
      for (;;) pause();
    }
    ready.take();
    siginfo_t info = {};
    waitid(P_PID, inner, &info, WSTOPPED);
    _exit(0);  // the stopped group loses its last parent in the session: SIGHUP, then SIGCONT
  }
  CHECK_EXIT(middle, 0);
  int status = 0;
  CHECK(wait(&status) > 0);
  CHECK_EQ(guest::status_text(status), "exited 61");
}
