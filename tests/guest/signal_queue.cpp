// Real-time signals: queueing, order, values, limits; sigtimedwait; directed against process-wide
// delivery.
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/guest/guest_test.h"

namespace {

void send_value(int signo, int value, pid_t pid = getpid()) {
  sigval payload = {};
  payload.sival_int = value;
  REQUIRE(sigqueue(pid, signo, payload) == 0);
}

sigset_t block(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (int signo : signals) sigaddset(&set, signo);
  REQUIRE(sigprocmask(SIG_BLOCK, &set, nullptr) == 0);
  return set;
}

const timespec kNoWait = {0, 0};

}  // namespace

CASE(real_time_signals_queue_in_order) {
  static int values[10];
  static int count;
  struct sigaction action = {};
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    values[count++] = info->si_value.sival_int;
  };
  action.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(SIGRTMIN, &action, nullptr) == 0);
  sigset_t set = block({SIGRTMIN});
  for (int i = 0; i < 10; ++i) send_value(SIGRTMIN, i);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  CHECK_EQ(count, 10);
  for (int i = 0; i < 10; ++i) CHECK_EQ(values[i], i);
}

CASE(lower_numbers_come_first) {
  sigset_t set = block({SIGUSR1, SIGRTMIN, SIGRTMIN + 1, SIGRTMAX});
  send_value(SIGRTMAX, 4);
  send_value(SIGRTMIN + 1, 3);
  send_value(SIGRTMIN, 1);
  send_value(SIGRTMIN, 2);
  send_value(SIGUSR1, 0);
  for (int expected = 0; expected < 5; ++expected) {
    siginfo_t info = {};
    CHECK(sigtimedwait(&set, &info, &kNoWait) > 0);
    CHECK_EQ(info.si_value.sival_int, expected);
  }
  CHECK_ERRNO(sigtimedwait(&set, nullptr, &kNoWait), EAGAIN);
}

CASE(standard_signals_keep_the_first_info) {
  sigset_t set = block({SIGUSR1});
  send_value(SIGUSR1, 1);
  send_value(SIGUSR1, 2);
  siginfo_t info = {};
  CHECK_EQ(sigtimedwait(&set, &info, &kNoWait), SIGUSR1);
  CHECK_EQ(info.si_value.sival_int, 1);
  CHECK_ERRNO(sigtimedwait(&set, nullptr, &kNoWait), EAGAIN);
}

CASE(synchronous_signals_first) {
  // Linux dequeues SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE and SIGSYS before lower numbers.
  sigset_t set = block({SIGHUP, SIGSEGV});
  raise(SIGHUP);
  raise(SIGSEGV);
  CHECK_EQ(sigtimedwait(&set, nullptr, &kNoWait), SIGSEGV);
  CHECK_EQ(sigtimedwait(&set, nullptr, &kNoWait), SIGHUP);
}

CASE(sigtimedwait_times_out) {
  sigset_t set = block({SIGUSR1});
  timespec wait = {0, 20000000};
  int64_t start = guest::now_ns(CLOCK_MONOTONIC);
  CHECK_ERRNO(sigtimedwait(&set, nullptr, &wait), EAGAIN);
  CHECK(guest::now_ns(CLOCK_MONOTONIC) - start >= 20000000);
  timespec invalid = {0, 1000000000};
  CHECK_ERRNO(sigtimedwait(&set, nullptr, &invalid), EINVAL);
  invalid = {-1, 0};
  CHECK_ERRNO(sigtimedwait(&set, nullptr, &invalid), EINVAL);
}

CASE(sigwaitinfo_waits_for_another_process) {
  sigset_t set = block({SIGUSR1});
  pid_t parent = getpid();
  pid_t pid = guest::spawn([parent] {
    guest::wait_until_blocked(parent);
    send_value(SIGUSR1, 77, parent);
  });
  siginfo_t info = {};
  CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
  CHECK_EQ(info.si_value.sival_int, 77);
  CHECK_EQ(info.si_pid, pid);
  CHECK_EQ(info.si_code, SI_QUEUE);
  CHECK_EXIT(pid, 0);
}

CASE(sigwait_is_interrupted_by_other_signals) {
  sigset_t set = block({SIGUSR1});
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;  // never restarts this call
  sigaction(SIGUSR2, &action, nullptr);
  pid_t parent = getpid();
  pid_t pid = guest::spawn([parent] {
    guest::wait_until_blocked(parent);
    kill(parent, SIGUSR2);
  });
  CHECK_ERRNO(sigwaitinfo(&set, nullptr), EINTR);
  CHECK_EXIT(pid, 0);
}

CASE(queue_limit) {
  pid_t pid = guest::spawn([] {
    rlimit limit = {5, 5};
    REQUIRE(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    sigset_t set = block({SIGRTMIN, SIGUSR1});
    sigval value = {};
    int queued = 0;
    while (queued < 100 && sigqueue(getpid(), SIGRTMIN, value) == 0) ++queued;
    CHECK_EQ(errno, EAGAIN);
    CHECK(queued <= 5);  // fewer where other processes of this user have signals pending: the limit
                         // is the user's
    CHECK_OK(kill(getpid(), SIGUSR1));  // kill never fails for want of queue space
    CHECK_EQ(sigtimedwait(&set, nullptr, &kNoWait), SIGUSR1);
  });
  CHECK_EXIT(pid, 0);
}

CASE(sigqueueinfo_may_not_forge_kernel_codes) {
  siginfo_t info = {};
  info.si_code = SI_USER;
  pid_t pid = guest::spawn([] { guest::sleep_ms(200); });
  CHECK_ERRNO(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info), EPERM);
  info.si_code = SI_TKILL;
  CHECK_ERRNO(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info), EPERM);
  kill(pid, SIGKILL);
  CHECK_KILLED(pid, SIGKILL);
  // To oneself anything goes.
  sigset_t set = block({SIGUSR1});
  info.si_code = SI_KERNEL;
  CHECK_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info));
  siginfo_t received = {};
  CHECK_EQ(sigtimedwait(&set, &received, &kNoWait), SIGUSR1);
  CHECK_EQ(received.si_code, SI_KERNEL);
  CHECK_ERRNO(sigqueue(getpid(), 65, {}), EINVAL);
  CHECK_ERRNO(sigqueue(0x3ffffffe, SIGUSR1, {}), ESRCH);
}

CASE(directed_signals_stay_with_their_thread) {
  sigset_t set = block({SIGUSR1});
  pthread_t thread;
  static pid_t tid;
  static pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, nullptr, 2);
  pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        tid = static_cast<pid_t>(syscall(SYS_gettid));
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        sigset_t pending;
        sigpending(&pending);
        return reinterpret_cast<void*>(static_cast<intptr_t>(sigismember(&pending, SIGUSR1)));
      },
      nullptr);
  pthread_barrier_wait(&barrier);
  CHECK_OK(syscall(SYS_tgkill, getpid(), tid, SIGUSR1));
  CHECK_ERRNO(sigtimedwait(&set, nullptr, &kNoWait), EAGAIN);
  pthread_barrier_wait(&barrier);
  void* result = nullptr;
  pthread_join(thread, &result);
  CHECK_EQ(reinterpret_cast<intptr_t>(result), 1);
  CHECK_ERRNO(sigtimedwait(&set, nullptr, &kNoWait), EAGAIN);  // gone with its thread
}

CASE(process_signals_go_to_a_thread_that_accepts_them) {
  sigset_t set = block({SIGUSR1});
  static volatile sig_atomic_t handled_by;
  struct sigaction action = {};
  action.sa_handler = [](int) { handled_by = static_cast<int>(syscall(SYS_gettid)); };
  sigaction(SIGUSR1, &action, nullptr);
  static volatile pid_t tid;
  pthread_t thread;
  pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        sigset_t usr1;
        sigemptyset(&usr1);
        sigaddset(&usr1, SIGUSR1);
        pthread_sigmask(SIG_UNBLOCK, &usr1, nullptr);
        tid = static_cast<pid_t>(syscall(SYS_gettid));
        while (handled_by == 0) guest::sleep_ms(1);
        return nullptr;
      },
      nullptr);
  while (tid == 0) guest::sleep_ms(1);
  kill(getpid(), SIGUSR1);
  pthread_join(thread, nullptr);
  CHECK_EQ(handled_by, tid);
  CHECK_ERRNO(sigtimedwait(&set, nullptr, &kNoWait), EAGAIN);
}

CASE(sigtimedwait_takes_process_signals_in_any_thread) {
  sigset_t set = block({SIGRTMIN});
  static sigset_t shared;
  shared = set;
  pthread_t thread;
  pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        siginfo_t info = {};
        int signo = sigwaitinfo(&shared, &info);
        return reinterpret_cast<void*>(
            static_cast<intptr_t>(signo == SIGRTMIN ? info.si_value.sival_int : -1));
      },
      nullptr);
  send_value(SIGRTMIN, 55);
  void* result = nullptr;
  pthread_join(thread, &result);
  CHECK_EQ(reinterpret_cast<intptr_t>(result), 55);
}
