// Namespaces, file boundary, capabilities and the small steps: each observed from inside.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "src/host/caps.h"
#include "src/host/landlock.h"
#include "src/host/mounts.h"
#include "src/host/start_message.h"
#include "tests/unit/sealed_child.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::host;

namespace {

// A scratch directory with one file, removed at the end.
class Scratch {
 public:
  Scratch() {
    std::string pattern = "/tmp/boxrun-host-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
    std::ofstream(path_ + "/file") << "content";
  }
  ~Scratch() {
    for (const char* name : {"/file", "/new"}) ::unlink((path_ + name).c_str());
    ::rmdir(path_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string status_line(const char* key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key, 0) == 0) return line.substr(line.find_first_not_of(" \t", strlen(key)));
  }
  return "";
}

bool namespaces_granted() {
  return in_child({}, [](LayerSet got) { return got.has(Layer::kMountNamespace) ? 1 : 0; }).code ==
         1;
}

int open_error(int dir, const char* path, int flags) {
  const int fd = ::openat(dir, path, flags, 0600);
  if (fd < 0) return errno;
  ::close(fd);
  return 0;
}

}  // namespace

TEST_CASE("a child in a pid namespace is its init, and ids look the same on both sides") {
  const uid_t uid = ::geteuid();
  const ChildEnd end = in_child({}, [&](LayerSet got) {
    if (got.empty()) return 0;
    if (::getpid() != 1 || ::gettid() != 1) return 1;
    if (::geteuid() != uid) return 2;
    return got == kAllNamespaces ? 0 : 3;
  });
  CHECK(end.code == 0);
}

TEST_CASE("with all ids mapped, a privileged child sees every owner") {
  struct stat status = {};
  REQUIRE(::stat("/", &status) == 0);
  const ChildEnd end = in_child({.ids = IdMap::kAll}, [&](LayerSet got) {
    if (!got.has(Layer::kUserNamespace) || ::geteuid() != 0) return 0;
    std::ifstream map("/proc/self/uid_map");
    uint32_t inside = 1;
    uint32_t outside = 1;
    uint32_t count = 0;
    map >> inside >> outside >> count;
    return inside == 0 && outside == 0 && count > 1 ? 0 : 1;
  });
  CHECK(end.code == 0);
}

TEST_CASE("a refused namespace costs the layer, never the fork") {
  const ChildEnd end = in_child({.wanted = {}}, [](LayerSet got) { return got.empty() ? 4 : 1; });
  CHECK(end.code == 4);
}

TEST_CASE("the child of a dead parent ends itself, and dies with a living one") {
  std::array<int, 2> report{};
  REQUIRE(::pipe2(report.data(), O_CLOEXEC) == 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    const Result<UniqueFd> self = pidfd_of_self();
    if (::fork() == 0) {
      die_with_parent((*self).get());
      static_cast<void>(::write(report[1], "x", 1) == 1);
      for (;;) ::pause();
    }
    for (;;) ::pause();
  }
  ::close(report[1]);
  char byte = 0;
  REQUIRE(::read(report[0], &byte, 1) == 1);
  ::kill(parent, SIGKILL);
  wait_for(parent);
  // Ends only when the grandchild, the last holder of the write end, is gone.
  pollfd end = {report[0], POLLIN, 0};
  CHECK(::poll(&end, 1, 10'000) == 1);
  CHECK(::read(report[0], &byte, 1) == 0);
  ::close(report[0]);

  // A pidfd of a process that is gone already.
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, gone, 0)));
  wait_for(gone);
  const pid_t orphan = ::fork();
  if (orphan == 0) {
    die_with_parent(pidfd.get());
    ::_exit(1);
  }
  CHECK(wait_for(orphan).code == 125);
}

TEST_CASE("close_all_but keeps the standard streams and what it is told") {
  const ChildEnd end = in_child({.wanted = {}}, [](LayerSet) {
    const int a = ::open("/dev/null", O_RDONLY);
    const int b = ::open("/dev/null", O_RDONLY);
    const int c = ::fcntl(a, F_DUPFD, 900);
    const std::array<int, 3> keep = {c, -1, b};
    if (!close_all_but(keep).ok()) return 1;
    if (::fcntl(a, F_GETFD) >= 0) return 2;
    if (::fcntl(b, F_GETFD) < 0 || ::fcntl(c, F_GETFD) < 0) return 3;
    return ::fcntl(c + 1, F_GETFD) < 0 ? 0 : 4;
  });
  CHECK(end.code == 0);
}

TEST_CASE("after confine_files only the grants are reachable") {
  const Scratch scratch;
  const ChildEnd end = in_child({}, [&](LayerSet layers) {
    Result<MountRoot> root =
        open_mount_root(scratch.path(), MountAccess::kReadOnly, layers.has(Layer::kMountNamespace));
    if (!root) return 1;
    const int dir = root->fd.get();
    const std::array<FileGrant, 1> grants = {{{dir, MountAccess::kReadOnly}}};
    if (confine_files(grants, layers)) return 2;
    if (open_error(AT_FDCWD, "/etc/passwd", O_RDONLY) == 0) return 3;
    if (open_error(AT_FDCWD, "/", O_RDONLY) == 0 && !layers.has(Layer::kEmptyRoot)) return 4;
    if (open_error(dir, "file", O_RDONLY) != 0) return 5;
    const int refused = root->enforced ? EROFS : EACCES;
    if (open_error(dir, "file", O_WRONLY) != refused) return 6;
    if (open_error(dir, "new", O_WRONLY | O_CREAT) != refused) return 7;
    // Landlock does not cover chmod, the mount does.
    if (root->enforced && (::fchmodat(dir, "file", 0600, 0) == 0 || errno != EROFS)) return 8;
    const std::string above = "../.." + std::string("/etc/passwd");
    return open_error(dir, above.c_str(), O_RDONLY) == 0 ? 9 : 0;
  });
  CHECK(end.code == 0);
}

TEST_CASE("a writable mount root writes through, and maps executable") {
  const Scratch scratch;
  const ChildEnd end = in_child({}, [&](LayerSet layers) {
    Result<MountRoot> root = open_mount_root(scratch.path(), MountAccess::kReadWrite,
                                             layers.has(Layer::kMountNamespace));
    if (!root) return 1;
    const std::array<FileGrant, 1> grants = {{{root->fd.get(), MountAccess::kReadWrite}}};
    if (confine_files(grants, layers)) return 2;
    if (open_error(root->fd.get(), "new", O_WRONLY | O_CREAT) != 0) return 3;
    const int file = ::openat(root->fd.get(), "file", O_RDONLY);
    const void* mapped = ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    return mapped == MAP_FAILED ? 4 : 0;
  });
  CHECK(end.code == 0);
  CHECK(::access((scratch.path() + "/new").c_str(), F_OK) == 0);
}

TEST_CASE("a mount root can be a single file") {
  const Scratch scratch;
  const ChildEnd end = in_child({}, [&](LayerSet layers) {
    Result<MountRoot> root = open_mount_root(scratch.path() + "/file", MountAccess::kReadOnly,
                                             layers.has(Layer::kMountNamespace));
    const int proc = ::open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
    if (!root || proc < 0) return 1;
    const std::array<FileGrant, 1> grants = {{{root->fd.get(), MountAccess::kReadOnly}}};
    if (confine_files(grants, layers)) return 2;
    // How the Gofer turns a held O_PATH descriptor into an open file.
    return open_error(proc, std::to_string(root->fd.get()).c_str(), O_RDONLY) == 0 ? 0 : 3;
  });
  CHECK(end.code == 0);
  CHECK(open_mount_root(scratch.path() + "/missing", MountAccess::kReadOnly, false).error() ==
        Errno::kNoEnt);
}

TEST_CASE("the memory file's tmpfs is private, sparse and as large as asked") {
  if (!namespaces_granted()) {
    MESSAGE("skipped: no namespaces here");
    return;
  }
  const ChildEnd end = in_child({}, [](LayerSet) {
    const Result<UniqueFd> directory = make_private_tmpfs(uint64_t{1} << 40);
    if (!directory) return 1;
    const UniqueFd file(::openat((*directory).get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!file || ::ftruncate(file.get(), off_t{1} << 40) < 0) return 2;
    LayerSet layers = {Layer::kMountNamespace};
    if (confine_files({}, layers)) return 3;
    void* mapped = ::mmap(nullptr, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (mapped == MAP_FAILED) return 4;
    static_cast<char*>(mapped)[5] = 1;
    return 0;
  });
  CHECK(end.code == 0);
}

TEST_CASE("Landlock closes files, signals and tracing towards the outside") {
  if (!landlock_abi().ok()) {
    MESSAGE("skipped: no Landlock here");
    return;
  }
  const pid_t test = ::getpid();
  const ChildEnd end = in_child({.wanted = {}}, [&](LayerSet) {
    if (restrict_files({})) return 1;
    if (open_error(AT_FDCWD, "/etc/passwd", O_RDONLY) != EACCES) return 2;
    if (::syscall(SYS_ptrace, 0x4206 /* PTRACE_SEIZE */, test, 0, 0) == 0) return 3;
    if (*landlock_abi() >= 6 && (::kill(test, 0) == 0 || errno != EPERM)) return 4;
    return 0;
  });
  CHECK(end.code == 0);
}

TEST_CASE("all layers of a sealed Sentry are in force and observable") {
  const ChildEnd end = in_child({}, [](LayerSet layers) {
    const int status = ::open("/proc/self/status", O_RDONLY);
    const int environment = ::open("/proc/self/environ", O_RDONLY);
    if (confine_files({}, layers)) return 1;
    static constexpr FilterRow kSelf[] = {
        {SYS_prctl, "this test"}, {SYS_getrlimit, "this test"}, {SYS_prlimit64, "this test"}};
    if (drop_rights({.kind = ProcessKind::kSentry, .filter_rows = kSelf}, layers)) return 2;
    if (check_layers(ProcessKind::kSentry, layers)) return 3;
    if (::prctl(PR_GET_DUMPABLE) != 0) return 4;
    if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 5;
    rlimit core = {};
    if (::getrlimit(RLIMIT_CORE, &core) < 0 || core.rlim_max != 1) return 6;
    std::array<char, 8192> text{};
    if (::read(status, text.data(), text.size() - 1) <= 0) return 7;
    if (strstr(text.data(), "CapEff:\t0000000000000000") == nullptr) return 8;
    if (strstr(text.data(), "CapPrm:\t0000000000000000") == nullptr) return 9;
    if (strstr(text.data(), "Seccomp:\t2") == nullptr) return 10;
    const ssize_t left = ::read(environment, text.data(), text.size());
    for (ssize_t i = 0; i < left; i++) {
      if (text[static_cast<size_t>(i)] != '=' && text[static_cast<size_t>(i)] != '\0') return 11;
    }
    return ::getenv("PATH") == nullptr ? 0 : 12;
  });
  CHECK(end.code == 0);
}

TEST_CASE("the Gofer keeps its six capabilities when it has them, and no others") {
  const bool privileged = status_line("CapEff:") != "0000000000000000";
  const ChildEnd end = in_child({.ids = IdMap::kAll}, [&](LayerSet) {
    if (drop_capabilities(gofer_capabilities())) return 1;
    const std::string effective = status_line("CapEff:");
    // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, SETGID 6, SETUID 7.
    if (effective == "00000000000000db") return 2;
    return effective == "0000000000000000" ? 3 : 4;
  });
  CHECK(end.code != 1);
  CHECK(end.code != 4);
  if (privileged) CHECK(end.code == 2);
}

TEST_CASE("too few layers are a failure that names them") {
  LayerSet layers = required_layers(ProcessKind::kGofer);
  const MaybeFailure no_boundary = check_layers(ProcessKind::kGofer, layers);
  REQUIRE(no_boundary);
  CHECK(no_boundary->layer == "gofer");
  CHECK_FALSE(no_boundary->remedy.empty());
  layers.add(Layer::kLandlock);
  CHECK_FALSE(check_layers(ProcessKind::kGofer, layers));
  layers.remove(Layer::kSeccomp);
  const MaybeFailure no_filter = check_layers(ProcessKind::kGofer, layers);
  REQUIRE(no_filter);
  CHECK(no_filter->what.find("seccomp filter") != std::string::npos);
}

TEST_CASE("start messages arrive as they were sent, and garbage is refused") {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  StartMessage message;
  message.layers = {Layer::kLandlock, Layer::kSeccomp};
  message.platform = "ptrace";
  REQUIRE(send_start_message(theirs.get(), message).ok());
  Result<StartMessage> ready = receive_start_message(ours.get());
  REQUIRE(ready.ok());
  CHECK_FALSE(ready->failure);
  CHECK(ready->layers == message.layers);
  CHECK(ready->platform == "ptrace");

  message.failure =
      Failure{"open the mount source /x", "gofer", Errno::kNoEnt, std::string(5000, 'r')};
  REQUIRE(send_start_message(theirs.get(), message).ok());
  Result<StartMessage> failed = receive_start_message(ours.get());
  REQUIRE(failed.ok());
  REQUIRE(failed->failure);
  CHECK(failed->failure->what == "open the mount source /x");
  CHECK(failed->failure->layer == "gofer");
  CHECK(failed->failure->error == Errno::kNoEnt);
  CHECK(failed->failure->remedy.size() == 1000);
  CHECK(failed->platform == "ptrace");
  CHECK(to_string(*failed->failure).rfind("cannot open the mount source /x: No such file", 0) == 0);

  REQUIRE(::send(theirs.get(), "short", 5, 0) == 5);
  CHECK(receive_start_message(ours.get()).error() == Errno::kBadMsg);
  const std::string long_garbage(100, '\x7f');
  REQUIRE(::send(theirs.get(), long_garbage.data(), long_garbage.size(), 0) == 100);
  CHECK(receive_start_message(ours.get()).error() == Errno::kBadMsg);
  theirs.reset();
  CHECK(receive_start_message(ours.get()).error() == Errno::kNoData);
  CHECK(send_start_message(ours.get(), message).error() == Errno::kPipe);
}
