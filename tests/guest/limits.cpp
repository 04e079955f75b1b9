// Resource limits, priorities, scheduling calls that programs use, resource usage.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/times.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"

namespace {

constexpr int kCapSysResource = 24, kCapSysNice = 23;

}  // namespace

CASE(get_and_set) {
  rlimit limit = {};
  CHECK_OK(getrlimit(RLIMIT_NOFILE, &limit));
  CHECK(limit.rlim_cur > 0 && limit.rlim_cur <= limit.rlim_max);
  rlim_t hard = limit.rlim_max;
  limit.rlim_cur = 123;
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
  CHECK_OK(getrlimit(RLIMIT_NOFILE, &limit));
  CHECK_EQ(limit.rlim_cur, 123);
  CHECK_EQ(limit.rlim_max, hard);
  limit = {10, 5};
  CHECK_ERRNO(setrlimit(RLIMIT_NOFILE, &limit), EINVAL);
  CHECK_ERRNO(syscall(SYS_getrlimit, 16, &limit), EINVAL);
  limit = {1, ~0UL};
  CHECK_ERRNO(setrlimit(RLIMIT_NOFILE, &limit), EPERM);  // more than fs.nr_open
  CHECK_EQ(sysconf(_SC_OPEN_MAX), 123);
}

CASE(the_hard_limit_binds_users) {
  pid_t pid = guest::spawn([] {
    rlimit limit = {50, 50};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit = {60, 60};
    if (guest::has_capability(kCapSysResource)) {
      CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
    } else {
      CHECK_ERRNO(setrlimit(RLIMIT_NOFILE, &limit), EPERM);
    }
  });
  CHECK_EXIT(pid, 0);
}

CASE(prlimit_of_a_child) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  pid_t pid = guest::spawn([&] {
    char byte;
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    rlimit mine = {};
    CHECK_OK(getrlimit(RLIMIT_NOFILE, &mine));
    CHECK_EQ(mine.rlim_cur, 77);
  });
  rlimit limit = {77, 77}, old = {}, now = {};
  CHECK_OK(prlimit(pid, RLIMIT_NOFILE, &limit, &old));
  CHECK(old.rlim_cur != 77);
  CHECK_OK(prlimit(pid, RLIMIT_NOFILE, nullptr, &now));
  CHECK_EQ(now.rlim_cur, 77);
  CHECK_EQ(write(ends[1], "x", 1), 1);
  CHECK_EXIT(pid, 0);
  CHECK_ERRNO(prlimit(0x3ffffffe, RLIMIT_NOFILE, nullptr, &now), ESRCH);
}

CASE(exec_keeps_limits) {
  rlimit limit = {66, 66};
  pid_t pid = fork();
  if (pid == 0) {
    setrlimit(RLIMIT_NOFILE, &limit);
    execl(guest::self_path(), "x", "--role", "check_66", nullptr);
    _exit(9);
  }
  CHECK_EXIT(pid, 0);
}

ROLE(check_66) {
  rlimit limit = {};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 66 ? 0 : 1;
}

CASE(process_limit) {
  pid_t pid = guest::spawn([] {
    if (geteuid() == 0) {
      if (!guest::has_capability(7)) return;
      REQUIRE(setresuid(31234, 31234, 31234) == 0);  // an id that runs nothing else
    }
    rlimit limit = {2, 2};
    REQUIRE(setrlimit(RLIMIT_NPROC, &limit) == 0);
    int started = 0;
    pid_t child = 0;
    for (; started < 5; ++started) {
      child = fork();
      if (child == 0) {
        for (;;) pause();
      }
      if (child == -1) break;
      kill(child, SIGKILL);  // a zombie still counts
    }
    CHECK_EQ(child, -1);
    CHECK_EQ(errno, EAGAIN);
    while (wait(nullptr) > 0) {
    }
  });
  CHECK_EXIT(pid, 0);
}

CASE(stack_limit_is_what_a_new_program_gets) {
  pid_t pid = fork();
  if (pid == 0) {
    rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_STACK, &limit);
    execl(guest::self_path(), "x", "--role", "use_two_megabytes", nullptr);
    _exit(9);
  }
  CHECK_KILLED(pid, SIGSEGV);
}

ROLE(use_two_megabytes) {
  volatile char buffer[2 << 20];
  for (size_t i = 0; i < sizeof buffer; i += 4096) buffer[sizeof buffer - 1 - i] = 1;
  return buffer[0];
}

CASE(nice_values) {
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0);
  CHECK_EQ(nice(3), 3);
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), 3);
  CHECK_OK(setpriority(PRIO_PROCESS, 0, 100));
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), 19);              // clamped
  CHECK_EQ(syscall(SYS_getpriority, PRIO_PROCESS, 0), 1);  // the kernel's scale is 20 - nice
  if (!guest::has_capability(kCapSysNice)) CHECK_ERRNO(setpriority(PRIO_PROCESS, 0, 0), EACCES);
  CHECK_ERRNO(setpriority(PRIO_PROCESS, 0x3ffffffe, 0), ESRCH);
  CHECK_ERRNO(setpriority(9, 0, 0), EINVAL);
}

CASE(scheduler) {
  CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
  sched_param param = {7};
  CHECK_OK(sched_getparam(0, &param));
  CHECK_EQ(param.sched_priority, 0);
  CHECK_OK(sched_setscheduler(0, SCHED_BATCH, &param));
  CHECK_EQ(sched_getscheduler(0), SCHED_BATCH);
  param.sched_priority = 5;
  CHECK_ERRNO(sched_setscheduler(0, SCHED_OTHER, &param), EINVAL);
  CHECK_EQ(sched_get_priority_max(SCHED_FIFO), 99);
  CHECK_EQ(sched_get_priority_min(SCHED_FIFO), 1);
  CHECK_EQ(sched_get_priority_max(SCHED_OTHER), 0);
  CHECK_ERRNO(sched_get_priority_max(77), EINVAL);
  timespec interval = {};
  CHECK_OK(sched_rr_get_interval(0, &interval));
  CHECK_OK(sched_yield());
}

CASE(scheduler_of_children) {
  sched_param param = {0};
  CHECK_OK(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &param));
  CHECK_EQ(sched_getscheduler(0), SCHED_BATCH | SCHED_RESET_ON_FORK);
  CHECK_EXIT(guest::spawn([] { CHECK_EQ(sched_getscheduler(0), SCHED_BATCH); }), 0);
  CHECK_ERRNO(sched_setscheduler(0x3ffffffe, SCHED_OTHER, &param), ESRCH);
  CHECK_ERRNO(sched_setscheduler(0, 77, &param), EINVAL);
}

CASE(tasks_with_negative_numbers) {
  sched_param param = {0};
  timespec interval = {};
  cpu_set_t set = {};
  rlimit limit = {};
  CHECK_ERRNO(syscall(SYS_sched_getscheduler, -1), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_setscheduler, -1, SCHED_OTHER, &param), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_getparam, -1, &param), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_setparam, -1, &param), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_rr_get_interval, -1, &interval), EINVAL);
  // These look for them.
  CHECK_ERRNO(syscall(SYS_sched_getaffinity, -1, sizeof set, &set), ESRCH);
  CHECK_ERRNO(syscall(SYS_sched_getaffinity, -1, 1, &set), EINVAL);  // the size comes first
  CPU_SET(0, &set);
  CHECK_ERRNO(syscall(SYS_sched_setaffinity, -1, sizeof set, &set), ESRCH);
  CHECK_ERRNO(prlimit(-1, RLIMIT_NOFILE, nullptr, &limit), ESRCH);
  CHECK_ERRNO(syscall(SYS_getpriority, PRIO_PROCESS, -1), ESRCH);
  CHECK_ERRNO(setpriority(PRIO_PROCESS, -1, 0), ESRCH);
  constexpr int kWhoProcess = 1, kBestEffort = 2 << 13;
  CHECK_ERRNO(syscall(SYS_ioprio_get, kWhoProcess, -1), ESRCH);
  CHECK_ERRNO(syscall(SYS_ioprio_set, kWhoProcess, -1, kBestEffort), ESRCH);
}

CASE(scheduler_without_parameters) {
  CHECK_ERRNO(syscall(SYS_sched_getparam, 0, nullptr), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_setparam, 0, nullptr), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, nullptr), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_getparam, 0, 8), EFAULT);
  CHECK_ERRNO(syscall(SYS_sched_setparam, 0x3ffffffe, 8), EFAULT);
}

CASE(affinity_of_children) {
  cpu_set_t set;
  CHECK_OK(sched_getaffinity(0, sizeof set, &set));
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &set)) --last;
  CPU_ZERO(&set);
  CPU_SET(last, &set);
  CHECK_OK(sched_setaffinity(0, sizeof set, &set));
  pid_t pid = guest::spawn([last] {
    cpu_set_t mine;
    CHECK_OK(sched_getaffinity(0, sizeof mine, &mine));
    CHECK_EQ(CPU_COUNT(&mine), 1);
    CHECK(CPU_ISSET(last, &mine));
    std::string status = guest::read_file("/proc/self/status");
    std::string line = "Cpus_allowed_list:\t" + std::to_string(last) + "\n";
    CHECK(status.find(line) != std::string::npos);
  });
  CHECK_EXIT(pid, 0);
}

CASE(affinity) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CHECK_OK(sched_getaffinity(0, sizeof set, &set));
  int count = CPU_COUNT(&set);
  CHECK(count >= 1);
  CHECK_EQ(sysconf(_SC_NPROCESSORS_ONLN) >= 1, true);
  int first = 0;
  while (!CPU_ISSET(first, &set)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  CHECK_OK(sched_setaffinity(0, sizeof one, &one));
  CHECK_OK(sched_getaffinity(0, sizeof set, &set));
  CHECK_EQ(CPU_COUNT(&set), 1);
  CPU_ZERO(&one);
  CHECK_ERRNO(sched_setaffinity(0, sizeof one, &one), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_getaffinity, 0, 1, &set), EINVAL);
  CHECK_ERRNO(sched_getaffinity(0x3ffffffe, sizeof set, &set), ESRCH);
  unsigned cpu = 999, node = 999;
  CHECK_OK(getcpu(&cpu, &node));
  CHECK(cpu < 4096);
}

CASE(usage) {
  rusage before = {}, after = {};
  CHECK_OK(getrusage(RUSAGE_SELF, &before));
  int64_t start = guest::now_ns(CLOCK_PROCESS_CPUTIME_ID);
  while (guest::now_ns(CLOCK_PROCESS_CPUTIME_ID) - start < 30000000) {
  }
  CHECK_OK(getrusage(RUSAGE_SELF, &after));
  auto total = [](const rusage& usage) {
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000L + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
  };
  CHECK(total(after) - total(before) >= 20000);
  CHECK(after.ru_maxrss > 0);
  CHECK_OK(getrusage(RUSAGE_THREAD, &after));
  CHECK_OK(getrusage(RUSAGE_CHILDREN, &after));
  CHECK_ERRNO(getrusage(static_cast<__rusage_who>(55), &after), EINVAL);
  tms ticks = {};
  CHECK(times(&ticks) != -1);
  CHECK(ticks.tms_utime + ticks.tms_stime >= 2);
  CHECK_EQ(ticks.tms_cutime, 0);
}

CASE(thread_and_process_cpu_clocks) {
  int64_t thread_start = guest::now_ns(CLOCK_THREAD_CPUTIME_ID);
  while (guest::now_ns(CLOCK_THREAD_CPUTIME_ID) - thread_start < 10000000) {
  }
  CHECK(guest::now_ns(CLOCK_PROCESS_CPUTIME_ID) >= 10000000);
  clockid_t clock;
  CHECK_EQ(clock_getcpuclockid(0, &clock), 0);
  CHECK(guest::now_ns(clock) > 0);
  pthread_getcpuclockid(pthread_self(), &clock);
  CHECK(guest::now_ns(clock) > 0);
}
