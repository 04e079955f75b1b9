#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <random>

#include "src/base/bytes.h"
#include "src/report/collector.h"
#include "src/report/escape.h"
#include "src/report/report.h"
#include "src/report/wire.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::report;
using namespace std::chrono_literals;

namespace {

Record record(Kind kind, std::string target, std::string detail, std::string syscall, Errno error) {
  Record r;
  r.kind = kind;
  r.severity = default_severity(kind);
  r.target = std::move(target);
  r.detail = std::move(detail);
  r.syscall = std::move(syscall);
  r.error = error;
  r.process = {2, "python3"};
  r.first_time = 1'700'000'000'123'456'789;
  r.rule = "default (built in):14";
  return r;
}

Record denied_ptrace() {
  Record r = record(Kind::kSyscallDeny, "", "", "ptrace", Errno::kPerm);
  r.call = "ptrace(PTRACE_ATTACH, 1)";
  return r;
}

Summary example() {
  Summary summary;
  summary.argv = {"/usr/bin/python3", "x.py"};
  summary.profile = "default";
  summary.platform = "ptrace";
  summary.home = "/home/u";
  summary.code = 1;
  summary.started = 1'700'000'000'000'000'000;
  summary.duration = 410ms;
  summary.records = {
      record(Kind::kNetConnect, "203.0.113.9:443", "api.example.org", "connect",
             Errno::kNetUnreach),
      record(Kind::kFileRead, "/home/u/.aws/credentials", "hidden", "openat", Errno::kNoEnt),
      denied_ptrace()};
  summary.changes = {{Change::Op::kAdded, "out.csv"}, {Change::Op::kModified, "config.ini"}};
  summary.env_withheld = 31;
  return summary;
}

std::string file_text(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::byte> packet(const Message& message) { return encode(message); }

}  // namespace

TEST_CASE("the text report, to the letter") {
  CHECK(
      render_text(example(), false) ==
      R"(boxrun: 3 violations (1 high, 1 medium, 1 low); python3 exited 1 after 0.41 s  [ptrace, profile default]
  HIGH  net.connect   203.0.113.9:443 "api.example.org"   connect -> ENETUNREACH   python3[2]
        allow with: --net allow --allow-host api.example.org:443  (not in this version)
  MED   file.read     ~/.aws/credentials (hidden)         openat -> ENOENT         python3[2]
        allow with: --ro ~/.aws/credentials
  LOW   syscall.deny  ptrace(PTRACE_ATTACH, 1)            -> EPERM                 python3[2]
        allow with: --deny-syscall ptrace=log
  changed: A out.csv  M config.ini   (discarded)
  environment: 31 variables withheld
)");
}

TEST_CASE("how a run can end") {
  Summary summary;
  summary.argv = {"sh"};
  summary.profile = "default";
  summary.platform = "ptrace";
  summary.duration = 1500ms;
  CHECK(render_text(summary, false) ==
        "boxrun: no violations; sh exited 0 after 1.50 s  [ptrace, profile default]\n");
  summary.end = End::kSignaled;
  summary.code = SIGSEGV;
  CHECK(render_text(summary, false).find("sh died of SIGSEGV after 1.50 s") != std::string::npos);
  summary.code = 40;
  CHECK(render_text(summary, false).find("sh died of signal 40 after") != std::string::npos);
  summary.end = End::kTimedOut;
  CHECK(render_text(summary, false).find("sh timed out after 1.50 s") != std::string::npos);
  summary.end = End::kFailed;
  summary.failure = "the Gofer died";
  CHECK(render_text(summary, false).find("boxrun failed after 1.50 s: the Gofer died") !=
        std::string::npos);
}

TEST_CASE("chains, counts, verdicts and what did not fit") {
  Summary summary = example();
  summary.changes.clear();
  summary.env_withheld = 1;
  Record r = record(Kind::kFileWrite, "/etc/hosts", "read-only", "openat", Errno::kRoFs);
  r.process = {5, "cp"};
  r.chain = {{4, "make"}, {2, "sh"}};
  r.count = 12;
  Record killed = denied_ptrace();
  killed.verdict = Verdict::kKilled;
  Record logged = denied_ptrace();
  logged.verdict = Verdict::kLogged;
  summary.records = {r, killed, logged};
  summary.unrecorded = 7;
  CHECK(
      render_text(summary, false) ==
      R"(boxrun: 10 violations (1 medium, 2 low, 7 more); python3 exited 1 after 0.41 s  [ptrace, profile default]
  MED   file.write    /etc/hosts (read-only)     openat -> EROFS   cp[5] < make[4] < sh[2]  x12
        allow with: --rw /etc/hosts
  LOW   syscall.deny  ptrace(PTRACE_ATTACH, 1)   -> killed         python3[2]
        allow with: --deny-syscall ptrace=log
  LOW   syscall.deny  ptrace(PTRACE_ATTACH, 1)   -> let pass       python3[2]
        allow with: --deny-syscall ptrace=log
  environment: 1 variable withheld
)");
}

TEST_CASE("hostile text can neither forge a line nor drive a terminal") {
  Summary summary = example();
  summary.argv = {"evil\nboxrun: no violations"};
  summary.records.resize(1);
  summary.records[0] = record(Kind::kFileRead, "/tmp/\033]0;owned\007\nHIGH fake", "hidden\r",
                              "openat", Errno::kNoEnt);
  summary.records[0].process.command = "sh\xe2\x80\xae";
  summary.changes = {{Change::Op::kDeleted, "a\x80z"}};
  const std::string text = render_text(summary, false);
  CHECK(
      text ==
      R"(boxrun: 1 violation (1 medium); evil\nboxrun: no violations exited 1 after 0.41 s  [ptrace, profile default]
  MED   file.read  /tmp/\x1b]0;owned\x07\nHIGH fake (hidden\r)   openat -> ENOENT   sh\u{202e}[2]
        allow with: --ro $'/tmp/\033]0;owned\007\012HIGH fake'
  changed: D a\x80z   (discarded)
  environment: 31 variables withheld
)");
  for (const char c : text) CHECK((c == '\n' || (c >= ' ' && c != 0x7f)));
}

TEST_CASE("escaping") {
  CHECK(escape_text("plain \xc3\xa9 \xf0\x9f\x98\x80") == "plain \xc3\xa9 \xf0\x9f\x98\x80");
  CHECK(escape_text("\xc2\x9b[31m") == "\\u{9b}[31m");                        // C1 CSI
  CHECK(escape_text("\xc0\xaf\xed\xa0\x80") == "\\xc0\\xaf\\xed\\xa0\\x80");  // overlong, surrogate
  CHECK(escape_text("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");           // beyond U+10FFFF
  CHECK(escape_text("\xe2\x80") == "\\xe2\\x80");
  CHECK(escape_text(std::string_view("\0", 1)) == "\\x00");
  CHECK(valid_utf8("a\n\xff") == "a\n\\xff");
  CHECK(shell_word("/usr/lib") == "/usr/lib");
  CHECK(shell_word("~/a b") == "~/'a b'");
  CHECK(shell_word("~x") == "'~x'");
  CHECK(shell_word("it's") == "'it'\\''s'");
  CHECK(shell_word("$(reboot)") == "'$(reboot)'");
  CHECK(shell_word("") == "''");
  CHECK(shell_word("a'\n\\") == "$'a\\047\\012\\134'");
}

TEST_CASE("colour marks severities only") {
  Summary summary = example();
  summary.records.resize(1);
  CHECK(render_text(summary, true).find("  \033[1;31mHIGH\033[0m  net.connect") !=
        std::string::npos);
}

TEST_CASE("the JSON report, to the letter") {
  Summary summary = example();
  summary.layers = {"seccomp"};
  summary.records.erase(summary.records.begin());
  summary.records.pop_back();
  summary.records[0].chain = {{1, "sh\xff"}};
  summary.changes.resize(1);
  CHECK(render_json(summary) == R"({
  "v": 1,
  "command": [
    "/usr/bin/python3",
    "x.py"
  ],
  "profile": "default",
  "platform": "ptrace",
  "layers": [
    "seccomp"
  ],
  "started": "2023-11-14T22:13:20.000Z",
  "seconds": 0.41,
  "end": {
    "source": "target",
    "code": 1
  },
  "counts": {
    "high": 0,
    "medium": 1,
    "low": 0,
    "unrecorded": 0
  },
  "violations": [
    {
      "kind": "file.read",
      "severity": "medium",
      "verdict": "denied",
      "syscall": "openat",
      "call": null,
      "target": "/home/u/.aws/credentials",
      "detail": "hidden",
      "errno": "ENOENT",
      "pid": 2,
      "command": "python3",
      "chain": [
        {
          "pid": 1,
          "command": "sh\\xff"
        }
      ],
      "first": "2023-11-14T22:13:20.123Z",
      "count": 1,
      "rule": "default (built in):14",
      "allow": "--ro ~/.aws/credentials",
      "allow_caveat": null
    }
  ],
  "changes": [
    {
      "op": "added",
      "path": "out.csv"
    }
  ],
  "changes_dropped": 0,
  "environment": {
    "withheld": 31
  }
}
)");
}

TEST_CASE("every kind of violation says what would allow it, or that nothing would") {
  for (int i = 0; i <= static_cast<int>(kLastKind); ++i) {
    const Record r = record(static_cast<Kind>(i), "/x", "", "bpf", Errno::kPerm);
    const Advice advice = advise(r, "");
    CHECK_MESSAGE((!advice.option.empty() || !advice.caveat.empty()), kind_name(r.kind));
  }
  Record unimplemented = record(Kind::kSyscallUnimplemented, "", "", "bpf", Errno::kNoSys);
  unimplemented.call = "bpf(0x0, 0x0, 0x0)";
  Summary summary = example();
  summary.records = {unimplemented};
  CHECK(render_text(summary, false)
            .find("  LOW   syscall.unimplemented  bpf(0x0, 0x0, 0x0)   -> ENOSYS   "
                  "python3[2]\n        no option allows it: this version does "
                  "not implement the call\n") != std::string::npos);
  Record created = record(Kind::kFileWrite, "/home/u/a b/new", "read-only", "openat", Errno::kRoFs);
  created.grant = "/home/u/a b";
  CHECK(advise(created, "/home/u").option == "--rw ~/'a b'");
  CHECK(advise(record(Kind::kNetConnect, "[2001:db8::1]:80", "", "connect", Errno::kNetUnreach), "")
            .option == "--net allow --allow-host '[2001:db8::1]:80'");
}

TEST_CASE("thresholds") {
  Summary summary = example();
  summary.records = {record(Kind::kFileRead, "/x", "hidden", "openat", Errno::kNoEnt)};  // medium
  CHECK_FALSE(reaches(summary, FailOn::kNone));
  CHECK(reaches(summary, FailOn::kLow));
  CHECK(reaches(summary, FailOn::kMedium));
  CHECK_FALSE(reaches(summary, FailOn::kHigh));
  summary.records.clear();
  CHECK_FALSE(reaches(summary, FailOn::kLow));
}

TEST_CASE("messages survive the wire") {
  Record r = example().records[1];
  r.chain = {{4, "make"}, {2, "sh"}};
  r.count = 99;
  r.grant = "/home/u";
  const Message messages[] = {Sighting{7, r}, CountUpdate{7, 100}, Unrecorded{3},
                              Change{Change::Op::kModified, "/a/b"},
                              Statistic{"calls below 1 us", 1}};
  for (const Message& message : messages) {
    const Result<Message> back = decode(packet(message));
    REQUIRE(back.ok());
    CHECK((*back == message));
  }
}

TEST_CASE("the sender cuts what is too long") {
  Record r;
  for (std::string* text : {&r.target, &r.detail, &r.grant, &r.syscall, &r.call, &r.rule}) {
    *text = std::string(100'000, 'x');
  }
  r.process.command = std::string(1000, 'c');
  r.chain.assign(1000, {1, std::string(1000, 'p')});
  const std::vector<std::byte> bytes = packet(Sighting{1, r});
  CHECK(bytes.size() <= kMaxPacket);
  const Result<Message> back = decode(bytes);
  REQUIRE(back.ok());
  const Record& cut = std::get<Sighting>(*back).record;
  CHECK(cut.target.size() == kMaxText);
  CHECK(cut.process.command.size() == kMaxCommand);
  CHECK(cut.chain.size() == kMaxChain);
}

TEST_CASE("the receiver refuses what no honest Sentry sends") {
  const std::vector<std::byte> good = packet(Sighting{1, example().records[0]});
  for (size_t size = 0; size < good.size(); ++size) {
    CHECK(decode(std::span(good).first(size)).error() == Errno::kBadMsg);
  }
  std::vector<std::byte> longer = good;
  longer.push_back(std::byte{0});
  CHECK(decode(longer).error() == Errno::kBadMsg);
  // Bytes 5, 6 and 7 are kind, severity and verdict.
  for (const size_t at : {0u, 5u, 6u, 7u}) {
    std::vector<std::byte> bad = good;
    bad[at] = std::byte{200};
    CHECK(decode(bad).error() == Errno::kBadMsg);
  }
  CHECK(decode(std::vector<std::byte>(kMaxPacket + 1)).error() == Errno::kBadMsg);
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> noise = good;
    for (int changes = 0; changes < 3; ++changes) {
      noise[random() % noise.size()] = static_cast<std::byte>(random());
    }
    const Result<Message> message = decode(noise);
    if (message.ok()) CHECK((*message == *decode(packet(*message))));
  }
}

TEST_CASE("the collector is bounded and keeps counts right") {
  Collector collector;
  const Record r = example().records[0];
  for (uint32_t id = 0; id < Collector::kMaxRecords + 50; ++id)
    collector.take(packet(Sighting{id, r}));
  CHECK(collector.records().size() == Collector::kMaxRecords);
  CHECK(collector.unrecorded() == 50);
  collector.take(packet(Unrecorded{5}));
  collector.take(packet(Unrecorded{9}));
  CHECK(collector.unrecorded() == 59);
  collector.take(packet(CountUpdate{3, 1000}));
  collector.take(packet(CountUpdate{3, 10}));      // counts only grow
  collector.take(packet(CountUpdate{99999, 10}));  // of one that was dropped
  CHECK(collector.records()[3].count == 1000);
  CHECK(collector.bad_packets() == 0);
  collector.take(packet(Sighting{3, r}));  // an id that is taken
  collector.take(as_bytes_of("x", 1));
  CHECK(collector.bad_packets() == 2);
  for (size_t i = 0; i < Collector::kMaxChanges + 3; ++i) collector.take(packet(Change{}));
  CHECK(collector.changes().size() == Collector::kMaxChanges);
  for (size_t i = 0; i < Collector::kMaxStatistics + 3; ++i)
    collector.take(packet(Statistic{"n", i}));
  CHECK(collector.statistics().size() == Collector::kMaxStatistics);
  CHECK(collector.changes_dropped() == 3);
}

TEST_CASE("files get the report, whole, in place of the last one") {
  char path[] = "/tmp/boxrun-report-XXXXXX";
  const UniqueFd file(::mkstemp(path));
  REQUIRE(file);
  std::ofstream(path) << std::string(100'000, 'x');
  Settings settings;
  settings.outputs = {{Format::kJson, path}};
  std::string problem;
  const Result<Writer> writer = Writer::open(settings, problem);
  REQUIRE(writer.ok());
  Summary summary = example();
  summary.records.clear();  // `violation` holds for stderr; a file that was named is always written
  CHECK(writer->write(summary, problem).ok());
  CHECK(problem.empty());
  CHECK(file_text(path) == render_json(summary));
  ::unlink(path);
}

TEST_CASE("a report file that cannot be opened is an error before the run") {
  Settings settings;
  settings.outputs = {{Format::kText, "/nonexistent/\033.txt"}};
  std::string problem;
  CHECK(Writer::open(settings, problem).error() == Errno::kNoEnt);
  CHECK(problem ==
        "the report file '/nonexistent/\\x1b.txt' cannot be written: No such file or directory");
  settings.when = When::kNever;
  CHECK(Writer::open(settings, problem).ok());
}

TEST_CASE("a full disk is said, with what was kept") {
  Settings settings;
  settings.outputs = {{Format::kJson, "/dev/full"}};
  std::string problem;
  const Result<Writer> writer = Writer::open(settings, problem);
  REQUIRE(writer.ok());
  CHECK(writer->write(example(), problem).error() == Errno::kNoSpc);
  CHECK(problem == "the report to '/dev/full' is incomplete, 0 of " +
                       std::to_string(render_json(example()).size()) +
                       " bytes were written: No space left on device");
}

TEST_CASE("only below /sys and /proc themselves no option allows a write") {
  const auto option = [](const char* path) {
    boxrun::report::Record record;
    record.kind = boxrun::report::Kind::kFileWrite;
    record.target = path;
    return boxrun::report::advise(record, "").option;
  };
  for (const char* own : {"/sys", "/sys/kernel", "/proc/1"}) CHECK(option(own).empty());
  CHECK(option("/sys-data") == "--rw /sys-data");
  CHECK(option("/proc.old") == "--rw /proc.old");
}
