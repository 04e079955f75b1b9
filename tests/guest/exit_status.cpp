// How a process may end. Run with an argument, this program ends that way itself
// (tests/differential/run.py lists the runs), so that the status boxrun hands on is compared too;
// without, it checks what wait() reports of children.
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"

ROLE(code) {
  int code = atoi(argv[1]);
  exit(code);
}

ROLE(signal) {
  rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  raise(atoi(argv[1]));
  return 0;
}

ROLE(raw_exit) {
  // exit(2) of the only thread ends the process with its status.
  syscall(SYS_exit, atoi(argv[1]));
  return 99;
}

ROLE(abort) {
  rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  abort();
}

ROLE(segv) {
  rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  *reinterpret_cast<volatile int*>(8) = 1;
  return 0;
}

ROLE(unflushed) {
  printf("this line is flushed by exit");
  exit(0);
}

CASE(codes_are_eight_bits) {
  for (int code : {0, 1, 127, 128, 255, 256, 257, -1}) {
    pid_t pid = fork();
    if (pid == 0) _exit(code);
    CHECK_EXIT(pid, code & 0xff);
  }
}

CASE(fatal_signals) {
  for (int signo = 1; signo < 65; ++signo) {
    if (signo == 32 || signo == 33) continue;  // glibc's own
    pid_t pid = fork();
    if (pid == 0) {
      rlimit no_core = {0, 0};
      setrlimit(RLIMIT_CORE, &no_core);
      setpgid(0, 0);  // a group that is not orphaned: SIGTSTP, SIGTTIN and SIGTTOU stop
      kill(getpid(), signo);
      _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(pid, &status, WUNTRACED) == pid);
    guest::print("%d %s\n", signo, guest::status_text(status).c_str());
    if (WIFSTOPPED(status)) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
    }
  }
}

CASE(core_flag_is_not_set_without_a_core_file) {
  pid_t pid = fork();
  if (pid == 0) {
    rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    raise(SIGQUIT);
  }
  int status = guest::wait_for(pid);
  CHECK(WIFSIGNALED(status));
  CHECK_EQ(status, SIGQUIT);
}

CASE(exit_runs_handlers_in_reverse_order) {
  pid_t pid = fork();
  if (pid == 0) {
    atexit([] { guest::print("registered first\n"); });
    atexit([] { guest::print("registered second\n"); });
    exit(5);
  }
  CHECK_EXIT(pid, 5);
}

CASE(exit_group_from_a_fork_of_a_fork) {
  pid_t pid = guest::spawn([] {
    pid_t inner = guest::spawn([] { _exit(7); });
    CHECK_EXIT(inner, 7);
    _exit(8);
  });
  CHECK_EXIT(pid, 8);
}
