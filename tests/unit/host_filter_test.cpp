// The seccomp tables: what must never be in them, and that the kernel enforces it.
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <string>
#include <thread>

#include "src/host/filter.h"
#include "src/host/filter_program.h"
#include "tests/unit/forbidden_calls.h"
#include "tests/unit/sealed_child.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::host;

namespace {

constexpr ProcessKind kKinds[] = {ProcessKind::kMonitor, ProcessKind::kGofer, ProcessKind::kSentry};

bool allows(const std::vector<FilterRow>& rows, int number) {
  return std::any_of(rows.begin(), rows.end(),
                     [&](const FilterRow& r) { return r.number == number; });
}

void expect_killed(ProcessKind kind, const Call& call) {
  const ChildEnd end = in_sealed_child(kind, {}, [&] {
    ::syscall(call.number, -1, 0, 0, 0, 0, 0);
    return 0;
  });
  CAPTURE(call.name);
  CAPTURE(std::string(process_name(kind)));
  CHECK(end.signal == SIGSYS);
}

}  // namespace

TEST_CASE("every row names its user, and the forbidden set stays absent") {
  for (const ProcessKind kind : kKinds) {
    const std::vector<FilterRow> rows = rows_of(kind);
    for (const FilterRow& row : rows) CHECK_FALSE(row.user.empty());
    for (const Call& call : kForbiddenEverywhere) {
      CAPTURE(call.name);
      CHECK_FALSE(allows(rows, call.number));
    }
  }
  for (const ProcessKind kind : {ProcessKind::kGofer, ProcessKind::kSentry}) {
    for (const Call& call : kForbiddenToSentry) {
      CAPTURE(call.name);
      CHECK_FALSE(allows(rows_of(kind), call.number));
    }
  }
}

TEST_CASE("calls that are allowed in part are checked in their arguments") {
  for (const ProcessKind kind : kKinds) {
    for (const FilterRow& row : rows_of(kind)) {
      const bool checked = row.checks[0].mask != 0;
      if (row.number == SYS_clone) {
        // Exactly one form: a thread, without any CLONE_NEW* flag.
        REQUIRE(checked);
        CHECK(row.checks[0].index == 0);
        CHECK(row.checks[0].mask == UINT64_MAX);
        CHECK((row.checks[0].value & CLONE_THREAD) != 0);
        CHECK((row.checks[0].value & (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID)) == 0);
      }
      if (row.number == SYS_ioctl || row.number == SYS_prctl || row.number == SYS_mmap ||
          row.number == SYS_mprotect) {
        CHECK(checked);
      }
    }
  }
}

namespace {

// What the kernel does with a program of the instructions that compile_filter uses.
uint32_t interpret(const std::vector<sock_filter>& program, const seccomp_data& data) {
  uint32_t accumulator = 0;
  for (size_t at = 0; at < program.size(); at++) {
    const sock_filter& op = program[at];
    switch (op.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        memcpy(&accumulator, reinterpret_cast<const char*>(&data) + op.k, sizeof accumulator);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        accumulator &= op.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        at += accumulator == op.k ? op.jt : op.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        at += accumulator >= op.k ? op.jt : op.jf;
        break;
      case BPF_JMP | BPF_JA:
        at += op.k;
        break;
      case BPF_RET | BPF_K:
        return op.k;
      default:
        return 1;
    }
  }
  return 2;  // ran off the end
}

// The meaning of a table, word for word.
uint32_t expected(const std::vector<FilterRow>& rows, const seccomp_data& data) {
  if (data.arch != AUDIT_ARCH_X86_64) return SECCOMP_RET_KILL_PROCESS;
  if (data.nr == SYS_clone3) return SECCOMP_RET_ERRNO | ENOSYS;
  for (const FilterRow& row : rows) {
    const bool holds =
        std::all_of(row.checks.begin(), row.checks.end(), [&](const ArgCheck& check) {
          return (data.args[check.index] & check.mask) == check.value;
        });
    if (row.number == data.nr && holds) return SECCOMP_RET_ALLOW;
  }
  return SECCOMP_RET_KILL_PROCESS;
}

}  // namespace

TEST_CASE("the compiled program means what the table says") {
  std::mt19937_64 random(1);
  // Values that tables ask for, and their neighbours, in both halves.
  std::vector<uint64_t> values = {0, 1, UINT64_MAX, UINT32_MAX};
  std::vector<std::vector<FilterRow>> tables;
  for (const ProcessKind kind : kKinds) tables.push_back(rows_of(kind));
  tables.emplace_back();
  std::vector<FilterRow>& made_up = tables.emplace_back();
  for (int i = 0; i < 200; i++) {
    const auto index = static_cast<uint8_t>(random() % 6);
    const uint64_t mask = random() % 2 == 0 ? UINT64_MAX : random();
    made_up.push_back(
        {static_cast<int>(random() % 200), "test", {arg_is(5, 7), {index, mask, random() & mask}}});
  }
  for (const std::vector<FilterRow>& rows : tables) {
    for (const FilterRow& row : rows) {
      for (const ArgCheck& check : row.checks)
        values.insert(values.end(), {check.value, check.value ^ (1ULL << (random() % 64))});
    }
    const std::vector<sock_filter> program = compile_filter(rows);
    REQUIRE(program.size() < BPF_MAXINSNS);
    int wrong = 0;
    for (int number = -1; number < 520; number++) {
      for (int i = 0; i < 60; i++) {
        seccomp_data data = {};
        data.nr = number;
        data.arch = i == 0 ? static_cast<uint32_t>(AUDIT_ARCH_I386)
                           : static_cast<uint32_t>(AUDIT_ARCH_X86_64);
        for (auto& argument : data.args) argument = values[random() % values.size()];
        if (random() % 2 == 0) data.args[5] = 7;
        // One that is allowed, if there is one.
        for (const FilterRow& row : rows) {
          if (row.number != number || random() % 2 == 0) continue;
          for (const ArgCheck& check : row.checks) {
            if (check.mask != 0)
              data.args[check.index] = (data.args[check.index] & ~check.mask) | check.value;
          }
        }
        if (interpret(program, data) != expected(rows, data)) wrong++;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("each forbidden call kills the process that makes it") {
  for (const Call& call : kForbiddenEverywhere) {
    for (const ProcessKind kind : kKinds) expect_killed(kind, call);
  }
  for (const Call& call : kForbiddenToSentry) expect_killed(ProcessKind::kSentry, call);
}

TEST_CASE("a sealed process still has its run time: threads, memory, locks") {
  for (const ProcessKind kind : kKinds) {
    const ChildEnd end = in_sealed_child(kind, {}, [] {
      std::vector<char> large(8 << 20, 'x');
      int sum = 0;
      std::thread worker([&] { sum = large[5]; });
      worker.join();
      return sum == 'x' ? 7 : 1;
    });
    CAPTURE(std::string(process_name(kind)));
    CHECK(end.code == 7);
  }
}

TEST_CASE("arguments decide: new processes, executable memory, terminal input") {
  const auto sentry = [](const std::function<int()>& body) {
    return in_sealed_child(ProcessKind::kSentry, {}, body);
  };
  CHECK(sentry([] { return ::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0 ? 0 : 1; }).signal ==
        SIGSYS);
  CHECK(sentry([] {
          return ::syscall(SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_NEWUSER, 0, 0,
                           0, 0) >= 0;
        }).signal == SIGSYS);
  CHECK(sentry([] {
          ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          return 0;
        }).signal == SIGSYS);
  CHECK(sentry([] { return ::syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, "x") == 0; }).signal ==
        SIGSYS);
  CHECK(sentry([] {
          return ::syscall(SYS_clone3, nullptr, 0) < 0 && errno == ENOSYS ? 5 : 1;
        }).code == 5);
}

TEST_CASE("a call of another architecture kills") {
  // x32: the number with bit 30 set. getpid itself is allowed.
  CHECK(in_sealed_child(ProcessKind::kSentry, {}, [] {
          ::syscall(0x40000000 | SYS_getpid);
          return 0;
        }).signal == SIGSYS);
  // i386 through int 0x80: 20 is getpid there.
  CHECK(in_sealed_child(ProcessKind::kSentry, {}, [] {
          long result = 20;
          asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
          return 0;
        }).signal == SIGSYS);
}

TEST_CASE("rows of a platform or the Gofer add to the table") {
  const std::array<FilterRow, 2> rows = {{
      {SYS_getppid, "this test"},
      {SYS_futex, "twice is no error"},
  }};
  CHECK(in_sealed_child(ProcessKind::kGofer, rows, [] {
          ::syscall(SYS_getppid);
          return 3;
        }).code == 3);
  CHECK(in_sealed_child(ProcessKind::kGofer, {}, [] {
          ::syscall(SYS_getppid);
          return 3;
        }).signal == SIGSYS);
}
