// Real programs of the host under the whole Sentry on the ptrace platform, without Gofer or
// sealing: files are copied into a tmpfs first, output goes to one.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "platforms/factory.h"
#include "sentry/fs/tmp_fs.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/loader/program_loader.h"
#include "sentry/policy/policy.h"
#include "sentry/policy/violation_log.h"
#include "sentry/syscalls/dispatcher.h"
#include "sentry/time/calibrated_clock.h"
#include "sentry/trace/tracer.h"
#include "sentry/vfs/anonymous.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/operations.h"
#include "tests/unit/test.h"

using namespace boxrun;

namespace {

class NoDevices final : public vfs::SpecialFiles {
 public:
  Result<Ref<vfs::FileDescription>> open(vfs::Inode&, const vfs::OpenRequest&) override {
    return Errno::kNxIo;
  }
};
class Quiet final : public kernel::KernelEvents {
 public:
  void stopped(kernel::ThreadGroup&, int) override {}
  void continued(kernel::ThreadGroup&) override {}
  void killed(kernel::Task&, std::string_view reason) override { last = reason; }
  std::string last;
};

struct Outcome {
  int status = -1;
  std::string output;
};

// The value of a Result that has to be there.
template <class T>
T must(Result<T> result, const char* what) {
  if (!result.ok()) FAIL(what << ": " << std::string(errno_name(result.error())));
  return std::move(result).take();
}

struct Machine {
  std::unique_ptr<platform::Platform> platform;
  std::unique_ptr<mm::MemoryFile> memory;
  std::unique_ptr<loader::VdsoPages> vdso;
  std::unique_ptr<CalibratedClock> clock;
  std::unique_ptr<policy::ViolationLog> violations;
  policy::Policy policy;
  NoDevices devices;
  vfs::LockWaits lock_waits;
  fs::PipeSystem pipes;
  Ref<vfs::Mount> memfds;
  Ref<vfs::Mount> sockfs;
  Quiet events;
  std::unique_ptr<trace::Tracer> tracer;
  std::unique_ptr<syscalls::Dispatcher> dispatcher;
  std::unique_ptr<loader::ProgramLoader> loader;
  Ref<vfs::MountNamespace> mounts;
  Ref<Credentials> root = Credentials::create(0, 0, {}, CapSet::all());

  Machine() {
    install_fault_handlers();
    auto backing = must(mm::MemoryFile::make_backing(-1), "memory file");
    Failure failure;
    platform = platform::create({"ptrace", backing.file.get()}, failure);
    if (!platform) FAIL(to_string(failure));
    memory = must(mm::MemoryFile::create(std::move(backing), uint64_t{1} << 30), "memory file");
    vdso = must(loader::VdsoPages::create(*memory), "vdso");
    clock = std::make_unique<CalibratedClock>(vdso->time_page());
    violations = std::make_unique<policy::ViolationLog>(UniqueFd(), *clock);
    if (getenv("BOXRUN_TEST_TRACE") != nullptr) {
      tracer = std::make_unique<trace::Tracer>(UniqueFd(dup(2)), std::bitset<64>().set());
    }
    pipes = {vfs::AnonymousFileSystem::create("pipefs", 7, 0, *clock),
             make_ref<fs::SpaceQuota>(fs::kPipeQuota)};
    sockfs = vfs::AnonymousFileSystem::create("sockfs", 8, 0, *clock);
    memfds = vfs::Mount::create({.file_system = fs::TmpFs::create({.device = 6}, *memory, *clock)});
    dispatcher = std::make_unique<syscalls::Dispatcher>(syscalls::Services{
        devices, lock_waits, pipes, memfds, make_ref<net::UnixSystem>(sockfs),
        make_ref<net::InetSystem>(sockfs), policy, *violations, nullptr, tracer.get()});
    loader = std::make_unique<loader::ProgramLoader>(*vdso);
    auto tmp = fs::TmpFs::create({.device = 5, .root_mode = 0755}, *memory, *clock);
    mounts = vfs::MountNamespace::create(vfs::Mount::create({.file_system = std::move(tmp)}));
  }

  Ref<vfs::FsContext> context() {
    return make_ref<vfs::FsContext>(mounts->root(), mounts->root(), 022);
  }
  Ref<vfs::FileDescription> open(const std::string& path, int flags, mode_t mode = 0) {
    auto fs = context();
    vfs::Caller caller{*fs, root, *mounts, devices};
    return must(vfs::open_at(caller, {mounts->root(), path}, {flags, mode, 0}), path.c_str());
  }
  // Copies a host file to the same path in the guest.
  void import(const std::string& path) {
    auto fs = context();
    vfs::Caller caller{*fs, root, *mounts, devices};
    for (size_t at = path.find('/', 1); at != path.npos; at = path.find('/', at + 1)) {
      (void)vfs::make_directory(caller, {mounts->root(), path.substr(0, at)}, 0755);
    }
    std::ifstream in(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), {}};
    auto out = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0755);
    IoBuffers buffers{as_bytes_of(bytes.data(), bytes.size())};
    while (!buffers.empty()) must(out->write(buffers, {}), "write");
  }

  Outcome run(const std::vector<std::string>& argv) {
    auto kernel = must(
        kernel::Kernel::create({*platform, *memory, *dispatcher, *loader, events, *clock, mounts}),
        "kernel");
    auto output = open("/output", O_CREAT | O_RDWR | O_TRUNC, 0644);
    auto fds = make_ref<vfs::FdTable>();
    for (int i = 0; i < 3; i++) must(fds->install(output, vfs::FdTable::OnExec::kKeep, 16), "fd");
    kernel::ProcessSpec spec;
    spec.program = {AT_FDCWD, argv.front(), 0, argv, {"PATH=/bin", "LANG=C"}};
    spec.fds = fds;
    spec.fs = context();
    spec.cred = root;
    auto process = must(kernel->create_process(std::move(spec)), "exec");
    must(kernel->start(*process).ok() ? Result<int>(0) : Result<int>(Errno::kIo), "start");
    Outcome outcome;
    outcome.status = kernel->wait(*process).status;
    kernel->shutdown();
    std::string text(65536, '\0');
    IoBuffers buffers{std::as_writable_bytes(std::span(text))};
    text.resize(must(output->pread(buffers, 0), "read output"));
    outcome.output = text;
    return outcome;
  }
};

}  // namespace

TEST_CASE("a static and a dynamic program of the host run") {
  Machine machine;
  const std::string tests = GUEST_PROGRAMS;
  machine.import(tests + "/hello_asm");
  Outcome hello = machine.run({tests + "/hello_asm"});
  CHECK(WEXITSTATUS(hello.status) == 42);
  CHECK(hello.output.find("hello") != std::string::npos);

  for (const char* path :
       {"/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6", "/bin/echo", "/bin/sh"}) {
    machine.import(path);
  }
  const Outcome echo = machine.run({"/bin/echo", "one", "two"});
  CHECK(echo.status == 0);
  CHECK(echo.output == "one two\n");

  const Outcome shell =
      machine.run({"/bin/sh", "-c", "for i in 1 2 3; do /bin/echo $i; done; exit 7"});
  CHECK(WEXITSTATUS(shell.status) == 7);
  CHECK(shell.output == "1\n2\n3\n");
}
