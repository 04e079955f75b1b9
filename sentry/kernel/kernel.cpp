#include "sentry/kernel/kernel.h"

#include <climits>
#include <utility>

#include "sentry/kernel/job_control.h"
#include "sentry/kernel/life.h"
#include "sentry/kernel/signals.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/vfs/anonymous.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/fs_context.h"
#include "sentry/vfs/mount.h"

namespace boxrun::kernel {
namespace {

constexpr pid_t kInitPid = 1;
constexpr uint64_t kAnonymousDevice = 0x10;       // what stat shows as st_dev
constexpr uint64_t kAnonymousMagic = 0x09041934;  // ANON_INODE_FS_MAGIC

}  // namespace

Kernel::Kernel(KernelConfig config)
    : config_(std::move(config)),
      anonymous_files_(vfs::AnonymousFileSystem::create("anon_inodefs", kAnonymousDevice,
                                                        kAnonymousMagic, config_.clock)),
      pids_(make_ref<PidNamespace>()),
      hostname_(config_.hostname) {}

Result<std::unique_ptr<Kernel>> Kernel::create(KernelConfig config) {
  std::unique_ptr<Kernel> kernel(new Kernel(std::move(config)));
  kernel->create_init();
  return kernel;
}

// Init is a place in the tree, not a thread: parent of last resort, leader of the first session,
// deaf to signals. Its zombies are reaped as they appear.
void Kernel::create_init() {
  init_ = make_ref<ThreadGroup>(*this, kInitPid, make_ref<SignalHandlers>());
  auto cred = Credentials::create(0, 0, {}, CapSet::all());
  auto leader = make_ref<Task>(*this, init_, kInitPid,
                               TaskResources{nullptr, nullptr, nullptr, std::move(cred)});
  leader->set_comm("init");
  TreeLock tree(tree_);
  auto& links = init_->links(tree);
  links.leader = leader.get();
  pids_->set_task(tree, kInitPid, leader.get());
  pids_->set_group(tree, kInitPid, init_.get());
  links.tasks.push_back(std::move(leader));
  auto session = make_ref<Session>(kInitPid);
  session->links(tree).leader = init_.get();
  join_process_group(tree, *init_, make_ref<ProcessGroup>(kInitPid, std::move(session)));
  SignalLock lock(*init_);
  init_->signals(lock).immune = true;
}

Kernel::~Kernel() {
  shutdown();
  TreeLock tree(tree_);
  leave_process_group(tree, *init_);
  init_->links(tree).tasks.clear();
}

Result<Ref<ThreadGroup>> Kernel::create_process(ProcessSpec spec) {
  pid_t pid = 0;
  {
    TreeLock tree(tree_);
    pid = TRY(pids_->allocate(tree));
  }
  auto handlers = make_ref<SignalHandlers>();
  for (int signo = 1; signo <= kSignalCount; signo++) {
    if ((spec.ignored & ~kUnblockable).has(signo)) handlers->set(signo, {.handler = 1});
  }
  auto process = make_ref<ThreadGroup>(*this, pid, std::move(handlers));
  for (const auto& [resource, limit] : spec.limits) {
    (void)process->limits().set(resource, limit, true);
  }
  auto task =
      make_ref<Task>(*this, process, pid, TaskResources{nullptr, spec.fds, spec.fs, spec.cred});
  Result<ExecImage> image = config_.loader.load(*task, spec.program);
  if (!image.ok()) {
    TreeLock tree(tree_);
    pids_->release(tree, pid);
    return image.error();
  }
  task->install(std::move(image).take());
  TreeLock tree(tree_);
  auto& links = process->links(tree);
  links.parent = init_.get();
  links.parent_task = init_->links(tree).leader;
  links.leader = task.get();
  links.exit_signal = SIGCHLD;
  links.from_outside = true;
  init_->links(tree).children.push_back(process);
  pids_->set_group(tree, pid, process.get());
  const Ref<Session>& session = init_->links(tree).process_group->session;
  join_process_group(tree, *process, make_ref<ProcessGroup>(pid, session));
  if (spec.terminal) {
    session->links(tree).terminal = std::move(spec.terminal);
    session->links(tree).foreground = links.process_group;
  }
  enter_task(tree, *task);
  return process;
}

Result<void> Kernel::start(ThreadGroup& process) {
  Ref<Task> task;
  {
    TreeLock tree(tree_);
    task = Ref<Task>(process.links(tree).leader);
  }
  process.timers().watch_cpu_limit();
  TRY(task->start());
  task->go(Task::Go::kRun);
  return {};
}

Kernel::Exit Kernel::wait(ThreadGroup& process) {
  Sleeper sleeper;
  WaitQueue::Entry entry(process.exit_events(), kReadable, sleeper);
  int status = 0;
  while (!process.exited(status)) (void)sleeper.sleep({});
  TreeLock tree(tree_);
  Accounting used = process.accounting(tree);
  used.add(process.links(tree).children_usage);
  return {status, used.to_rusage()};
}

void Kernel::signal(ThreadGroup& process, int signo) {
  TreeLock tree(tree_);
  // SI_KERNEL, as from a terminal: the sender is nobody inside.
  if (const Ref<ProcessGroup> group = process.links(tree).process_group) {
    send_to_process_group(tree, *group, kernel_signal(signo));
  }
}

pid_t Kernel::process_group_of(ThreadGroup& process) {
  TreeLock tree(tree_);
  const Ref<ProcessGroup>& group = process.links(tree).process_group;
  return group ? group->id : 0;
}

void Kernel::terminal_signal(ThreadGroup& process, vfs::Terminal* terminal, int signo) {
  const pid_t foreground = terminal == nullptr ? 0 : signal_foreground(*this, *terminal, signo);
  // A terminal that is lost ends the session's leader, which is outside, and that its jobs.
  if (foreground == 0 || (signo == SIGHUP && foreground != process_group_of(process))) {
    signal(process, signo);
  }
}

void Kernel::disown(ThreadGroup& process) {
  TreeLock tree(tree_);
  process.links(tree).disowned = true;
}

void Kernel::end_lost_processes() {
  std::vector<Ref<Task>> tasks;
  {
    TreeLock tree(tree_);
    for (ThreadGroup* group : pids_->groups(tree)) {
      const auto& of_group = group->links(tree).tasks;
      tasks.insert(tasks.end(), of_group.begin(), of_group.end());
    }
  }
  const ThreadGroup* seen = nullptr;
  for (const Ref<Task>& task : tasks) {
    if (&task->group() == seen) continue;
    const Ref<mm::MemoryManager> mm = task->resources().mm;
    if (!mm) continue;  // it has exited; another of its process may not have
    seen = &task->group();
    if (!mm->address_space().apply({}).ok()) task->end_lost();
  }
}

void Kernel::shutdown() {
  {
    Lock lock(threads_mutex_);
    stopping_ = true;
  }
  {
    TreeLock tree(tree_);
    for (ThreadGroup* group : pids_->groups(tree)) {
      if (group != init_.get()) group->exit_all(SIGKILL);
    }
  }
  Lock lock(threads_mutex_);
  while (threads_ != 0) threads_changed_.wait(threads_mutex_);
}

Ref<Task> Kernel::find_task(pid_t tid) {
  TreeLock tree(tree_);
  return Ref<Task>(pids_->find_task(tree, tid));
}

Ref<ThreadGroup> Kernel::find_group(pid_t tgid) {
  TreeLock tree(tree_);
  return Ref<ThreadGroup>(pids_->find_group(tree, tgid));
}

std::string Kernel::hostname() const {
  Lock lock(names_mutex_);
  return hostname_;
}

void Kernel::set_hostname(std::string name) {
  Lock lock(names_mutex_);
  hostname_ = std::move(name);
}

std::string Kernel::domainname() const {
  Lock lock(names_mutex_);
  return domainname_;
}

void Kernel::set_domainname(std::string name) {
  Lock lock(names_mutex_);
  domainname_ = std::move(name);
}

Nanos Kernel::cpu_time() {
  TreeLock tree(tree_);
  Nanos sum = cpu_of_exited_.load(std::memory_order_relaxed);
  for (ThreadGroup* group : pids_->groups(tree)) {
    const CpuTimes running = group->running_cpu_times();
    sum += running.user + running.system;
  }
  return sum;
}

Result<void> Kernel::thread_starting() {
  Lock lock(threads_mutex_);
  if (stopping_) return Errno::kAgain;
  threads_++;
  return {};
}

void Kernel::thread_ended() {
  Lock lock(threads_mutex_);
  threads_--;
  threads_changed_.notify_all();
}

}  // namespace boxrun::kernel
