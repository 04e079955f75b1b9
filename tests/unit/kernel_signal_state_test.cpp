#include <signal.h>

#include "sentry/kernel/limits.h"
#include "sentry/kernel/signal_state.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::kernel;

namespace {

SigInfo queued(int signo, int value) {
  SigInfo info = user_signal(signo, SI_QUEUE, 7, 0);
  info.si_value.sival_int = value;
  return info;
}

constexpr SignalSet kAll{~uint64_t{0}};

}  // namespace

TEST_CASE("standard signals are pending once, real-time signals queue in order") {
  SignalQueueCount count{0};
  PendingSignals pending(count);
  REQUIRE(pending.add(queued(SIGUSR1, 1), 100).ok());
  REQUIRE(pending.add(queued(SIGUSR1, 2), 100).ok());
  REQUIRE(pending.add(queued(40, 3), 100).ok());
  REQUIRE(pending.add(queued(40, 4), 100).ok());
  CHECK(count == 3);
  CHECK(pending.take(kAll)->si_value.sival_int == 1);
  CHECK_FALSE(pending.set().has(SIGUSR1));
  CHECK(pending.take(kAll)->si_value.sival_int == 3);
  CHECK(pending.set().has(40));
  CHECK(pending.take(kAll)->si_value.sival_int == 4);
  CHECK_FALSE(pending.take(kAll).has_value());
  CHECK(count == 0);
}

TEST_CASE("synchronous signals come first, then the lowest number") {
  SignalQueueCount count{0};
  PendingSignals pending(count);
  for (const int signo : {SIGUSR2, SIGHUP, SIGSEGV, 64}) {
    REQUIRE(pending.add(kernel_signal(signo), 100).ok());
  }
  CHECK(pending.take(kAll)->si_signo == SIGSEGV);
  CHECK(pending.take(~SignalSet::of(SIGHUP))->si_signo == SIGUSR2);
  CHECK(pending.take(kAll)->si_signo == SIGHUP);
  CHECK(pending.take(kAll)->si_signo == 64);
}

TEST_CASE("over the queue limit sigqueue fails, and a standard signal loses its information") {
  SignalQueueCount count{0};
  PendingSignals pending(count);
  REQUIRE(pending.add(queued(40, 1), 1).ok());
  CHECK(pending.add(queued(40, 2), 1).error() == Errno::kAgain);
  CHECK(pending.add(queued(SIGUSR1, 3), 1).ok());
  const auto lost = pending.take(SignalSet::of(SIGUSR1));
  REQUIRE(lost.has_value());
  CHECK(lost->si_code == SI_USER);
  CHECK(lost->si_pid == 0);
  CHECK(count == 1);
  pending.clear();
  CHECK(count == 0);
}

TEST_CASE("handlers: reset by exec and SA_RESETHAND, ignored by default") {
  auto handlers = make_ref<SignalHandlers>();
  handlers->set(SIGINT, {.handler = 0x1000, .flags = SA_RESETHAND, .restorer = 0, .mask = {}});
  handlers->set(SIGHUP, {.handler = 1, .flags = 0, .restorer = 0, .mask = {}});
  CHECK(handlers->caught() == SignalSet::of(SIGINT));
  CHECK(handlers->take_for_delivery(SIGINT).handler == 0x1000);
  CHECK(handlers->get(SIGINT).is_default());
  CHECK(handlers->ignored(SIGHUP));
  CHECK(handlers->ignored(SIGCHLD));
  CHECK_FALSE(handlers->ignored(SIGTERM));
  handlers->set(SIGTERM, {.handler = 0x2000, .flags = 0, .restorer = 0, .mask = {}});
  const Ref<SignalHandlers> copy = handlers->copy();
  copy->reset_for_exec();
  CHECK(copy->get(SIGTERM).is_default());
  CHECK(copy->get(SIGHUP).is_ignore());
  CHECK(handlers->get(SIGTERM).handler == 0x2000);
}

TEST_CASE("default actions") {
  CHECK(default_action(SIGTERM) == DefaultAction::kTerminate);
  CHECK(default_action(SIGSEGV) == DefaultAction::kCore);
  CHECK(default_action(SIGWINCH) == DefaultAction::kIgnore);
  CHECK(default_action(SIGTSTP) == DefaultAction::kStop);
  CHECK(default_action(SIGCONT) == DefaultAction::kContinue);
  CHECK(default_action(35) == DefaultAction::kTerminate);
}

TEST_CASE("resource limits: who may raise what") {
  ResourceLimits limits;
  CHECK(limits.soft(RLIMIT_NOFILE) == 1024);
  CHECK(limits.set(RLIMIT_NOFILE, {10, 5}, true).error() == Errno::kInval);
  CHECK(limits.set(99, {1, 1}, true).error() == Errno::kInval);
  const auto old = limits.set(RLIMIT_NOFILE, {100, 200}, false);
  REQUIRE(old.ok());
  CHECK(old->hard == 4096);
  CHECK(limits.set(RLIMIT_NOFILE, {100, 300}, false).error() == Errno::kPerm);
  CHECK(limits.set(RLIMIT_NOFILE, {100, 300}, true).ok());
  CHECK(limits.set(RLIMIT_NOFILE, {1, RLIM_INFINITY}, true).error() == Errno::kPerm);
  ResourceLimits child;
  child.copy_from(limits);
  CHECK(child.get(RLIMIT_NOFILE)->hard == 300);
}
