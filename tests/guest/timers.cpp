// Interval timers, POSIX timers, alarm, sleeping.
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <atomic>

#include "tests/guest/guest_test.h"

namespace {

volatile sig_atomic_t caught;
siginfo_t last_info;

void handle(int signo) {
  struct sigaction action = {};
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    caught = caught + 1;
    last_info = *info;
  };
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  REQUIRE(sigaction(signo, &action, nullptr) == 0);
}

// Waits until `count` signals have been caught; signo must be blocked outside of this, or the wait
// may come too late.
void wait_for_signals(int count) {
  for (int i = 0; i < 5000 && caught < count; ++i) guest::sleep_ms(1);
  CHECK(caught >= count);
}

void burn_cpu(int64_t nanoseconds) {
  int64_t start = guest::now_ns(CLOCK_PROCESS_CPUTIME_ID);
  while (guest::now_ns(CLOCK_PROCESS_CPUTIME_ID) - start < nanoseconds) {
  }
}

timer_t signal_timer(clockid_t clock) {
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;
  timer_t timer;
  REQUIRE(timer_create(clock, &event, &timer) == 0);
  return timer;
}

}  // namespace

CASE(real_interval_timer) {
  handle(SIGALRM);
  itimerval timer = {{0, 5000}, {0, 5000}}, now = {}, old = {};
  CHECK_OK(setitimer(ITIMER_REAL, &timer, nullptr));
  CHECK_OK(getitimer(ITIMER_REAL, &now));
  CHECK_EQ(now.it_interval.tv_usec, 5000);
  CHECK(now.it_value.tv_usec > 0 && now.it_value.tv_usec <= 5000);
  wait_for_signals(3);
  CHECK_EQ(last_info.si_code, SI_KERNEL);
  timer = {};
  CHECK_OK(setitimer(ITIMER_REAL, &timer, &old));
  CHECK_EQ(old.it_interval.tv_usec, 5000);
  CHECK_OK(getitimer(ITIMER_REAL, &now));
  CHECK_EQ(now.it_value.tv_usec, 0);
}

CASE(cpu_interval_timers) {
  handle(SIGVTALRM);
  itimerval timer = {{0, 0}, {0, 10000}};
  CHECK_OK(setitimer(ITIMER_VIRTUAL, &timer, nullptr));
  for (int i = 0; i < 200 && caught == 0; ++i) burn_cpu(5000000);
  CHECK_EQ(caught, 1);
  caught = 0;
  handle(SIGPROF);
  CHECK_OK(setitimer(ITIMER_PROF, &timer, nullptr));
  for (int i = 0; i < 200 && caught == 0; ++i) burn_cpu(5000000);
  CHECK_EQ(caught, 1);
}

CASE(itimer_errors) {
  itimerval timer = {{0, 0}, {0, 1000000}};
  CHECK_ERRNO(setitimer(ITIMER_REAL, &timer, nullptr), EINVAL);
  timer = {{0, 0}, {-1, 0}};
  CHECK_ERRNO(setitimer(ITIMER_REAL, &timer, nullptr), EINVAL);
  CHECK_ERRNO(syscall(SYS_setitimer, 7, &timer, nullptr), EINVAL);
  CHECK_ERRNO(syscall(SYS_getitimer, 7, &timer), EINVAL);
}

CASE(alarm_and_the_real_timer_are_one) {
  handle(SIGALRM);
  CHECK_EQ(alarm(100), 0);
  itimerval now = {};
  CHECK_OK(getitimer(ITIMER_REAL, &now));
  CHECK(now.it_value.tv_sec == 99 || now.it_value.tv_sec == 100);
  CHECK_EQ(alarm(50), 100);
  itimerval timer = {{0, 0}, {0, 5000}};
  CHECK_OK(setitimer(ITIMER_REAL, &timer, nullptr));
  wait_for_signals(1);
  CHECK_EQ(alarm(0), 0);
}

CASE(alarm_kills_by_default) {
  pid_t pid = guest::spawn([] {
    itimerval timer = {{0, 0}, {0, 1000}};
    setitimer(ITIMER_REAL, &timer, nullptr);
    for (;;) pause();
  });
  CHECK_KILLED(pid, SIGALRM);
}

CASE(posix_timer_with_a_value) {
  handle(SIGRTMIN);
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN;
  event.sigev_value.sival_int = 123;
  timer_t timer;
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  itimerspec spec = {{0, 0}, {0, 5000000}}, now = {};
  CHECK_OK(timer_gettime(timer, &now));
  CHECK_EQ(now.it_value.tv_nsec, 0);
  CHECK_OK(timer_settime(timer, 0, &spec, nullptr));
  CHECK_OK(timer_gettime(timer, &now));
  CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 5000000);
  wait_for_signals(1);
  CHECK_EQ(last_info.si_code, SI_TIMER);
  CHECK_EQ(last_info.si_value.sival_int, 123);
  CHECK_EQ(last_info.si_overrun, 0);
  CHECK_OK(timer_delete(timer));
}

CASE(posix_timer_overrun) {
  handle(SIGUSR1);
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  sigprocmask(SIG_BLOCK, &usr1, nullptr);
  timer_t timer = signal_timer(CLOCK_MONOTONIC);
  itimerspec spec = {{0, 2000000}, {0, 2000000}};
  CHECK_OK(timer_settime(timer, 0, &spec, nullptr));
  guest::sleep_ms(25);
  spec = {};
  sigset_t pending;
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGUSR1));
  sigprocmask(SIG_UNBLOCK, &usr1, nullptr);  // one signal for many expirations
  CHECK(caught >= 1);
  CHECK(last_info.si_overrun >= 0);
  CHECK(timer_getoverrun(timer) >= 0);
  CHECK_OK(timer_delete(timer));
}

CASE(posix_timer_of_a_nanosecond) {
  pid_t pid = guest::spawn([] {
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, nullptr);
    timer_t timer = signal_timer(CLOCK_MONOTONIC);
    itimerspec spec = {{0, 1}, {0, 1}};
    CHECK_OK(timer_settime(timer, 0, &spec, nullptr));
    guest::sleep_ms(5);
    int signo = 0;
    sigwait(&usr1, &signo);
    CHECK_EQ(signo, SIGUSR1);
    CHECK(timer_getoverrun(timer) > 1000);
    _exit(7);  // with the timer armed, which ends it
  });
  CHECK_EXIT(pid, 7);
}

CASE(posix_timers_deleted_while_others_set_them) {
  static std::atomic<bool> done{false};
  static std::atomic<int> newest{-1};
  signal(SIGUSR1, SIG_IGN);
  pthread_t setters[3];
  for (pthread_t& setter : setters) {
    REQUIRE(pthread_create(
                &setter, nullptr,
                [](void*) -> void* {
                  itimerspec spec = {{0, 2000000}, {0, 1000000}};
                  while (!done) syscall(SYS_timer_settime, newest.load(), 0, &spec, nullptr);
                  return nullptr;
                },
                nullptr) == 0);
  }
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;
  for (int i = 0; i < 3000; ++i) {
    int timer = -1;
    REQUIRE(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) == 0);
    newest = timer;
    CHECK_OK(syscall(SYS_timer_delete, timer));
  }
  done = true;
  for (pthread_t setter : setters) pthread_join(setter, nullptr);
  guest::sleep_ms(5);
}

CASE(posix_timer_without_notification) {
  sigevent event = {};
  event.sigev_notify = SIGEV_NONE;
  timer_t timer;
  REQUIRE(timer_create(CLOCK_REALTIME, &event, &timer) == 0);
  itimerspec spec = {{0, 0}, {100, 0}}, old = {};
  CHECK_OK(timer_settime(timer, 0, &spec, nullptr));
  CHECK_OK(timer_settime(timer, 0, &spec, &old));
  CHECK(old.it_value.tv_sec == 99 || old.it_value.tv_sec == 100);
  CHECK_OK(timer_delete(timer));
}

CASE(posix_timer_to_a_thread) {
  handle(SIGUSR2);
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGUSR2;
  event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  timer_t timer;
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  itimerspec spec = {{0, 0}, {0, 1000000}};
  CHECK_OK(timer_settime(timer, 0, &spec, nullptr));
  wait_for_signals(1);
  event._sigev_un._tid = 0x3ffffffe;
  CHECK_ERRNO(timer_create(CLOCK_MONOTONIC, &event, &timer), EINVAL);
}

CASE(posix_timer_default_event_is_sigalrm) {
  handle(SIGALRM);
  int kernel_timer = -1;
  REQUIRE(syscall(SYS_timer_create, CLOCK_REALTIME, nullptr, &kernel_timer) == 0);
  itimerspec spec = {};
  clock_gettime(CLOCK_REALTIME, &spec.it_value);  // absolute and already past
  CHECK_OK(syscall(SYS_timer_settime, kernel_timer, TIMER_ABSTIME, &spec, nullptr));
  wait_for_signals(1);
  CHECK_EQ(last_info.si_code, SI_TIMER);
  CHECK_EQ(last_info.si_value.sival_int, kernel_timer);
  CHECK_OK(syscall(SYS_timer_delete, kernel_timer));
  CHECK_ERRNO(syscall(SYS_timer_delete, kernel_timer), EINVAL);
}

CASE(cpu_clock_timers) {
  handle(SIGUSR1);
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;
  clockid_t own_process, own_thread;
  REQUIRE(clock_getcpuclockid(getpid(), &own_process) == 0);
  REQUIRE(pthread_getcpuclockid(pthread_self(), &own_thread) == 0);
  for (clockid_t clock : {clockid_t{CLOCK_PROCESS_CPUTIME_ID}, clockid_t{CLOCK_THREAD_CPUTIME_ID},
                          own_process, own_thread}) {
    caught = 0;
    timer_t timer;
    REQUIRE(timer_create(clock, &event, &timer) == 0);
    itimerspec spec = {{0, 0}, {0, 10000000}}, now = {};
    const int64_t start = guest::now_ns(clock);
    CHECK_OK(timer_settime(timer, 0, &spec, nullptr));
    CHECK_OK(timer_gettime(timer, &now));
    CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 10000000);
    for (int i = 0; i < 200 && caught == 0; ++i) burn_cpu(5000000);
    CHECK_EQ(caught, 1);
    CHECK(guest::now_ns(clock) - start >= 10000000);
    CHECK_OK(timer_delete(timer));
  }
}

CASE(cpu_clock_timers_stand_still_while_nothing_runs) {
  handle(SIGUSR1);
  timer_t timer = signal_timer(CLOCK_PROCESS_CPUTIME_ID);
  itimerspec spec = {{0, 0}, {5, 0}};
  CHECK_OK(timer_settime(timer, 0, &spec, nullptr));
  guest::sleep_ms(30);
  CHECK_OK(timer_gettime(timer, &spec));
  CHECK_EQ(spec.it_value.tv_sec, 4);
  CHECK(spec.it_value.tv_nsec > 900000000);
  CHECK_EQ(caught, 0);
}

CASE(sleeping_on_cpu_clocks) {
  pthread_t worker;
  static std::atomic<bool> stop{false};
  REQUIRE(pthread_create(
              &worker, nullptr,
              [](void*) -> void* {
                while (!stop) {
                }
                return nullptr;
              },
              nullptr) == 0);
  clockid_t of_worker;
  REQUIRE(pthread_getcpuclockid(worker, &of_worker) == 0);
  timespec length = {0, 10000000};
  int64_t start = guest::now_ns(CLOCK_PROCESS_CPUTIME_ID);
  CHECK_EQ(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &length, nullptr), 0);
  CHECK(guest::now_ns(CLOCK_PROCESS_CPUTIME_ID) - start >= 10000000);
  start = guest::now_ns(of_worker);
  CHECK_EQ(clock_nanosleep(of_worker, 0, &length, nullptr), 0);
  CHECK(guest::now_ns(of_worker) - start >= 10000000);
  clockid_t own;
  REQUIRE(pthread_getcpuclockid(pthread_self(), &own) == 0);
  CHECK_EQ(clock_nanosleep(own, 0, &length, nullptr), EINVAL);
  stop = true;
  pthread_join(worker, nullptr);
}

CASE(posix_timer_errors) {
  timer_t timer;
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = 65;
  CHECK_ERRNO(timer_create(CLOCK_MONOTONIC, &event, &timer), EINVAL);
  event.sigev_signo = SIGUSR1;
  CHECK_ERRNO(timer_create(99, &event, &timer), EINVAL);
  CHECK_ERRNO(timer_create(CLOCK_MONOTONIC_RAW, &event, &timer), EOPNOTSUPP);
  CHECK_ERRNO(timer_create(CLOCK_REALTIME_COARSE, &event, &timer), EOPNOTSUPP);
  itimerspec spec = {};
  CHECK_ERRNO(syscall(SYS_timer_settime, 12345, 0, &spec, nullptr), EINVAL);
  CHECK_ERRNO(syscall(SYS_timer_gettime, 12345, &spec), EINVAL);
  CHECK_ERRNO(syscall(SYS_timer_getoverrun, 12345), EINVAL);
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  spec.it_value.tv_nsec = -1;
  CHECK_ERRNO(timer_settime(timer, 0, &spec, nullptr), EINVAL);
}

CASE(nanosleep_sleeps_long_enough) {
  timespec want = {0, 15000000};
  int64_t start = guest::now_ns(CLOCK_MONOTONIC);
  CHECK_OK(nanosleep(&want, nullptr));
  CHECK(guest::now_ns(CLOCK_MONOTONIC) - start >= 15000000);
  want = {0, 0};
  CHECK_OK(nanosleep(&want, nullptr));
  want = {0, 1000000000};
  CHECK_ERRNO(nanosleep(&want, nullptr), EINVAL);
  want = {-1, 0};
  CHECK_ERRNO(nanosleep(&want, nullptr), EINVAL);
}

CASE(clock_nanosleep_variants) {
  timespec until = {};
  clock_gettime(CLOCK_MONOTONIC, &until);
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr), 0);
  int64_t start = guest::now_ns(CLOCK_REALTIME);
  timespec relative = {0, 10000000};
  CHECK_EQ(clock_nanosleep(CLOCK_REALTIME, 0, &relative, nullptr), 0);
  CHECK(guest::now_ns(CLOCK_REALTIME) - start >= 9000000);
  CHECK_EQ(clock_nanosleep(CLOCK_BOOTTIME, 0, &relative, nullptr), 0);
  CHECK_EQ(clock_nanosleep(99, 0, &relative, nullptr), EINVAL);
  CHECK_EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &relative, nullptr), EINVAL);
  relative = {0, -5};
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, &relative, nullptr), EINVAL);
}

CASE(cpu_time_limit) {
  pid_t pid = guest::spawn([] {
    rlimit limit = {1, 3};
    setrlimit(RLIMIT_CPU, &limit);
    rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    for (;;) burn_cpu(100000000);
  });
  CHECK_KILLED(pid, SIGXCPU);
}
