#include "sentry/boot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "gofer/channel.h"
#include "gofer/client.h"
#include "sentry/boot_tree.h"
#include "sentry/control.h"
#include "sentry/cpu_limit.h"
#include "sentry/fs/fd_notifier.h"
#include "sentry/fs/host_file.h"
#include "sentry/fs/special_files.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/proc_fs.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/loader/program_loader.h"
#include "sentry/policy/limit_watch.h"
#include "sentry/policy/violation_log.h"
#include "sentry/syscalls/dispatcher.h"
#include "sentry/syscalls/policy_rules.h"
#include "sentry/time/calibrated_clock.h"
#include "sentry/trace/call_times.h"
#include "sentry/trace/tracer.h"
#include "sentry/vfs/anonymous.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/operations.h"
#include "src/base/bytes.h"
#include "src/report/wire.h"

namespace boxrun::sentry {
namespace {

constexpr uint64_t kDefaultMemory = uint64_t{4} << 30;
constexpr size_t kMaxChanges = 10000;

Failure cannot(std::string what, Errno error, std::string remedy = "") {
  return {std::move(what), "sentry", error, std::move(remedy)};
}

std::vector<syscalls::PolicyRule> to_policy_rules(const std::vector<BootSyscallRule>& rules) {
  using From = BootSyscallRule::Action;
  using To = policy::Verdict::Action;
  std::vector<syscalls::PolicyRule> out;
  for (const BootSyscallRule& rule : rules) {
    To action = To::kErrno;
    if (rule.action == From::kAllow) action = To::kAllow;
    if (rule.action == From::kLog) action = To::kLog;
    if (rule.action == From::kKill) action = To::kKill;
    out.push_back({rule.pattern, {action, rule.error, 0}, rule.origin});
  }
  return out;
}

// Everything that one sandbox consists of, in the order of its making.
class Sandbox final : public kernel::KernelEvents {
 public:
  explicit Sandbox(BootSpec spec) : spec_(std::move(spec)) {}
  ~Sandbox() override;
  MaybeFailure set_up();
  void serve();

  void stopped(kernel::ThreadGroup&, int signo) override {
    tell({.kind = ControlMessage::Kind::kStopped, .value = signo});
  }
  void continued(kernel::ThreadGroup&) override {
    tell({.kind = ControlMessage::Kind::kContinued});
  }
  void killed(kernel::Task& task, kernel::KillReason reason) override;

 private:
  MaybeFailure make_memory();
  MaybeFailure make_files();
  MaybeFailure make_kernel();
  MaybeFailure mount_proc();
  Ref<vfs::Mount> memfd_mount();
  Ref<vfs::Mount> sockfs_mount();
  MaybeFailure make_process();
  Result<Ref<vfs::FdTable>> adopt_streams(const Ref<Credentials>& cred);
  void watch_cpu_time();
  void finish(const kernel::Kernel::Exit& exit);
  void send_statistics();
  void wait_for_control();
  void obey(const ControlMessage& message);
  void tell(const ControlMessage& message) {
    static_cast<void>(send_control(spec_.control_socket.get(), message));
  }

  BootSpec spec_;
  std::unique_ptr<mm::MemoryFile> memory_;
  std::unique_ptr<loader::VdsoPages> vdso_;
  std::unique_ptr<CalibratedClock> clock_;
  std::unique_ptr<policy::ViolationLog> violations_;
  policy::Policy policy_;
  std::unique_ptr<trace::Tracer> tracer_;
  std::unique_ptr<trace::CallTimes> times_;  // null: no statistics
  std::unique_ptr<policy::LimitWatch> limits_;
  vfs::AnonymousDevices devices_;
  vfs::LockWaits lock_waits_;
  std::unique_ptr<fs::DeviceFiles> special_files_;
  Ref<fs::P9Connection> gofer_;  // null without mounts
  Tree tree_;
  std::unique_ptr<syscalls::Dispatcher> dispatcher_;
  std::unique_ptr<loader::ProgramLoader> loader_;
  std::unique_ptr<kernel::Kernel> kernel_;
  Ref<vfs::Terminal> terminal_;  // the target's controlling terminal; null: none
  Ref<kernel::ThreadGroup> process_;
  std::unique_ptr<CpuLimit> cpu_limit_;  // null: none
};

Sandbox::~Sandbox() {
  cpu_limit_.reset();
  if (kernel_) kernel_->shutdown();
}

void Sandbox::killed(kernel::Task& task, kernel::KillReason reason) {
  policy::Violation violation;
  violation.kind = report::Kind::kProcessLost;
  violation.verdict = report::Verdict::kKilled;
  violation.target = fmt::format("{}[{}]", task.comm(), task.tgid());
  switch (reason) {
    case kernel::KillReason::kNoMemory:
      violation = limits_->killed_for_memory();
      break;
    case kernel::KillReason::kLostStub:
      violation.detail = "its host process was killed";
      break;
    case kernel::KillReason::kNoHostThread:
      violation.detail = "the host has no thread for it";
      break;
  }
  violations_->record(&task, std::move(violation));
}

MaybeFailure Sandbox::make_memory() {
  const uint64_t limit = spec_.limits.memory != 0 ? spec_.limits.memory : kDefaultMemory;
  auto memory = mm::MemoryFile::create(std::move(spec_.memory), limit);
  if (!memory.ok()) {
    return cannot("map the memory file", memory.error(),
                  limit < kPageSize ? "try a larger --memory" : "try a smaller --memory");
  }
  memory_ = std::move(*memory);
  auto vdso = loader::VdsoPages::create(*memory_);
  if (!vdso.ok()) return cannot("make the vDSO", vdso.error(), "try a larger --memory");
  vdso_ = std::move(*vdso);
  clock_ = std::make_unique<CalibratedClock>(vdso_->time_page());
  return {};
}

MaybeFailure Sandbox::make_files() {
  auto pipefs =
      vfs::AnonymousFileSystem::create("pipefs", devices_.allocate(), PIPEFS_MAGIC, *clock_);
  special_files_ = std::make_unique<fs::DeviceFiles>(
      fs::PipeSystem{std::move(pipefs), make_ref<fs::SpaceQuota>(fs::kPipeQuota), *memory_});
  TreeResources resources{*memory_, *clock_, devices_, *special_files_, {}};
  if (!spec_.mounts.empty()) {
    std::vector<std::unique_ptr<gofer::Channel>> channels;
    for (UniqueFd& fd : spec_.gofer_channels) {
      channels.push_back(std::make_unique<gofer::PacketChannel>(std::move(fd)));
    }
    auto client = gofer::Client::connect(std::move(channels));
    if (!client.ok()) return cannot("talk to the Gofer", client.error());
    gofer_ = make_ref<fs::P9Connection>(std::move(*client), spec_.kept_files);
    resources.gofer = gofer_;
  }
  MaybeFailure failure = build_tree(spec_, resources, tree_);
  // Even what is in the tree before the first process is in the sandbox's memory.
  if (failure && failure->error == Errno::kNoSpc) failure->remedy = "try a larger --memory";
  return failure;
}

// Memfds live in a tmpfs that nobody can walk to.
Ref<vfs::Mount> Sandbox::memfd_mount() {
  fs::TmpFs::Config config;
  config.device = devices_.allocate();
  vfs::Mount::Config mount;
  mount.file_system = fs::TmpFs::create(config, *memory_, *clock_);
  return vfs::Mount::create(std::move(mount));
}

Ref<vfs::Mount> Sandbox::sockfs_mount() {
  return vfs::AnonymousFileSystem::create("sockfs", devices_.allocate(), SOCKFS_MAGIC, *clock_);
}

MaybeFailure Sandbox::make_kernel() {
  policy_ = syscalls::build_policy(to_policy_rules(spec_.syscall_rules));
  violations_ = std::make_unique<policy::ViolationLog>(std::move(spec_.report_socket), *clock_);
  const BootLimits& limits = spec_.limits;
  limits_ = std::make_unique<policy::LimitWatch>(
      policy::CallLimits{limits.open_files, limits.file_size, limits.processes, limits.output},
      *memory_);
  for (const auto& [kind, quota] : tree_.quotas) limits_->add(kind, quota);
  if (spec_.trace_sink) {
    tracer_ = std::make_unique<trace::Tracer>(
        std::move(spec_.trace_sink), syscalls::groups_named(spec_.trace_group), [this](Errno why) {
          tell({.kind = ControlMessage::Kind::kTraceLost, .value = static_cast<int>(why)});
        });
  }
  if (spec_.statistics) times_ = std::make_unique<trace::CallTimes>();
  const Ref<vfs::Mount> sockfs = sockfs_mount();
  dispatcher_ = std::make_unique<syscalls::Dispatcher>(
      syscalls::Services{*special_files_, lock_waits_, special_files_->pipes(), memfd_mount(),
                         make_ref<net::UnixSystem>(sockfs), make_ref<net::InetSystem>(sockfs),
                         policy_, *violations_, limits_.get(), tracer_.get(), times_.get()});
  loader_ = std::make_unique<loader::ProgramLoader>(*vdso_);
  kernel::KernelConfig config{*spec_.platform, *memory_, *dispatcher_, *loader_,
                              *this,           *clock_,  tree_.mounts};
  if (spec_.limits.processes != 0) config.max_tasks = spec_.limits.processes;
  config.hostname = spec_.hostname;
  auto kernel = kernel::Kernel::create(std::move(config));
  if (!kernel.ok()) return cannot("create the kernel", kernel.error());
  kernel_ = std::move(*kernel);
  return mount_proc();
}

MaybeFailure Sandbox::mount_proc() {
  vfs::Mount::Config config;
  config.file_system = kernel::ProcFs::create(*kernel_, devices_.allocate());
  config.source = "proc";
  config.flags = vfs::MountFlags::kNoSuid | vfs::MountFlags::kNoDev | vfs::MountFlags::kNoExec;
  const auto mounted = tree_.mounts->attach(vfs::Mount::create(std::move(config)), tree_.proc);
  if (!mounted.ok()) return cannot("mount /proc", mounted.error());
  return {};
}

Result<Ref<vfs::FdTable>> Sandbox::adopt_streams(const Ref<Credentials>& cred) {
  auto table = make_ref<vfs::FdTable>();
  auto files =
      fs::HostFiles::create(devices_.allocate(), *spec_.streams.notifier, &limits_->meter());
  vfs::Mount::Config config;
  config.file_system = files;
  if (spec_.streams.terminal) {
    terminal_ = TRY(
        files->adopt_terminal(std::move(spec_.streams.terminal), spec_.streams.terminal_device));
  }
  const Ref<vfs::Mount> mount = vfs::Mount::create(std::move(config));
  for (int fd = 0; fd < 3; fd++) {
    const std::string& name = spec_.streams.names[static_cast<size_t>(fd)];
    if (name.empty()) continue;  // the caller had it closed
    auto file = TRY(files->adopt(mount, UniqueFd(fd), name, cred));
    TRY(table->install(std::move(file), vfs::FdTable::OnExec::kKeep, 3, fd));
  }
  return table;
}

// The capabilities of the guest's root: those of a container (capabilities(7)); over the machine it
// has none.
CapSet root_capabilities() {
  CapSet set;
  for (const int cap : {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FSETID, CAP_FOWNER, CAP_MKNOD, CAP_SETGID,
                        CAP_SETUID, CAP_SETFCAP, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT,
                        CAP_KILL, CAP_AUDIT_WRITE}) {
    set.bits |= uint64_t{1} << cap;
  }
  return set;
}

std::vector<std::pair<int, kernel::ResourceLimit>> process_limits(const BootLimits& limits) {
  std::vector<std::pair<int, kernel::ResourceLimit>> out;
  const auto add = [&](int resource, uint64_t value) {
    if (value != 0) out.emplace_back(resource, kernel::ResourceLimit{value, value});
  };
  add(RLIMIT_NOFILE, limits.open_files);
  add(RLIMIT_FSIZE, limits.file_size);
  add(RLIMIT_NPROC, limits.processes);
  return out;
}

// Creates the target. What execve says about the program is the target's affair, not a failure of
// ours, and goes over the control socket.
MaybeFailure Sandbox::make_process() {
  const Ref<Credentials> cred =
      Credentials::create(spec_.uid, spec_.gid, spec_.groups, root_capabilities());
  auto fds = adopt_streams(cred);
  if (!fds.ok()) return cannot("adopt the standard streams", fds.error());
  const vfs::Path root = tree_.mounts->root();
  auto context = make_ref<vfs::FsContext>(root, root, 022);
  vfs::Caller caller{*context, cred, *tree_.mounts, *special_files_};
  const auto cwd = vfs::walk(caller, root, spec_.cwd, {.must_be_directory = true});
  if (!cwd.ok()) return cannot("enter the working directory " + spec_.cwd, cwd.error());
  context->set_cwd(*cwd);

  kernel::ProcessSpec process;
  process.terminal = terminal_;
  process.program = {AT_FDCWD, spec_.program, 0, spec_.argv, spec_.env};
  process.fds = std::move(*fds);
  process.fs = std::move(context);
  process.cred = cred;
  process.limits = process_limits(spec_.limits);
  process.ignored = {spec_.ignored_signals};
  auto created = kernel_->create_process(std::move(process));
  if (created.ok()) {
    if (const auto started = kernel_->start(**created); !started.ok()) {
      return cannot("start the target", started.error());
    }
    process_ = std::move(*created);
    tell({.kind = ControlMessage::Kind::kStarted, .value = process_->tgid});
  } else {
    tell({.kind = ControlMessage::Kind::kExecFailed, .value = static_cast<int>(created.error())});
  }
  return {};
}

MaybeFailure Sandbox::set_up() {
  install_fault_handlers();
  spec_.streams.notifier->start();
  if (auto failure = make_memory()) return failure;
  if (auto failure = make_files()) return failure;
  if (auto failure = make_kernel()) return failure;
  return make_process();
}

void Sandbox::send_statistics() {
  const auto send = [this](std::string_view name, uint64_t value) {
    violations_->send_statistic({std::string(name), value});
  };
  for (size_t i = 0; i < trace::CallTimes::kClasses.size(); i++) {
    send(trace::CallTimes::kClasses[i].name, times_->of(i));
  }
  for (const platform::Counter& counter : spec_.platform->counters()) {
    send(counter.name, counter.value);
  }
  if (gofer_) send("round trips to the gofer", gofer_->client().round_trips());
}

// Sends what the report needs to know, then the exit status: the last message.
void Sandbox::finish(const kernel::Kernel::Exit& exit) {
  kernel_->shutdown();
  violations_->flush();
  for (const Tree::Overlay& overlay : tree_.overlays) {
    for (const auto& change : overlay.file_system->differences(kMaxChanges)) {
      using Op = fs::OverlayFs::Difference::Op;
      report::Change::Op op = report::Change::Op::kModified;
      if (change.op == Op::kAdded) op = report::Change::Op::kAdded;
      if (change.op == Op::kDeleted) op = report::Change::Op::kDeleted;
      const std::string path =
          change.path.empty() ? overlay.target : overlay.target + "/" + change.path;
      violations_->send_change({op, path});
    }
  }
  if (times_) send_statistics();
  if (gofer_ && gofer_->client().dead()) tell({.kind = ControlMessage::Kind::kGoferLost});
  tell({.kind = ControlMessage::Kind::kExited, .value = exit.status, .usage = exit.usage});
}

void Sandbox::obey(const ControlMessage& message) {
  using Kind = ControlMessage::Kind;
  switch (message.kind) {
    case Kind::kSignal:
      return kernel_->signal(*process_, message.value);
    case Kind::kTerminalSignal:
      return kernel_->terminal_signal(*process_, terminal_.get(), message.value);
    case Kind::kOrphaned:
      kernel_->disown(*process_);
      return kernel_->signal(*process_, SIGCONT);
    case Kind::kKill:
      return process_->exit_all(SIGKILL);
    default:
      return;  // the rest is not the monitor's to say
  }
}

// Together with the target's first process everything ends.
void Sandbox::watch_cpu_time() {
  const auto limit = static_cast<Nanos>(std::min<uint64_t>(spec_.limits.cpu_time_ns, INT64_MAX));
  if (limit == 0) return;
  cpu_limit_ = std::make_unique<CpuLimit>(*kernel_, limit, [this, limit] {
    const Ref<kernel::Task> task = process_->find_task(process_->tgid);
    violations_->record(task.get(),
                        {.kind = report::Kind::kLimitCpuTime,
                         .verdict = report::Verdict::kKilled,
                         .target = report::limit_text(std::chrono::nanoseconds(limit))});
    process_->exit_all(SIGKILL);
  });
}

// Returns when the control socket can be read; meanwhile looks after lost address spaces.
void Sandbox::wait_for_control() {
  pollfd control{spec_.control_socket.get(), POLLIN, 0};
  pollfd losses{spec_.losses.get(), POLLIN, 0};
  while (control.revents == 0) {
    std::array<pollfd, 2> waits{control, losses};
    if (poll(waits.data(), waits.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    control.revents = waits[0].revents;
    if (waits[1].revents == 0) continue;
    // Emptied before looking: what ends from now on makes it readable again.
    std::array<std::byte, 512> notices;
    (void)!read(losses.fd, notices.data(), notices.size());
    kernel_->end_lost_processes();
  }
}

void Sandbox::serve() {
  if (!process_) return;
  watch_cpu_time();
  const int control = spec_.control_socket.get();
  std::jthread waiter([this, control] {
    finish(kernel_->wait(*process_));
    shutdown(control, SHUT_RD);  // ends the loop below
  });
  for (;;) {
    wait_for_control();
    const auto message = receive_control(control);
    if (!message.ok()) break;
    obey(*message);
  }
  // The monitor is gone, or the target has ended: either way nothing may go on running.
  process_->exit_all(SIGKILL);
}

// Opens the terminal of our session if one of the streams is it. Our own open file, because
// O_NONBLOCK of the caller's is not ours to set.
void find_terminal(const std::array<bool, 3>& open, HostStreams& streams) {
  for (int fd = 0; fd < 3; fd++) {
    pid_t session = 0;
    struct stat status {};
    // ENOTTY unless it controls the caller's session (ioctl_tty(2)).
    if (!open[static_cast<size_t>(fd)] || ioctl(fd, TIOCGSID, &session) < 0) continue;
    if (fstat(fd, &status) < 0) continue;
    streams.terminal.reset(::open("/dev/tty", O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    streams.terminal_device = status.st_rdev;
    return;
  }
}

}  // namespace

HostStreams::HostStreams() = default;
HostStreams::HostStreams(HostStreams&&) noexcept = default;
HostStreams& HostStreams::operator=(HostStreams&&) noexcept = default;
HostStreams::~HostStreams() = default;

Result<HostStreams> prepare_streams(const std::array<bool, 3>& open) {
  HostStreams streams;
  streams.notifier = TRY(fs::FdNotifier::create());
  for (int fd = 0; fd < 3; fd++) {
    if (!open[static_cast<size_t>(fd)]) continue;
    std::array<char, 256> target{};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    const ssize_t n = readlink(link.c_str(), target.data(), target.size());
    streams.names[static_cast<size_t>(fd)] =
        n > 0 ? std::string(target.data(), static_cast<size_t>(n))
              : "host:[" + std::to_string(fd) + "]";
  }
  find_terminal(open, streams);
  return streams;
}

MaybeFailure check_syscall_rules(const std::vector<BootSyscallRule>& rules) {
  return syscalls::check_rules(to_policy_rules(rules));
}

MaybeFailure run(BootSpec spec) {
  Sandbox sandbox(std::move(spec));
  if (auto failure = sandbox.set_up()) return failure;
  sandbox.serve();
  return {};
}

}  // namespace boxrun::sentry
