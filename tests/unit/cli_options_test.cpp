#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "src/base/fd.h"
#include "src/cli/options.h"
#include "src/cli/print.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::cli;
using namespace std::chrono_literals;

namespace {

profile::Expected<CommandLine> parse(std::vector<std::string> words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  return parse_command_line(pointers);
}

// The request that a command line makes, over an empty profile.
Request request(std::vector<std::string> words) {
  const profile::Expected<CommandLine> line = parse(std::move(words));
  if (!line.ok()) FAIL(line.error().message);
  Request request;
  const profile::Expected<bool> applied = apply_options(*line, request);
  if (!applied.ok()) FAIL(applied.error().message);
  return request;
}

std::string error(std::vector<std::string> words) {
  const profile::Expected<CommandLine> line = parse(std::move(words));
  if (!line.ok()) return line.error().message;
  Request request;
  const profile::Expected<bool> applied = apply_options(*line, request);
  return applied.ok() ? "" : applied.error().message;
}

}  // namespace

TEST_CASE("options end at the first other word, or after --") {
  CHECK(parse({"-q", "ls", "-v", "--memory"})->words ==
        std::vector<std::string>{"ls", "-v", "--memory"});
  CHECK(parse({"-q", "--", "-v", "x"})->words == std::vector<std::string>{"-v", "x"});
  CHECK(parse({"-", "-v"})->words == std::vector<std::string>{"-", "-v"});
  CHECK(parse({"--", "--", "x"})->words == std::vector<std::string>{"--", "x"});
  CHECK(parse({})->words.empty());
  CHECK(parse({"", "-v"})->words == std::vector<std::string>{"", "-v"});
}

TEST_CASE("every way to give a value") {
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"--memory", "64K"}, {"--memory=64K"}, {"-m", "64K"}, {"-m64K"}, {"-qm64K"}}) {
    CHECK(request(words).profile.limits.memory == 65536);
  }
  CHECK(request({"-qvv"}).verbosity == 1);
  CHECK(request({"--trace"}).trace.enabled);
  const Request traced = request({"--trace=file", "--trace-file", "t.log"});
  CHECK(traced.trace.group == "file");
  CHECK(traced.trace.path == "t.log");
  // An optional value is never the next word.
  CHECK(parse({"--trace", "file"})->words == std::vector<std::string>{"file"});
  // A value may look like an option.
  CHECK(request({"-C", "-x"}).cwd == "-x");
}

TEST_CASE("values arrive where they belong") {
  const Request r = request({"--ro",        "/a:/b",
                             "--rw=/c",     "--overlay",
                             "./d:e:/f",    "--tmpfs",
                             "/t",          "--hide",
                             "*.key",       "-e",
                             "A=1=2",       "-e",
                             "B",           "-e",
                             "C=",          "--pass-env",
                             "X_*",         "--net",
                             "none",        "-t",
                             "1.5s",        "--kill-after",
                             "2s",          "--cpu-time",
                             "1m",          "--pids",
                             "7",           "--open-files",
                             "9",           "--fsize",
                             "1K",          "--output-limit",
                             "2K",          "--tmp-size",
                             "3K",          "--overlay-size",
                             "4K",          "--deny-syscall",
                             "ptrace=kill", "--deny-syscall",
                             "@mount",      "--report",
                             "json=r.json", "--report",
                             "text",        "--report-on",
                             "always",      "--fail-on",
                             "high",        "--violation-exit-code",
                             "9",           "--color",
                             "never",       "--user",
                             "nobody",      "--hostname",
                             "box",         "--platform",
                             "ptrace",      "--status-fd",
                             "2",           "--dry-run"});
  REQUIRE(r.profile.mounts.size() == 3);
  CHECK(r.profile.mounts[0].source == "/a");
  CHECK(r.profile.mounts[0].target == "/b");
  CHECK(r.profile.mounts[0].mode == MountMode::kReadOnly);
  CHECK(r.profile.mounts[0].origin == "--ro /a:/b");
  CHECK(r.profile.mounts[1].target.empty());
  CHECK(r.profile.mounts[1].mode == MountMode::kReadWrite);
  CHECK(r.profile.mounts[2].source == "./d:e");
  CHECK(r.profile.mounts[2].target == "/f");
  CHECK(r.profile.tmpfs.at(0).value == "/t");
  CHECK(r.profile.hide.at(0).origin == "--hide *.key");
  REQUIRE(r.env.size() == 3);
  CHECK(r.env[0].value == "1=2");
  CHECK_FALSE(r.env[1].value.has_value());
  CHECK(r.env[2].value == "");
  CHECK(r.profile.env_pass.at(0) == "X_*");
  CHECK(r.profile.network == NetworkMode::kNone);
  CHECK(r.profile.limits.timeout == 1500ms);
  CHECK(r.profile.limits.kill_after == 2s);
  CHECK(r.profile.limits.cpu_time == 1min);
  CHECK(r.profile.limits.processes == 7);
  CHECK(r.profile.limits.open_files == 9);
  CHECK(r.profile.limits.file_size == 1024);
  CHECK(r.profile.limits.output == 2048);
  CHECK(r.profile.limits.tmp_size == 3072);
  CHECK(r.profile.limits.overlay_size == 4096);
  REQUIRE(r.profile.syscall_rules.size() == 2);
  CHECK(r.profile.syscall_rules[0].pattern == "ptrace");
  CHECK(r.profile.syscall_rules[0].action->kind == SyscallAction::Kind::kKill);
  CHECK_FALSE(r.profile.syscall_rules[1].action.has_value());
  REQUIRE(r.outputs.size() == 2);
  CHECK(r.outputs[0].format == report::Format::kJson);
  CHECK(r.outputs[0].path == "r.json");
  CHECK(r.outputs[1].path.empty());
  CHECK(r.report_on == report::When::kAlways);
  CHECK(r.profile.fail_on == report::FailOn::kHigh);
  CHECK(r.violation_exit_code == 9);
  CHECK(r.color == report::Color::kNever);
  CHECK(r.user == "nobody");
  CHECK(r.hostname == "box");
  CHECK(r.profile.platform == "ptrace");
  CHECK(r.status_fd == 2);
  CHECK(r.dry_run);
}

TEST_CASE("errors say what is wrong and what may have been meant") {
  CHECK(error({"--memroy", "1G"}) == "unknown option '--memroy'; did you mean '--memory'?");
  CHECK(error({"--frobnicate"}) == "unknown option '--frobnicate'");
  CHECK(error({"-qZ"}) == "unknown option '-Z'");
  CHECK(error({"--memory"}) == "option '--memory' needs a value: --memory SIZE");
  CHECK(error({"-qm"}) == "option '-m' needs a value: -m SIZE");
  CHECK(error({"--quiet=yes"}) == "option '--quiet' takes no value");
  CHECK(error({"-m", "big"}) ==
        "option '-m': 'big' is no size; write it as in 4096, 64K, 512M or 1.5G");
  CHECK(error({"--net", "lopback"}) ==
        "option '--net': 'lopback' is none of none, loopback; did you mean 'loopback'?");
  CHECK(error({"--report", "xml"}) == "option '--report': 'xml' is none of text, json");
  CHECK(error({"--report", "json="}) == "option '--report': 'json=' names no file");
  CHECK(error({"--ro", ":/x"}) == "option '--ro': ':/x' names no source");
  CHECK(error({"-e", "=x"}) == "option '-e': '=x' names no variable");
  CHECK(error({"--status-fd", "999"}) == "option '--status-fd': descriptor 999 is not open");
  CHECK(error({"--status-fd", "-1"}) == "option '--status-fd': '-1' is no whole number");
  CHECK(error({"--violation-exit-code", "256"}) ==
        "option '--violation-exit-code': '256' is more than 255");
  CHECK(error({"--deny-syscall", "=kill"}) ==
        "option '--deny-syscall': '=kill' names no system call");
  CHECK(error({"--env-file", "/nonexistent"}) ==
        "option '--env-file': '/nonexistent' cannot be read: No such file or directory");
}

TEST_CASE("an environment file is --env, line by line") {
  char path[] = "/tmp/boxrun-env-XXXXXX";
  const UniqueFd file(::mkstemp(path));
  REQUIRE(file);
  std::ofstream(path) << "# comment\n\nA=1\nB\nC=x y\n";
  const Request r = request({"--env-file", path});
  REQUIRE(r.env.size() == 3);
  CHECK(r.env[0].name == "A");
  CHECK(r.env[2].value == "x y");
  std::ofstream(path) << "A=1\n=2\n";
  CHECK(error({"--env-file", path}) ==
        std::string("option '--env-file': ") + path + ":2: '=2' names no variable");
  ::unlink(path);
}

TEST_CASE("the option table is well formed, and --help tells every row") {
  const std::string help = help_text();
  std::vector<std::string_view> names;
  std::string letters;
  for (const Option& option : run_options()) {
    CHECK(static_cast<bool>(option.apply));
    CHECK(option.metavar.empty() == (option.argument == Argument::kNone));
    CHECK(help.find("--" + std::string(option.name)) != std::string::npos);
    for (const std::string_view other : names) CHECK(other != option.name);
    names.push_back(option.name);
    if (option.letter != 0) CHECK(letters.find(option.letter) == std::string::npos);
    letters += option.letter;
  }
}
