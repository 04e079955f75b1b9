// Both roles with everything real but the guest: sealed processes, the platform's stubs, and a
// Gofer that is asked for files. In place of the kernel runs a program of this file.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "gofer/client.h"
#include "sentry/boot.h"
#include "sentry/control.h"
#include "src/cli/run.h"
#include "src/cli/sandbox.h"
#include "src/host/namespaces.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::cli;
using sentry::ControlMessage;
using Kind = ControlMessage::Kind;

namespace {

// The stand-in's programs: each gets a connected client and returns an exit code.
using Program = int (*)(gofer::Client& client, const sentry::BootSpec& spec);
Program program = nullptr;

int finish(const sentry::BootSpec& spec, int code) {
  const ControlMessage end = {.kind = Kind::kExited, .value = code << 8};
  return sentry::send_control(spec.control_socket.get(), end).ok() ? 0 : 1;
}

int errno_of(const gofer::ServerError& failure) { return static_cast<int>(failure.error); }

MaybeFailure check_rules(const std::vector<sentry::BootSyscallRule>& rules) {
  for (const sentry::BootSyscallRule& rule : rules) {
    if (rule.pattern == "nosuchcall")
      return Failure{"find the system call", "policy", Errno::kOk, rule.origin};
  }
  return std::nullopt;
}

MaybeFailure run_program(sentry::BootSpec spec) {
  std::vector<std::unique_ptr<gofer::Channel>> channels;
  for (UniqueFd& channel : spec.gofer_channels) {
    channels.push_back(std::make_unique<gofer::PacketChannel>(std::move(channel)));
  }
  Result<std::unique_ptr<gofer::Client>> client = gofer::Client::connect(std::move(channels));
  if (!client) return Failure{"reach the gofer", "sentry", client.error(), ""};
  finish(spec, program(**client, spec));
  return std::nullopt;
}

constexpr KernelEntry kStandIn = {check_rules, run_program};

// ro/file and rw/ below a scratch directory, declared as mounts 0 and 1.
class Files {
 public:
  Files() {
    std::string pattern = "/tmp/boxrun-sandbox-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
    ::mkdir((path_ + "/ro").c_str(), 0755);
    ::mkdir((path_ + "/rw").c_str(), 0755);
    std::ofstream(path_ + "/ro/file") << "content";
  }
  ~Files() {
    for (const char* name : {"/ro/file", "/rw/new"}) ::unlink((path_ + name).c_str());
    for (const char* name : {"/ro", "/rw", ""}) ::rmdir((path_ + name).c_str());
  }
  std::string path(const char* name) const { return path_ + name; }
  RunSpec spec() const {
    RunSpec spec;
    spec.mounts.push_back({.source = path("/ro"), .target = "/ro", .origin = "--ro"});
    spec.mounts.push_back(
        {.source = path("/rw"), .target = "/rw", .mode = MountMode::kReadWrite, .origin = "--rw"});
    return spec;
  }

 private:
  std::string path_;
};

// run_sandbox seals the process that calls it, so it gets one of its own. What it has to say comes
// back through a pipe.
struct Told {
  int status = -1;
  std::string text;
};

Told run_apart(const RunSpec& spec, Program with) {
  program = with;
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    report::Collector collector;
    const Outcome outcome = run_sandbox(spec, kStandIn, {true, true, true}, collector);
    std::string text = outcome.failure ? to_string(*outcome.failure) : "";
    text +=
        "\ngofer: " + outcome.gofer_layers.names() + "\nsentry: " + outcome.sentry_layers.names();
    static_cast<void>(::write(ends[1], text.data(), text.size()) > 0);
    ::_exit(exit_status(outcome, false, 122));
  }
  ::close(ends[1]);
  Told told;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    told.text.append(buffer, static_cast<size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  told.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  return told;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a sealed Sentry reads a file that the sealed Gofer opens for it") {
  const Files files;
  const Told told =
      run_apart(files.spec(), [](gofer::Client& client, const sentry::BootSpec& spec) {
        const Result<gofer::RemoteFile> root =
            client.attach(std::to_string(spec.mounts[0].gofer_mount), 0);
        if (!root) return 1;
        const std::string_view names[] = {"file"};
        const Result<gofer::WalkReply> reply =
            client.walk(root->fid.number(), names, {.open_flags = O_RDONLY});
        if (!reply || reply->failure.error != Errno::kOk || !reply->opened.file) return 2;
        char text[16] = {};
        if (::pread(reply->opened.file.get(), text, sizeof text, 0) != 7) return 3;
        return std::string_view(text) == "content" ? 42 : 4;
      });
  CAPTURE(told.text);
  CHECK(told.status == 42);
  for (const char* layer :
       {"seccomp filter", "non-dumpable", "no capabilities", "no new privileges"}) {
    CHECK(contains(told.text.substr(told.text.find("gofer:")), layer));
    CHECK(contains(told.text.substr(told.text.find("sentry:")), layer));
  }
}

TEST_CASE("what is written through a writable mount is on the host, and belongs to who wrote it") {
  const Files files;
  const Told told = run_apart(files.spec(), [](gofer::Client& client, const sentry::BootSpec&) {
    const Result<gofer::RemoteFile> root = client.attach("1", 0);
    if (!root) return 1;
    gofer::ServerError failure;
    const Result<gofer::Client::Created> made =
        client.create(root->fid.number(), "new", O_WRONLY | O_EXCL, 0640, {1234, 1234}, &failure);
    if (!made || !made->opened.file) return 2;
    return ::pwrite(made->opened.file.get(), "x", 1, 0) == 1 ? 0 : 3;
  });
  CAPTURE(told.text);
  CHECK(told.status == 0);
  struct stat status = {};
  REQUIRE(::stat(files.path("/rw/new").c_str(), &status) == 0);
  CHECK(status.st_size == 1);
  // Root with its capabilities acts for any user; without them, and as a user, for itself only.
  host::Forked probe = host::fork_into_namespaces({.wanted = {}}).take();
  if (probe.in_child()) ::_exit(::chown(files.path("/rw/new").c_str(), 1234, 1234) == 0 ? 0 : 1);
  int probed = 0;
  ::waitpid(probe.pid, &probed, 0);
  CHECK(status.st_uid == (probed == 0 ? 1234 : ::geteuid()));
}

TEST_CASE("a read-only mount refuses to be written") {
  const Files files;
  const Told told = run_apart(files.spec(), [](gofer::Client& client, const sentry::BootSpec&) {
    const Result<gofer::RemoteFile> root = client.attach("0", 0);
    gofer::ServerError failure;
    if (!root) return 1;
    client.create(root->fid.number(), "new", O_WRONLY | O_EXCL, 0640, {}, &failure).ok();
    return errno_of(failure);
  });
  CHECK(told.status == EROFS);
}

TEST_CASE("a source that is missing, or an interface to the kernel, fails with its name") {
  const Files files;
  RunSpec missing = files.spec();
  missing.mounts[0].source = "/nonexistent-source";
  const Program unreached = [](gofer::Client&, const sentry::BootSpec&) { return 0; };
  const Told lost = run_apart(missing, unreached);
  CHECK(lost.status == 125);
  CHECK(contains(lost.text,
                 "/nonexistent-source: No such file or directory (gofer); asked for by --ro"));
  RunSpec proc = files.spec();
  proc.mounts[0].source = "/proc";
  const Told refused = run_apart(proc, unreached);
  CHECK(refused.status == 125);
  CHECK(contains(refused.text, "cannot be mounted"));
}

TEST_CASE("an unknown platform or system call fails before anything runs") {
  const Files files;
  const Program unreached = [](gofer::Client&, const sentry::BootSpec&) { return 0; };
  RunSpec platform = files.spec();
  platform.platform = "abacus";
  const Told unknown = run_apart(platform, unreached);
  CHECK(unknown.status == 125);
  CHECK(contains(unknown.text, "abacus"));
  RunSpec rule = files.spec();
  rule.syscall_rules.push_back({"nosuchcall", {}, "my.toml:3"});
  const Told policy = run_apart(rule, unreached);
  CHECK(policy.status == 125);
  CHECK(contains(policy.text, "my.toml:3"));
}

namespace {

// What run_and_report leaves behind.
struct Reported {
  int status = -1;
  std::string events;  // --status-fd
  std::string json;    // --report json=
};

std::string slurp(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

Reported report_apart(RunSpec spec, const Files& files, Program with) {
  program = with;
  const std::string events = files.path("/events");
  const std::string json = files.path("/report");
  spec.report.outputs = {{report::Format::kJson, json}};
  const pid_t pid = ::fork();
  if (pid == 0) {
    spec.status_fd = ::open(events.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
    ::_exit(run_and_report(spec, kStandIn, {true, true, true}, "/home/x"));
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  Reported reported{WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(events), slurp(json)};
  ::unlink(events.c_str());
  ::unlink(json.c_str());
  return reported;
}

}  // namespace

TEST_CASE("the status line and the report say who decided the exit status") {
  const Files files;
  RunSpec spec = files.spec();
  spec.argv = {"/usr/bin/prog"};
  spec.command = "prog";
  spec.platform = "ptrace";
  const Reported target =
      report_apart(spec, files, [](gofer::Client&, const sentry::BootSpec&) { return 3; });
  CHECK(target.status == 3);
  CHECK(target.events == "{\"event\":\"exit\",\"source\":\"target\",\"code\":3}\n");
  CHECK(contains(target.json, "\"ptrace\""));
  CHECK(contains(target.json, "seccomp filter"));

  spec.mounts[0].source = "/nonexistent-source";
  const Reported failed =
      report_apart(spec, files, [](gofer::Client&, const sentry::BootSpec&) { return 3; });
  CHECK(failed.status == 125);
  CHECK(failed.events == "{\"event\":\"exit\",\"source\":\"boxrun\",\"code\":125}\n");
  CHECK(contains(failed.json, "/nonexistent-source"));

  RunSpec slow = files.spec();
  slow.limits.timeout = std::chrono::milliseconds(50);
  slow.report.fail_on = report::FailOn::kLow;
  const Reported late = report_apart(slow, files, [](gofer::Client&, const sentry::BootSpec& boot) {
    while (sentry::receive_control(boot.control_socket.get()).ok()) {
    }
    return 0;
  });
  CHECK(late.status == 124);
  CHECK(contains(late.events, "\"timeout\""));
  CHECK(contains(late.json, "limit.timeout"));
}

TEST_CASE("the Sentry can open nothing by itself") {
  const Files files;
  const Told told = run_apart(files.spec(), [](gofer::Client&, const sentry::BootSpec&) {
    return ::open("/etc/passwd", O_RDONLY) >= 0 ? 1 : 0;
  });
  CHECK(told.status == 125);
  CHECK(contains(told.text, "SIGSYS"));
}
