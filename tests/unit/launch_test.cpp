// The monitor with stand-ins for Gofer and Sentry: how runs end, what survives a crash, what dies.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <string>
#include <vector>

#include "sentry/control.h"
#include "src/cli/launch.h"
#include "src/cli/supervise.h"
#include "src/host/filter.h"
#include "src/host/start_message.h"
#include "src/report/wire.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::cli;
using namespace std::chrono_literals;
using sentry::ControlMessage;
using Kind = ControlMessage::Kind;

namespace {

constexpr int exited(int code) { return code << 8; }  // as a wait status

void say(const ProcessStart& start, Kind kind, int value) {
  static_cast<void>(sentry::send_control(start.control.get(), {.kind = kind, .value = value}));
}

void ready(const ProcessStart& start) {
  static_cast<void>(host::send_start_message(start.start.get(), {{}, start.layers}));
}

// Serves until the Sentry is gone, like the real one.
int honest_gofer(const ProcessStart& start) {
  ready(start);
  char byte = 0;
  while (::recv(start.channels[0].get(), &byte, 1, 0) > 0) {
  }
  return 0;
}

// Waits for the monitor's next message.
ControlMessage hear(const ProcessStart& start) {
  return sentry::receive_control(start.control.get()).value_or({.kind = Kind::kKill, .value = -1});
}

void report_one(const ProcessStart& start, const char* target) {
  report::Sighting sighting;
  sighting.record.target = target;
  const std::vector<std::byte> packet = report::encode(sighting);
  ::send(start.report.get(), packet.data(), packet.size(), 0);
}

struct Run {
  Outcome outcome;
  report::Collector collector;
  int status() const { return exit_status(outcome, false, 122); }
};

enum class Monitor { kPlain, kSealed };

Run run(const Roles& roles, const TimeLimit& limit = {}, Monitor monitor = Monitor::kPlain) {
  Run result;
  host::LayerSet layers;
  Sandbox sandbox;
  const sigset_t forward = block_forwarded_signals();
  if (MaybeFailure failure = launch(roles, sandbox)) {
    result.outcome.failure = std::move(failure);
    return result;
  }
  if (monitor == Monitor::kSealed && seal_monitor(layers)) return result;
  result.outcome = supervise(sandbox, forward, limit, result.collector);
  return result;
}

bool no_child_left() { return ::waitpid(-1, nullptr, WNOHANG | __WALL) < 0 && errno == ECHILD; }

// A monitor in a process of its own, for signals and stops. Its exit status is boxrun's. Its
// process group is not orphaned, whoever runs the tests: an orphaned one could not be stopped.
pid_t fork_monitor(const Roles& roles) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setpgid(0, 0);
    ::_exit(run(roles, {}, Monitor::kSealed).status());
  }
  return pid;
}

// The Sentry tells on this pipe that it is up, so that a test does not signal too early.
class Beacon {
 public:
  Beacon() {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    read_.reset(ends[0]);
    write_.reset(ends[1]);
  }
  int light() const { return write_.get(); }
  bool seen() {
    pollfd entry = {read_.get(), POLLIN, 0};
    char byte = 0;
    return ::poll(&entry, 1, 10'000) == 1 && ::read(read_.get(), &byte, 1) == 1;
  }

 private:
  UniqueFd read_, write_;
};

void light(int fd) { static_cast<void>(::write(fd, "x", 1) == 1); }

}  // namespace

TEST_CASE("the target's exit status and signal are boxrun's") {
  const Run code = run({honest_gofer,
                        [](const ProcessStart& s) {
                          ready(s);
                          say(s, Kind::kStarted, 2);
                          say(s, Kind::kExited, exited(3));
                          return 0;
                        },
                        {}});
  CHECK(code.status() == 3);
  CHECK(code.outcome.end == report::End::kExited);
  CHECK_FALSE(code.outcome.failure);
  const Run signal = run({honest_gofer,
                          [](const ProcessStart& s) {
                            ready(s);
                            say(s, Kind::kExited, SIGSEGV);
                            return 0;
                          },
                          {}});
  CHECK(signal.status() == 128 + SIGSEGV);
  CHECK(no_child_left());
}

TEST_CASE("exit statuses of CLI.md") {
  Outcome outcome;
  outcome.end = report::End::kExited;
  CHECK(exit_status(outcome, false, 122) == 0);
  CHECK(exit_status(outcome, true, 122) == 122);
  CHECK(exit_status(outcome, true, 7) == 7);
  outcome.code = 1;
  CHECK(exit_status(outcome, true, 122) == 1);
  outcome.end = report::End::kTimedOut;
  CHECK(exit_status(outcome, true, 122) == 124);
  outcome.end = report::End::kFailed;
  outcome.failure = Failure{};
  CHECK(exit_status(outcome, true, 122) == 125);
}

TEST_CASE("a command that cannot be executed is 127 or 126") {
  const auto failing = [](Errno error) {
    return run({honest_gofer,
                [error](const ProcessStart& s) {
                  ready(s);
                  say(s, Kind::kExecFailed, static_cast<int>(error));
                  return 0;
                },
                {}});
  };
  CHECK(failing(Errno::kNoEnt).status() == 127);
  CHECK(failing(Errno::kAcces).status() == 126);
  const Run broken = failing(Errno::kNoExec);
  CHECK(broken.status() == 126);
  REQUIRE(broken.outcome.failure);
  CHECK(broken.outcome.failure->error == Errno::kNoExec);
}

TEST_CASE("why the Gofer could not start is the reason, not what followed from it") {
  const Run failed =
      run({[](const ProcessStart& s) {
             ::usleep(20'000);
             const Failure why{"open the mount source /x", "gofer", Errno::kNoEnt, "create it"};
             static_cast<void>(host::send_start_message(s.start.get(), {why, s.layers, ""}));
             return 125;
           },
           [](const ProcessStart& s) {
             const Failure after{"reach the gofer", "sentry", Errno::kPipe, ""};
             static_cast<void>(host::send_start_message(s.start.get(), {after, s.layers, ""}));
             return 125;
           },
           {}});
  CHECK(failed.status() == 125);
  REQUIRE(failed.outcome.failure);
  CHECK(failed.outcome.failure->what == "open the mount source /x");
  CHECK(failed.outcome.failure->remedy == "create it");
  CHECK(no_child_left());
}

TEST_CASE("a Sentry that fails after it was ready says why") {
  const Run failed =
      run({honest_gofer,
           [](const ProcessStart& s) {
             ready(s);
             const Failure why{"mount /tmp", "sentry", Errno::kNoMem, ""};
             static_cast<void>(host::send_start_message(s.start.get(), {why, s.layers, ""}));
             return 125;
           },
           {}});
  CHECK(failed.status() == 125);
  REQUIRE(failed.outcome.failure);
  CHECK(failed.outcome.failure->what == "mount /tmp");
}

TEST_CASE("violations survive a Sentry that is killed, and nothing else does") {
  const Run killed = run({honest_gofer,
                          [](const ProcessStart& s) {
                            ready(s);
                            report_one(s, "/etc/shadow");
                            // A process of the sandbox in a session of its own, like a stub.
                            if (::fork() == 0) {
                              ::setsid();
                              for (;;) ::pause();
                            }
                            ::kill(::getpid(), SIGKILL);
                            // The init of a pid namespace cannot kill itself.
                            __builtin_trap();
                            return 0;
                          },
                          {}});
  CHECK(killed.status() == 125);
  REQUIRE(killed.collector.records().size() == 1);
  CHECK(killed.collector.records()[0].target == "/etc/shadow");
  REQUIRE(killed.outcome.failure);
  CHECK(killed.outcome.failure->layer == "sentry");
  CHECK(killed.outcome.failure->what.find("was killed by SIG") != std::string::npos);
  CHECK(no_child_left());
}

TEST_CASE("a Gofer that dies ends the run with its own reason") {
  const auto sentry = [](const ProcessStart& s) {
    ready(s);
    report_one(s, "/secret");
    char byte = 0;
    static_cast<void>(::recv(s.channels[0].get(), &byte, 1, 0));  // the Gofer is gone
    say(s, Kind::kGoferLost, 0);
    say(s, Kind::kExited, exited(1));  // what the target made of EIO does not count any more
    while (hear(s).kind != Kind::kKill) {
    }
    return 0;
  };
  const Run lost = run({[](const ProcessStart& s) {
                          ready(s);
                          ::usleep(20'000);
                          __builtin_trap();
                          return 0;
                        },
                        sentry,
                        {}});
  CHECK(lost.status() == 125);
  REQUIRE(lost.outcome.failure);
  CHECK(lost.outcome.failure->layer == "gofer");
  CHECK(lost.collector.records().size() == 1);
  CHECK(no_child_left());
}

TEST_CASE("a process that the filter kills is named as our bug") {
  const Run killed = run({honest_gofer,
                          [](const ProcessStart&) {
                            struct sigaction action = {};
                            action.sa_handler = SIG_DFL;
                            ::sigaction(SIGSYS, &action, nullptr);
                            ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                            static_cast<void>(host::install_filter({}));
                            return 0;
                          },
                          {}});
  REQUIRE(killed.outcome.failure);
  CHECK(killed.outcome.failure->what.find("SIGSYS") != std::string::npos);
  CHECK(killed.outcome.failure->remedy.find("bug") != std::string::npos);
}

TEST_CASE("a timeout ends the target at once, or after SIGTERM and a grace") {
  const Run at_once = run({honest_gofer,
                           [](const ProcessStart& s) {
                             ready(s);
                             const bool killed = hear(s).kind == Kind::kKill;
                             say(s, Kind::kExited, killed ? SIGKILL : exited(0));
                             return 0;
                           },
                           {}},
                          {.timeout = 30ms});
  CHECK(at_once.status() == 124);
  const Run obeyed = run({honest_gofer,
                          [](const ProcessStart& s) {
                            ready(s);
                            const ControlMessage first = hear(s);
                            const ControlMessage second = hear(s);
                            const bool right =
                                first.kind == Kind::kSignal && first.value == SIGTERM &&
                                second.kind == Kind::kSignal && second.value == SIGCONT;
                            report_one(s, right ? "right" : "wrong");
                            say(s, Kind::kExited, SIGTERM);
                            return 0;
                          },
                          {}},
                         {.timeout = 30ms, .kill_after = 60s});
  CHECK(obeyed.status() == 124);
  REQUIRE(obeyed.collector.records().size() == 1);
  CHECK(obeyed.collector.records()[0].target == "right");
  const Run ignored = run({honest_gofer,
                           [](const ProcessStart& s) {
                             ready(s);
                             while (hear(s).kind != Kind::kKill) {
                             }
                             return 0;
                           },
                           {}},
                          {.timeout = 30ms, .kill_after = 30ms});
  CHECK(ignored.status() == 124);
}

TEST_CASE("a Sentry that does not end when told is killed") {
  const Run stuck = run({honest_gofer,
                         [](const ProcessStart& s) {
                           ready(s);
                           for (;;) ::pause();
                           return 0;
                         },
                         {}},
                        {.timeout = 10ms});
  CHECK(stuck.status() == 124);
  CHECK(no_child_left());
}

TEST_CASE("signals sent to boxrun reach the Sentry, those the caller ignores do not") {
  Beacon beacon;
  const auto sentry = [&](const ProcessStart& s) {
    ready(s);
    light(beacon.light());
    int sum = 0;
    for (int i = 0; i < 2; i++) {
      const ControlMessage message = hear(s);
      if (message.kind == Kind::kSignal) sum = sum * 16 + message.value;
    }
    say(s, Kind::kExited, exited(sum));
    return 0;
  };
  const auto ignore = ::signal(SIGHUP, SIG_IGN);
  const pid_t monitor = fork_monitor({honest_gofer, sentry, {beacon.light()}});
  ::signal(SIGHUP, ignore);
  REQUIRE(beacon.seen());
  for (const int signo : {SIGHUP, SIGINT, SIGUSR1}) {
    ::kill(monitor, signo);
    ::usleep(20'000);
  }
  int status = 0;
  REQUIRE(::waitpid(monitor, &status, 0) == monitor);
  CHECK(WEXITSTATUS(status) == SIGINT * 16 + SIGUSR1);
}

TEST_CASE("a stopped target stops boxrun, and SIGCONT goes on to it") {
  Beacon beacon;
  const auto sentry = [&](const ProcessStart& s) {
    ready(s);
    say(s, Kind::kStopped, SIGTSTP);
    const ControlMessage message = hear(s);
    say(s, Kind::kExited,
        exited(message.kind == Kind::kSignal && message.value == SIGCONT ? 5 : 1));
    return 0;
  };
  const pid_t monitor = fork_monitor({honest_gofer, sentry, {}});
  int status = 0;
  REQUIRE(::waitpid(monitor, &status, WUNTRACED) == monitor);
  REQUIRE(WIFSTOPPED(status));
  ::kill(monitor, SIGCONT);
  REQUIRE(::waitpid(monitor, &status, 0) == monitor);
  CHECK(WEXITSTATUS(status) == 5);
}

TEST_CASE("when the monitor dies everything dies") {
  Beacon beacon;
  const auto sentry = [&](const ProcessStart& s) {
    ready(s);
    light(beacon.light());
    for (;;) ::pause();
    return 0;
  };
  const auto gofer = [](const ProcessStart& s) {
    ready(s);
    for (;;) ::pause();
    return 0;
  };
  const pid_t monitor = fork_monitor({gofer, sentry, {beacon.light()}});
  REQUIRE(beacon.seen());
  std::ifstream children("/proc/" + std::to_string(monitor) + "/task/" + std::to_string(monitor) +
                         "/children");
  std::vector<UniqueFd> pidfds;
  for (pid_t child = 0; children >> child;) {
    pidfds.emplace_back(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  }
  REQUIRE(pidfds.size() == 2);
  ::kill(monitor, SIGKILL);
  ::waitpid(monitor, nullptr, 0);
  for (const UniqueFd& pidfd : pidfds) {
    pollfd entry = {pidfd.get(), POLLIN, 0};
    CHECK(::poll(&entry, 1, 10'000) == 1);
  }
}

TEST_CASE("children that boxrun found at its start are left alone") {
  const pid_t other = ::fork();
  if (other == 0) {
    for (;;) ::pause();
  }
  const Run code = run({honest_gofer,
                        [](const ProcessStart& s) {
                          ready(s);
                          say(s, Kind::kExited, exited(0));
                          return 0;
                        },
                        {}});
  CHECK(code.status() == 0);
  CHECK(::waitpid(other, nullptr, WNOHANG) == 0);
  ::kill(other, SIGKILL);
  CHECK(::waitpid(other, nullptr, 0) == other);
}

TEST_CASE("a process starts with the standard streams and its own descriptors only") {
  const int stray = ::open("/dev/null", O_RDONLY);  // without O_CLOEXEC, as a caller may leave it
  const auto sentry = [stray](const ProcessStart& s) {
    ready(s);
    const bool closed = ::fcntl(stray, F_GETFD) < 0;
    const bool kept =
        ::fcntl(0, F_GETFD) >= 0 && ::fcntl(2, F_GETFD) >= 0 && s.channels.size() == kGoferChannels;
    const bool untouched = (::fcntl(2, F_GETFL) & O_NONBLOCK) == 0;
    say(s, Kind::kExited, exited(closed && kept && untouched ? 0 : 1));
    return 0;
  };
  CHECK(run({honest_gofer, sentry, {}}).status() == 0);
  ::close(stray);
}
