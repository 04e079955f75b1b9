#include "platforms/factory.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <functional>

#include "tests/unit/test.h"

using namespace boxrun;

namespace {

// What create() says in a child process that `prepare` made unkind.
struct Outcome {
  bool created;
  Errno error;
  char what[128];
  char remedy[256];
};

Outcome create_in_child(const std::function<void()>& prepare, const char* kind = "ptrace") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    prepare();
    Failure failure;
    Outcome outcome{};
    outcome.created = platform::create({.kind = kind}, failure) != nullptr;
    outcome.error = failure.error;
    std::strncpy(outcome.what, failure.what.c_str(), sizeof outcome.what - 1);
    std::strncpy(outcome.remedy, failure.remedy.c_str(), sizeof outcome.remedy - 1);
    (void)!::write(ends[1], &outcome, sizeof outcome);
    ::_exit(0);
  }
  ::close(ends[1]);
  Outcome outcome{};
  const ssize_t n = ::read(ends[0], &outcome, sizeof outcome);
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  REQUIRE(n == sizeof outcome);
  return outcome;
}

// Makes one system call fail with EPERM, as a container's seccomp profile does.
void forbid(unsigned number) {
  const sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(filter), const_cast<sock_filter*>(filter)};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

}  // namespace

TEST_CASE("a platform that is not built in is refused with the names of those that are") {
  Failure failure;
  CHECK(platform::create({.kind = "warp"}, failure) == nullptr);
  CHECK(failure.what.find("warp") != std::string::npos);
  CHECK(failure.remedy.find("ptrace") != std::string::npos);
}

TEST_CASE("a host that forbids ptrace is named as such") {
  const Outcome outcome = create_in_child([] { forbid(SYS_ptrace); });
  CHECK_FALSE(outcome.created);
  CHECK(outcome.error == Errno::kPerm);
  CHECK(std::string_view(outcome.what) == "trace a stub");
  CHECK(std::string_view(outcome.remedy).find("ptrace_scope") != std::string_view::npos);
}

TEST_CASE("a step that fails inside the first stub is named") {
  const Outcome outcome = create_in_child([] { forbid(SYS_setsid); });
  CHECK_FALSE(outcome.created);
  CHECK(outcome.error == Errno::kPerm);
  CHECK(std::string_view(outcome.what) == "give the first stub its own session");
}

TEST_CASE("too few descriptors are named") {
  const Outcome outcome = create_in_child([] {
    const rlimit few{3, 3};
    ::setrlimit(RLIMIT_NOFILE, &few);
  });
  CHECK_FALSE(outcome.created);
  CHECK(outcome.error == Errno::kMFile);
  CHECK(std::string_view(outcome.remedy).find("ulimit -n") != std::string_view::npos);
}

TEST_CASE("auto is what was measured to be cheapest, else the first that works") {
  Failure failure;
  for (const char* preferred : {"", "ptrace", "systrap", "abacus"}) {
    CAPTURE(preferred);
    const auto found = platform::create({.preferred = preferred}, failure);
    if (found == nullptr) {
      MESSAGE("SKIPPED: this host cannot run guests: ", to_string(failure));
      return;
    }
    CHECK(found->name() == (std::string_view(preferred) == "ptrace" ? "ptrace" : "systrap"));
  }
}

TEST_CASE("auto does without ptrace") {
  const Outcome outcome = create_in_child([] { forbid(SYS_ptrace); }, "auto");
  CHECK(outcome.created);
}

TEST_CASE("a platform says where guest memory can be") {
  Failure failure;
  const auto found = platform::create({}, failure);
  if (found == nullptr) {
    MESSAGE("SKIPPED: this host cannot run guests: ", to_string(failure));
    return;
  }
  CHECK(found->user_addresses().start >= 0x10000);
  CHECK(found->user_addresses().end > 0x7ff000000000);
}
