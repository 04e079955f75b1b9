#include "src/cli/supervise.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "sentry/control.h"
#include "src/cli/command.h"
#include "src/host/start_message.h"

namespace boxrun::cli {
namespace {

using sentry::ControlMessage;
using Kind = ControlMessage::Kind;
using std::chrono::nanoseconds;

// How long the Sentry gets to end its guests and flush the report before it is killed.
constexpr nanoseconds kShutDownGrace = std::chrono::seconds(2);
constexpr int kGoferGraceMs = 100;
constexpr int kSweepRounds = 2000;  // of 1 ms

std::string how_it_ended(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int signo = WTERMSIG(wait_status);
    const char* name = sigabbrev_np(signo);
    return std::string("was killed by SIG") + (name != nullptr ? name : std::to_string(signo));
  }
  return "ended unasked with status " + std::to_string(WEXITSTATUS(wait_status));
}

Failure process_lost(const char* who, int wait_status) {
  Failure failure{std::string("go on: the ") + who + " " + how_it_ended(wait_status), who,
                  Errno::kOk, ""};
  if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSYS) {
    failure.remedy =
        "its seccomp filter refused a system call, which is a bug in boxrun; the kernel log names "
        "it "
        "(audit: type=1326)";
  }
  return failure;
}

// The Sentry's word goes into the report as it is.
bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 16 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

// Stops this process by the signal that stopped the target, and returns when it goes on. False: the
// kernel does not stop an orphaned process group from the keyboard, for nobody would continue it.
bool stop_like_the_target(int signo) {
  if (signo != SIGTSTP && signo != SIGTTIN && signo != SIGTTOU)
    return ::kill(::getpid(), SIGSTOP) == 0;
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  ::sigaction(signo, &action, nullptr);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, signo);
  ::kill(::getpid(), signo);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // What continued us is blocked, and waits for the signalfd.
  ::sigpending(&set);
  return ::sigismember(&set, SIGCONT) == 1;
}

class Supervisor {
 public:
  Supervisor(Sandbox& sandbox, const sigset_t& forward, const TimeLimit& limit,
             report::Collector& collector)
      : sandbox_(sandbox), limit_(limit), collector_(collector), packet_(report::kMaxPacket) {
    signals_ = UniqueFd(::signalfd(-1, &forward, SFD_CLOEXEC | SFD_NONBLOCK));
    timer_ = UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  }

  Outcome run();

 private:
  // What the timer is armed for.
  enum class Waiting : uint8_t { kForTimeout, kForKillAfter, kForShutDown };

  void arm(nanoseconds delay, Waiting reason);
  void step();
  void on_gofer_start();
  void on_sentry_start();
  void on_control();
  void on_signals();
  void on_timer();
  void on_gofer_end();
  void on_gofer_lost();
  void drain_report();
  void drain_messages();
  void tell_sentry(Kind kind, int value);
  void fail(Failure failure);
  void shut_down();
  void sweep_orphans() const;

  Sandbox& sandbox_;
  const TimeLimit limit_;
  report::Collector& collector_;
  std::vector<std::byte> packet_;
  UniqueFd signals_;
  UniqueFd timer_;
  Waiting waiting_ = Waiting::kForTimeout;
  bool gofer_started_ = false;
  bool timed_out_ = false;
  bool shutting_down_ = false;
  bool decided_ = false;  // outcome_ says how it ended
  Outcome outcome_;
};

void Supervisor::arm(nanoseconds delay, Waiting reason) {
  waiting_ = reason;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(delay);
  itimerspec when = {};
  when.it_value = {seconds.count(), (delay - seconds).count()};
  ::timerfd_settime(timer_.get(), 0, &when, nullptr);
}

// The first reason counts; what follows from it is not reported.
void Supervisor::fail(Failure failure) {
  if (decided_) return;
  decided_ = true;
  outcome_.end = report::End::kFailed;
  outcome_.failure = std::move(failure);
}

void Supervisor::tell_sentry(Kind kind, int value) {
  // When it is gone there is nobody to tell, and this run is about to end.
  static_cast<void>(sentry::send_control(sandbox_.control.get(), {.kind = kind, .value = value}));
}

void Supervisor::shut_down() {
  if (shutting_down_) return;
  shutting_down_ = true;
  tell_sentry(Kind::kKill, 0);
  arm(kShutDownGrace, Waiting::kForShutDown);
}

void Supervisor::on_gofer_start() {
  const Result<host::StartMessage> message =
      host::receive_start_message(sandbox_.gofer_start.get());
  if (!message) return sandbox_.gofer_start.reset();  // its end is seen on the pidfd
  gofer_started_ = true;
  outcome_.gofer_layers = message->layers;
  if (!message->failure) return;
  fail(*message->failure);
  shut_down();
}

void Supervisor::on_sentry_start() {
  const Result<host::StartMessage> message =
      host::receive_start_message(sandbox_.sentry_start.get());
  if (!message) return sandbox_.sentry_start.reset();
  outcome_.sentry_layers = message->layers;
  if (is_name(message->platform)) outcome_.platform = message->platform;
  if (!message->failure) return;
  // If the Gofer could not start, that is the reason, and this one a consequence.
  pollfd gofer = {sandbox_.gofer_start.get(), POLLIN, 0};
  if (!gofer_started_ && ::poll(&gofer, 1, kGoferGraceMs) == 1) on_gofer_start();
  fail(*message->failure);
  shut_down();
}

void Supervisor::on_control() {
  const Result<ControlMessage> message = sentry::receive_control(sandbox_.control.get());
  if (!message) return sandbox_.control.reset();  // its end is seen on the pidfd
  switch (message->kind) {
    case Kind::kStopped:
      // Whoever waits for us sees a stopped job, as without boxrun. SIGCONT goes on here.
      if (!stop_like_the_target(message->value)) tell_sentry(Kind::kOrphaned, 0);
      break;
    case Kind::kGoferLost:
      return on_gofer_lost();
    case Kind::kExecFailed:
      if (decided_) break;
      fail({"execute the command", "target", from_host(message->value), ""});
      outcome_.cannot_execute = true;
      break;
    case Kind::kExited:
      if (decided_) break;
      decided_ = true;
      outcome_.end = WIFSIGNALED(message->value) ? report::End::kSignaled : report::End::kExited;
      outcome_.code =
          WIFSIGNALED(message->value) ? WTERMSIG(message->value) : WEXITSTATUS(message->value);
      outcome_.usage = message->usage;
      if (!shutting_down_) arm(kShutDownGrace, Waiting::kForShutDown);
      break;
    case Kind::kTraceLost:
      outcome_.trace_error = from_host(message->value);
      break;
    case Kind::kStarted:
      outcome_.target_pid = message->value;
      break;
    default:
      break;  // kContinued needs nothing; the rest is not the Sentry's to say
  }
}

void Supervisor::on_signals() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    const bool terminal = info.ssi_code == SI_KERNEL;
    tell_sentry(terminal ? Kind::kTerminalSignal : Kind::kSignal, static_cast<int>(info.ssi_signo));
  }
}

void Supervisor::on_timer() {
  uint64_t expirations = 0;
  if (::read(timer_.get(), &expirations, sizeof expirations) < 0) return;
  if (waiting_ == Waiting::kForShutDown) return sandbox_.sentry.kill();
  timed_out_ = true;
  if (waiting_ == Waiting::kForTimeout && limit_.kill_after > nanoseconds(0)) {
    tell_sentry(Kind::kSignal, SIGTERM);
    tell_sentry(Kind::kSignal, SIGCONT);  // a stopped target could not act on it
    return arm(limit_.kill_after, Waiting::kForKillAfter);
  }
  shut_down();
}

void Supervisor::on_gofer_end() {
  const int status = sandbox_.gofer.end();
  if (!gofer_started_ && sandbox_.gofer_start) on_gofer_start();
  // Status 0 is its answer to the end of the Sentry: whatever happened, happened there.
  if (status != 0) fail(process_lost("gofer", status));
  shut_down();
}

// The Sentry sees the Gofer's sockets close a little before its end shows here.
void Supervisor::on_gofer_lost() {
  if (decided_) return;
  pollfd gofer = {sandbox_.gofer.pidfd(), POLLIN, 0};
  if (::poll(&gofer, 1, kGoferGraceMs) == 1) on_gofer_end();
  fail({"go on: the gofer closed its channel", "gofer", Errno::kOk, ""});
  shut_down();
}

void Supervisor::drain_report() {
  for (;;) {
    const ssize_t size =
        ::recv(sandbox_.report.get(), packet_.data(), packet_.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) return sandbox_.report.reset();
    // A packet that was cut short cannot be decoded: it is counted as bad.
    collector_.take({packet_.data(), std::min(static_cast<size_t>(size), packet_.size())});
  }
}

// After the Sentry's end: what it still said.
void Supervisor::drain_messages() {
  const auto waiting = [](const UniqueFd& socket) {
    pollfd entry = {socket.get(), POLLIN, 0};
    return socket && ::poll(&entry, 1, 0) == 1;
  };
  if (sandbox_.report) drain_report();
  while (waiting(sandbox_.sentry_start)) on_sentry_start();
  while (waiting(sandbox_.control)) on_control();
}

// Processes of the sandbox that lost their parent (stubs of a Sentry that was killed) are ours now.
// They are dying already; boxrun must not end before them.
void Supervisor::sweep_orphans() const {
  for (int round = 0; round < kSweepRounds; round++) {
    pid_t reaped = 0;
    while ((reaped = ::waitpid(-1, nullptr, WNOHANG | __WALL)) > 0) {
    }
    if (reaped < 0) return;  // no child is left
    std::ifstream children("/proc/self/task/" + std::to_string(::gettid()) + "/children");
    for (pid_t child = 0; children >> child;) ::kill(child, SIGKILL);
    ::usleep(1000);
  }
}

void Supervisor::step() {
  // Negative descriptors are skipped by poll.
  std::array<pollfd, 8> entries = {{{sandbox_.gofer_start.get(), POLLIN, 0},
                                    {sandbox_.sentry_start.get(), POLLIN, 0},
                                    {sandbox_.control.get(), POLLIN, 0},
                                    {sandbox_.report.get(), POLLIN, 0},
                                    {signals_.get(), POLLIN, 0},
                                    {timer_.get(), POLLIN, 0},
                                    {sandbox_.gofer.pidfd(), POLLIN, 0},
                                    {sandbox_.sentry.pidfd(), POLLIN, 0}}};
  // Once it is known that the Gofer is gone there is nothing more to wait for.
  if (decided_ || shutting_down_) entries[6].fd = -1;
  if (::poll(entries.data(), entries.size(), -1) < 0) return;
  const auto ready = [&](size_t i) { return entries[i].revents != 0; };
  if (ready(0)) on_gofer_start();
  if (ready(1)) on_sentry_start();
  if (ready(3)) drain_report();
  if (ready(2)) on_control();
  if (ready(4)) on_signals();
  if (ready(5)) on_timer();
  if (ready(6) && !decided_ && !shutting_down_) on_gofer_end();
}

Outcome Supervisor::run() {
  const auto started = std::chrono::steady_clock::now();
  if (limit_.timeout > nanoseconds(0)) arm(limit_.timeout, Waiting::kForTimeout);
  while (!sandbox_.sentry.ended()) step();

  const int status = sandbox_.sentry.end();
  drain_messages();
  // The Sentry ends itself when the Gofer is gone: that one is the reason then.
  if (!decided_ && sandbox_.gofer.ended()) on_gofer_end();
  if (!decided_ && !timed_out_) fail(process_lost("sentry", status));
  sandbox_.gofer.end();
  if (timed_out_) outcome_.end = report::End::kTimedOut;
  outcome_.duration = std::chrono::steady_clock::now() - started;
  if (sandbox_.all_children_are_ours) sweep_orphans();
  return outcome_;
}

}  // namespace

Outcome supervise(Sandbox& sandbox, const sigset_t& forward, const TimeLimit& limit,
                  report::Collector& collector) {
  return Supervisor(sandbox, forward, limit, collector).run();
}

int exit_status(const Outcome& outcome, bool violations, int violation_exit_code) {
  constexpr int kTimedOut = 124;
  switch (outcome.end) {
    case report::End::kTimedOut:
      return kTimedOut;
    case report::End::kSignaled:
      return 128 + outcome.code;
    case report::End::kExited:
      return outcome.code == 0 && violations ? violation_exit_code : outcome.code;
    case report::End::kFailed:
      break;
  }
  if (!outcome.cannot_execute) return kOwnFailure;
  return outcome.failure->error == Errno::kNoEnt ? kNotFound : kNotExecutable;
}

}  // namespace boxrun::cli
