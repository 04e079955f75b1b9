// Handlers, masks, pending signals, default actions and siginfo.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "tests/guest/guest_test.h"

namespace {

volatile sig_atomic_t caught;
volatile sig_atomic_t last_signal;
siginfo_t last_info;

void count(int signo) {
  caught = caught + 1;
  last_signal = signo;
}

void remember(int, siginfo_t* info, void*) {
  caught = caught + 1;
  last_info = *info;
}

void handle(int signo, int flags = 0) {
  struct sigaction action = {};
  action.sa_handler = count;
  action.sa_flags = flags;
  REQUIRE(sigaction(signo, &action, nullptr) == 0);
}

void handle_info(int signo, int flags = 0) {
  struct sigaction action = {};
  action.sa_sigaction = remember;
  action.sa_flags = flags | SA_SIGINFO;
  REQUIRE(sigaction(signo, &action, nullptr) == 0);
}

sigset_t set_of(int first, int second = 0) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, first);
  if (second != 0) sigaddset(&set, second);
  return set;
}

bool is_pending(int signo) {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, signo) == 1;
}

bool is_blocked(int signo) {
  sigset_t mask;
  sigprocmask(SIG_BLOCK, nullptr, &mask);
  return sigismember(&mask, signo) == 1;
}

}  // namespace

CASE(handler_runs_before_kill_returns) {
  handle(SIGUSR1);
  CHECK_OK(kill(getpid(), SIGUSR1));
  CHECK_EQ(caught, 1);
  CHECK_EQ(last_signal, SIGUSR1);
  CHECK_OK(raise(SIGUSR1));
  CHECK_EQ(caught, 2);
}

CASE(handler_argument_and_info_of_kill) {
  handle_info(SIGUSR1);
  kill(getpid(), SIGUSR1);
  CHECK_EQ(last_info.si_signo, SIGUSR1);
  CHECK_EQ(last_info.si_code, SI_USER);
  CHECK_EQ(last_info.si_pid, getpid());
  CHECK_EQ(last_info.si_uid, getuid());
  CHECK_EQ(last_info.si_errno, 0);
  syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
  CHECK_EQ(last_info.si_code, SI_TKILL);
  CHECK_EQ(last_info.si_pid, getpid());
}

CASE(info_of_sigqueue) {
  handle_info(SIGUSR1);
  sigval value = {};
  value.sival_ptr = reinterpret_cast<void*>(0x123456789abcdef0);
  CHECK_OK(sigqueue(getpid(), SIGUSR1, value));
  CHECK_EQ(last_info.si_code, SI_QUEUE);
  CHECK(last_info.si_value.sival_ptr == value.sival_ptr);
  CHECK_EQ(last_info.si_pid, getpid());
}

CASE(info_of_a_child) {
  handle_info(SIGCHLD);
  sigset_t chld = set_of(SIGCHLD), old;
  sigprocmask(SIG_BLOCK, &chld, &old);
  pid_t pid = fork();
  if (pid == 0) _exit(42);
  while (caught == 0) sigsuspend(&old);
  CHECK_EQ(last_info.si_signo, SIGCHLD);
  CHECK_EQ(last_info.si_code, CLD_EXITED);
  CHECK_EQ(last_info.si_status, 42);
  CHECK_EQ(last_info.si_pid, pid);
  CHECK_EQ(last_info.si_uid, getuid());
  CHECK_EXIT(pid, 42);
}

CASE(blocked_signals_wait) {
  handle(SIGUSR1);
  sigset_t usr1 = set_of(SIGUSR1), old;
  CHECK_OK(sigprocmask(SIG_BLOCK, &usr1, &old));
  kill(getpid(), SIGUSR1);
  kill(getpid(), SIGUSR1);
  CHECK_EQ(caught, 0);
  CHECK(is_pending(SIGUSR1));
  CHECK_OK(sigprocmask(SIG_SETMASK, &old, nullptr));
  CHECK_EQ(caught, 1);  // a standard signal is pending once
  CHECK(!is_pending(SIGUSR1));
}

CASE(kill_and_stop_cannot_be_blocked_or_caught) {
  sigset_t all, now;
  sigfillset(&all);
  CHECK_OK(sigprocmask(SIG_SETMASK, &all, nullptr));
  sigprocmask(SIG_BLOCK, nullptr, &now);
  CHECK(!sigismember(&now, SIGKILL));
  CHECK(!sigismember(&now, SIGSTOP));
  CHECK(sigismember(&now, SIGTERM));
  struct sigaction action = {};
  action.sa_handler = count;
  CHECK_ERRNO(sigaction(SIGKILL, &action, nullptr), EINVAL);
  CHECK_ERRNO(sigaction(SIGSTOP, &action, nullptr), EINVAL);
  CHECK_OK(sigaction(SIGKILL, nullptr, &action));
  CHECK_ERRNO(sigaction(65, &action, nullptr), EINVAL);
  CHECK_ERRNO(sigaction(0, &action, nullptr), EINVAL);
}

CASE(mask_during_the_handler) {
  static bool blocked_self, blocked_other, blocked_third;
  struct sigaction action = {};
  action.sa_handler = [](int) {
    blocked_self = is_blocked(SIGUSR1);
    blocked_other = is_blocked(SIGUSR2);
    blocked_third = is_blocked(SIGTERM);
  };
  action.sa_mask = set_of(SIGUSR2);
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  raise(SIGUSR1);
  CHECK(blocked_self);
  CHECK(blocked_other);
  CHECK(!blocked_third);
  CHECK(!is_blocked(SIGUSR1));
  CHECK(!is_blocked(SIGUSR2));
  action.sa_flags = SA_NODEFER;
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  raise(SIGUSR1);
  CHECK(!blocked_self);
  CHECK(blocked_other);
}

CASE(a_handler_is_not_reentered_unless_nodefer) {
  static int depth, deepest;
  struct sigaction action = {};
  action.sa_handler = [](int) {
    ++depth;
    if (depth > deepest) deepest = depth;
    caught = caught + 1;
    if (caught < 3) raise(SIGUSR1);
    --depth;
  };
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  raise(SIGUSR1);
  CHECK_EQ(caught, 3);
  CHECK_EQ(deepest, 1);
  caught = 0;
  action.sa_flags = SA_NODEFER;
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  raise(SIGUSR1);
  CHECK_EQ(caught, 3);
  CHECK_EQ(deepest, 3);
}

CASE(resethand) {
  handle(SIGUSR1, static_cast<int>(SA_RESETHAND));
  raise(SIGUSR1);
  CHECK_EQ(caught, 1);
  struct sigaction now;
  sigaction(SIGUSR1, nullptr, &now);
  CHECK(now.sa_handler == SIG_DFL);
}

CASE(ignored_signals_are_discarded) {
  sigset_t usr1 = set_of(SIGUSR1);
  signal(SIGUSR1, SIG_IGN);
  raise(SIGUSR1);
  sigprocmask(SIG_BLOCK, &usr1, nullptr);
  raise(SIGUSR1);
  // Linux queues a blocked signal even while it is ignored; setting SIG_IGN again discards it.
  CHECK(is_pending(SIGUSR1));
  signal(SIGUSR1, SIG_IGN);
  CHECK(!is_pending(SIGUSR1));
  handle(SIGUSR1);
  sigprocmask(SIG_UNBLOCK, &usr1, nullptr);
  CHECK_EQ(caught, 0);
}

CASE(sigaction_shows_what_was_set) {
  struct sigaction action = {}, back;
  action.sa_sigaction = remember;
  action.sa_flags = static_cast<int>(SA_SIGINFO | SA_RESTART | SA_NODEFER | SA_ONSTACK);
  action.sa_mask = set_of(SIGTERM, SIGKILL);
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  CHECK_OK(sigaction(SIGUSR1, nullptr, &back));
  CHECK(back.sa_sigaction == remember);
  CHECK_EQ(back.sa_flags & ~0x04000000, action.sa_flags);  // without SA_RESTORER
  CHECK(sigismember(&back.sa_mask, SIGTERM));
  CHECK(!sigismember(&back.sa_mask, SIGKILL));
}

CASE(fatal_default_actions) {
  for (int signo :
       {SIGTERM, SIGHUP, SIGINT, SIGUSR1, SIGPIPE, SIGALRM, SIGVTALRM, SIGIO, SIGRTMIN}) {
    pid_t pid = guest::spawn([signo] { raise(signo); });
    CHECK_KILLED(pid, signo);
  }
  for (int signo : {SIGCHLD, SIGURG, SIGWINCH, SIGCONT}) {
    pid_t pid = guest::spawn([signo] { raise(signo); });
    CHECK_EXIT(pid, 0);
  }
}

CASE(kill_checks_its_target) {
  CHECK_OK(kill(getpid(), 0));
  CHECK_ERRNO(kill(getpid(), 65), EINVAL);
  CHECK_ERRNO(kill(getpid(), -1), EINVAL);
  CHECK_ERRNO(kill(0x3ffffffe, 0), ESRCH);
  CHECK_ERRNO(kill(-0x3ffffffe, SIGTERM), ESRCH);
  CHECK_ERRNO(syscall(SYS_tgkill, getpid(), 0x3ffffffe, 0), ESRCH);
  CHECK_ERRNO(syscall(SYS_tgkill, -1, getpid(), 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_tgkill, getpid(), 0, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_tkill, 0, 0), EINVAL);
  pid_t pid = guest::spawn([] { guest::sleep_ms(5); });
  CHECK_ERRNO(syscall(SYS_tgkill, getpid(), pid, 0), ESRCH);  // a thread of another group
  CHECK_EXIT(pid, 0);
}

CASE(kill_a_process_group) {
  pid_t leader = guest::spawn([] {
    setpgid(0, 0);
    for (int i = 0; i < 3; ++i) {
      if (fork() == 0) {
        for (;;) pause();
      }
    }
    signal(SIGTERM, SIG_IGN);
    CHECK_OK(kill(0, SIGTERM));
    for (int i = 0; i < 3; ++i) {
      int status = 0;
      CHECK(wait(&status) > 0);
      CHECK_EQ(guest::status_text(status), "killed by SIGTERM");
    }
    CHECK_ERRNO(wait(nullptr), ECHILD);
  });
  CHECK_EXIT(leader, 0);
}

CASE(all_handlers_run_in_ascending_order_of_number_when_unblocked) {
  static int order[4];
  static int next;
  sigset_t set = set_of(SIGUSR1, SIGUSR2);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  struct sigaction action = {};
  action.sa_handler = [](int signo) { order[next++] = signo; };
  action.sa_mask = set;
  for (int signo : {SIGUSR1, SIGUSR2, SIGTERM, SIGHUP}) sigaction(signo, &action, nullptr);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  for (int signo : {SIGTERM, SIGUSR2, SIGHUP, SIGUSR1}) kill(getpid(), signo);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  CHECK_EQ(next, 4);
  CHECK_EQ(order[0], SIGHUP);
  CHECK_EQ(order[1], SIGUSR1);
  CHECK_EQ(order[2], SIGUSR2);
  CHECK_EQ(order[3], SIGTERM);
}

CASE(sigsuspend_swaps_the_mask_and_restores_it) {
  handle(SIGUSR1);
  sigset_t usr1 = set_of(SIGUSR1), empty;
  sigemptyset(&empty);
  sigprocmask(SIG_BLOCK, &usr1, nullptr);
  raise(SIGUSR1);
  CHECK_ERRNO(sigsuspend(&empty), EINTR);
  CHECK_EQ(caught, 1);
  CHECK(is_blocked(SIGUSR1));
}

CASE(rt_sigaction_checks_the_set_size) {
  struct {
    void* handler;
    unsigned long flags;
    void* restorer;
    unsigned long mask;
  } raw = {};
  CHECK_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, &raw, nullptr, 4), EINVAL);
  CHECK_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &raw.mask, nullptr, 16), EINVAL);
  CHECK_ERRNO(syscall(SYS_rt_sigprocmask, 77, &raw.mask, nullptr, 8), EINVAL);
  CHECK_OK(syscall(SYS_rt_sigprocmask, 77, nullptr, &raw.mask,
                   8));  // without a set `how` is not looked at
  CHECK_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, 8, nullptr, 8), EFAULT);
  CHECK_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, 8, nullptr, 8), EFAULT);
  CHECK_OK(syscall(SYS_rt_sigpending, &raw.mask, 4));  // a shorter set is allowed here
  CHECK_ERRNO(syscall(SYS_rt_sigpending, &raw.mask, 16), EINVAL);
}
