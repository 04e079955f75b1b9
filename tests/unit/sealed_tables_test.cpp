// The filters as they are installed: the tables of src/host with the rows that the Gofer and the
// platform add. host_filter_test.cpp has the tables alone.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "gofer/gofer_main.h"
#include "platforms/factory.h"
#include "tests/unit/forbidden_calls.h"
#include "tests/unit/sealed_child.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::host;

namespace {

// One kind of process as it runs. `granted` is what it has of the forbidden calls, each for a user
// that its row names.
struct Sealed {
  ProcessKind kind;
  std::vector<FilterRow> rows;
  std::vector<int> granted;
};

Sealed monitor() {
  return {ProcessKind::kMonitor,
          {},
          {SYS_openat, SYS_newfstatat, SYS_statx, SYS_kill, SYS_tgkill, SYS_pidfd_send_signal}};
}

Sealed gofer_process() {
  std::array<int, 2> ends{-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
  gofer::GoferSpec spec;
  spec.channels.emplace_back(ends[0]);
  spec.mounts.push_back({.name = "0", .root = UniqueFd(::open("/usr", O_PATH | O_CLOEXEC))});
  ::close(ends[1]);
  const mode_t mask = ::umask(022);
  MaybeFailure failure;
  const auto gofer = gofer::Gofer::prepare(std::move(spec), failure);
  ::umask(mask);
  REQUIRE(gofer != nullptr);
  return {ProcessKind::kGofer,
          gofer->filter_rows(),
          {SYS_openat, SYS_statx, SYS_readlinkat, SYS_fchmodat, SYS_fchownat, SYS_utimensat,
           SYS_mkdirat, SYS_mknodat, SYS_symlinkat, SYS_linkat, SYS_unlinkat, SYS_renameat2,
           SYS_inotify_add_watch, SYS_inotify_rm_watch, SYS_fchdir}};
}

// Empty rows where this host runs no platform: then there is no Sentry, either.
Sealed sentry_process() {
  Sealed sentry{ProcessKind::kSentry, {}, {SYS_ptrace, SYS_process_vm_readv, SYS_kill, SYS_tgkill}};
  const UniqueFd memory(::memfd_create("memory", MFD_CLOEXEC));
  Failure failure;
  const auto platform = platform::create({.kind = "ptrace", .memory_file = memory.get()}, failure);
  if (platform == nullptr) {
    MESSAGE("SKIPPED: this host cannot run the platform ptrace: ", to_string(failure));
    return sentry;
  }
  for (const platform::HostSyscall& row : platform->host_syscalls()) {
    sentry.rows.push_back({row.number, row.user});
  }
  return sentry;
}

std::vector<Call> forbidden_to(const Sealed& process) {
  std::vector<Call> calls(std::begin(kForbiddenEverywhere), std::end(kForbiddenEverywhere));
  calls.insert(calls.end(), std::begin(kForbiddenToSentry), std::end(kForbiddenToSentry));
  std::erase_if(calls, [&](const Call& call) {
    return std::count(process.granted.begin(), process.granted.end(), call.number) != 0;
  });
  return calls;
}

void check_forbidden(const Sealed& process) {
  const std::vector<FilterRow> rows = all_rows(process.kind, process.rows);
  CAPTURE(std::string(process_name(process.kind)));
  for (const Call& call : forbidden_to(process)) {
    CAPTURE(call.name);
    CHECK(std::none_of(rows.begin(), rows.end(),
                       [&](const FilterRow& row) { return row.number == call.number; }));
    const ChildEnd end = in_sealed_child(process.kind, process.rows, [&] {
      ::syscall(call.number, -1, 0, 0, 0, 0, 0);
      return 0;
    });
    CHECK(end.signal == SIGSYS);
  }
}

ChildEnd in_gofer(const Sealed& gofer, const std::function<int()>& body) {
  return in_sealed_child(gofer.kind, gofer.rows, body);
}

}  // namespace

TEST_CASE("the monitor dies of every forbidden call") { check_forbidden(monitor()); }

TEST_CASE("the Gofer dies of every forbidden call") { check_forbidden(gofer_process()); }

TEST_CASE("the Sentry dies of every forbidden call") { check_forbidden(sentry_process()); }

TEST_CASE("no table makes processes or executable memory, whoever adds rows") {
  for (const Sealed& process : {monitor(), gofer_process(), sentry_process()}) {
    CAPTURE(std::string(process_name(process.kind)));
    for (const FilterRow& row : all_rows(process.kind, process.rows)) {
      CAPTURE(row.number);
      CHECK_FALSE(row.user.empty());
      // The one form of clone that makes a thread; executable memory nowhere; no free ioctl.
      if (row.number == SYS_clone) CHECK(row.checks[0].mask == UINT64_MAX);
      if (row.number == SYS_mmap || row.number == SYS_mprotect || row.number == SYS_ioctl) {
        CHECK(row.checks[0].mask != 0);
      }
      if (process.kind == ProcessKind::kSentry && row.number == SYS_fcntl) {
        CHECK(row.checks[0].mask != 0);
      }
    }
  }
}

TEST_CASE("the Gofer's attribute calls take no path") {
  const Sealed gofer = gofer_process();
  static const char kPath[] = "/etc/hostname";
  CHECK(in_gofer(gofer, [] {
          struct statx out;
          return static_cast<int>(::syscall(SYS_statx, AT_FDCWD, kPath, 0, 0, &out));
        }).signal == SIGSYS);
  CHECK(in_gofer(gofer, [] {
          return static_cast<int>(::syscall(SYS_fchmodat, AT_FDCWD, kPath, 0777));
        }).signal == SIGSYS);
  CHECK(in_gofer(gofer, [] {
          return static_cast<int>(::syscall(SYS_fchownat, AT_FDCWD, kPath, 0, 0, 0));
        }).signal == SIGSYS);
  CHECK(in_gofer(gofer, [] {
          return static_cast<int>(::syscall(SYS_utimensat, AT_FDCWD, kPath, nullptr, 0));
        }).signal == SIGSYS);
  CHECK(in_gofer(gofer, [] {
          return static_cast<int>(::syscall(SYS_linkat, AT_FDCWD, kPath, AT_FDCWD, "x", 0));
        }).signal == SIGSYS);
}

TEST_CASE("the Gofer goes nowhere but to its /proc/self/fd and watches with its own descriptor") {
  const Sealed gofer = gofer_process();
  CHECK(in_gofer(gofer, [] {
          const int root = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, "/", O_PATH, 0));
          return static_cast<int>(::syscall(SYS_fchdir, root));
        }).signal == SIGSYS);
  CHECK(in_gofer(gofer, [] {
          return static_cast<int>(::syscall(SYS_inotify_add_watch, 0, "/", 1));
        }).signal == SIGSYS);
}
