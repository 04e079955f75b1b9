#include "tests/unit/test_sandbox.h"

#include <linux/magic.h>
#include <unistd.h>

#include <utility>

#include "sentry/kernel/proc_fs.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/vfs/anonymous.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/operations.h"
#include "src/base/bytes.h"
#include "src/base/check.h"

namespace boxrun::test {

TestSandbox::TestSandbox(platform::Platform& platform, mm::MemoryFile::Backing memory,
                         Options options)
    : memory_(mm::MemoryFile::create(std::move(memory), options.memory).take()),
      vdso_(loader::VdsoPages::create(*memory_).take()),
      used_at_start_(memory_->used()),
      clock_(vdso_->time_page()),
      violations_(UniqueFd(), clock_),
      root_user_(Credentials::create(0, 0, {}, CapSet::all())) {
  install_fault_handlers();
  const uint64_t max_tasks = options.max_tasks;
  make_tree(std::move(options));
  make_dispatcher();
  loader_ = std::make_unique<loader::ProgramLoader>(*vdso_);
  kernel_ = kernel::Kernel::create({.platform = platform,
                                    .memory_file = *memory_,
                                    .dispatcher = *dispatcher_,
                                    .loader = *loader_,
                                    .events = *this,
                                    .clock = clock_,
                                    .root = tree_.mounts,
                                    .max_tasks = max_tasks})
                .take();
  vfs::Mount::Config proc;
  proc.file_system = kernel::ProcFs::create(*kernel_, devices_.allocate());
  CHECK(tree_.mounts->attach(vfs::Mount::create(std::move(proc)), tree_.proc).ok());
}

TestSandbox::~TestSandbox() {
  kernel_->shutdown();
  dispatcher_.reset();
  special_files_.reset();
  tree_ = {};
  kernel_.reset();
  CHECK(memory_->used() == used_at_start_);
}

Ref<vfs::Mount> TestSandbox::anonymous_mount(std::string_view type, uint64_t magic) {
  return vfs::AnonymousFileSystem::create(std::string(type), devices_.allocate(), magic, clock_);
}

void TestSandbox::make_tree(Options options) {
  special_files_ = std::make_unique<fs::DeviceFiles>(fs::PipeSystem{
      anonymous_mount("pipefs", PIPEFS_MAGIC), make_ref<fs::SpaceQuota>(fs::kPipeQuota), *memory_});
  sentry::BootSpec spec;
  spec.tmpfs.push_back({"/tmp", 01777});
  spec.mounts = std::move(options.mounts);
  CHECK(!sentry::build_tree(
      spec, {*memory_, clock_, devices_, *special_files_, std::move(options.gofer)}, tree_));
  // Programs are put everywhere.
  tree_.mounts->root().mount->set_flags(vfs::MountFlags::kNone);
}

void TestSandbox::make_dispatcher() {
  if (getenv("BOXRUN_TEST_TRACE") != nullptr) {
    tracer_ = std::make_unique<trace::Tracer>(UniqueFd(dup(2)), syscalls::groups_named(""));
  }
  const Ref<vfs::Mount> sockfs = anonymous_mount("sockfs", SOCKFS_MAGIC);
  fs::TmpFs::Config memfds;
  memfds.device = devices_.allocate();
  dispatcher_ = std::make_unique<syscalls::Dispatcher>(syscalls::Services{
      *special_files_, lock_waits_, special_files_->pipes(),
      vfs::Mount::create({.file_system = fs::TmpFs::create(memfds, *memory_, clock_)}),
      make_ref<net::UnixSystem>(sockfs), make_ref<net::InetSystem>(sockfs), policy_, violations_,
      nullptr, tracer_.get()});
}

Ref<vfs::FsContext> TestSandbox::context() const {
  const vfs::Path root = tree_.mounts->root();
  return make_ref<vfs::FsContext>(root, root, 022);
}

Result<Ref<vfs::FileDescription>> TestSandbox::open(const std::string& path, int flags,
                                                    mode_t mode) {
  const Ref<vfs::FsContext> fs = context();
  vfs::Caller caller{*fs, root_user_, *tree_.mounts, *special_files_};
  return vfs::open_at(caller, {fs->cwd(), path}, {flags, mode, 0});
}

Result<void> TestSandbox::put(const std::string& path, std::string_view content) {
  const Ref<vfs::FsContext> fs = context();
  vfs::Caller caller{*fs, root_user_, *tree_.mounts, *special_files_};
  for (size_t at = path.find('/', 1); at != path.npos; at = path.find('/', at + 1)) {
    (void)vfs::make_directory(caller, {fs->cwd(), path.substr(0, at)}, 0755);
  }
  const auto file = TRY(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0755));
  IoBuffers from(as_bytes_of(content.data(), content.size()));
  while (!from.empty()) TRY(file->write(from, {}));
  return {};
}

Result<Ref<kernel::ThreadGroup>> TestSandbox::start(std::vector<std::string> argv,
                                                    const Ref<vfs::FileDescription>& stream) {
  kernel::ProcessSpec spec;
  spec.program.path = argv.front();
  spec.program.argv = std::move(argv);
  spec.program.envp = {"PATH=/bin", "LANG=C"};
  spec.fds = make_ref<vfs::FdTable>();
  for (int i = 0; i < 3; i++) TRY(spec.fds->install(stream, vfs::FdTable::OnExec::kKeep, 16));
  spec.fs = context();
  spec.cred = root_user_;
  Ref<kernel::ThreadGroup> process = TRY(kernel_->create_process(std::move(spec)));
  TRY(kernel_->start(*process));
  return process;
}

}  // namespace boxrun::test
