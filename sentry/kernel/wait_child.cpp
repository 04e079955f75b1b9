#include "sentry/kernel/wait_child.h"

#include <algorithm>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/life.h"
#include "sentry/kernel/task.h"

namespace boxrun::kernel {
namespace {

bool has(int options, int option) { return (options & option) != 0; }

bool selected(TreeLock& tree, Task& task, ThreadGroup& child, const WaitSelector& selector,
              int options) {
  auto& links = child.links(tree);
  switch (selector.kind) {
    case WaitSelector::Kind::kAny:
      break;
    case WaitSelector::Kind::kProcess:
      if (child.tgid != selector.id) return false;
      break;
    case WaitSelector::Kind::kProcessGroup: {
      const pid_t id = selector.id != 0 ? selector.id : task.group().links(tree).process_group->id;
      if (!links.process_group || links.process_group->id != id) return false;
      break;
    }
  }
  if (has(options, __WNOTHREAD) && links.parent_task != &task) return false;
  // "Clone" children are those that announce themselves otherwise than by SIGCHLD (wait(2)).
  return has(options, __WALL) || (links.exit_signal != SIGCHLD) == has(options, __WCLONE);
}

WaitResult result_of(TreeLock& tree, ThreadGroup& child) {
  WaitResult result;
  result.pid = child.tgid;
  result.uid = child.links(tree).leader->cred_ref()->ruid;
  Accounting used = child.accounting(tree);
  used.add(child.links(tree).children_usage);
  result.usage = used.to_rusage();
  return result;
}

WaitResult take_zombie(TreeLock& tree, Task& task, ThreadGroup& child, int options) {
  WaitResult result = result_of(tree, child);
  const int status = child.links(tree).exit_status;
  result.wait_status = status;
  result.code = WIFEXITED(status) ? CLD_EXITED : CLD_KILLED;
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
  if (!has(options, WNOWAIT)) {
    Accounting used = child.accounting(tree);
    used.add(child.links(tree).children_usage);
    task.group().links(tree).children_usage.add(used);
    reap(tree, child);
  }
  return result;
}

// A stop or continuation that was not reported yet, if it is asked for.
std::optional<WaitResult> take_change(TreeLock& tree, ThreadGroup& child, int options) {
  int stop = 0;
  bool continued = false;
  {
    SignalLock lock(child);
    auto& signals = child.signals(lock);
    if (has(options, WSTOPPED)) stop = signals.report_stop;
    if (stop == 0 && has(options, WCONTINUED)) continued = signals.report_continue;
    if (stop != 0 && !has(options, WNOWAIT)) signals.report_stop = 0;
    if (continued && !has(options, WNOWAIT)) signals.report_continue = false;
  }
  if (stop == 0 && !continued) return std::nullopt;
  WaitResult result = result_of(tree, child);
  result.code = continued ? CLD_CONTINUED : CLD_STOPPED;
  result.status = continued ? SIGCONT : stop;
  result.wait_status = continued ? 0xffff : W_STOPCODE(stop);
  return result;
}

// One look at all children: kAgain when some of them may have something to report later.
Result<WaitResult> look(Task& task, const WaitSelector& selector, int options) {
  TreeLock tree(task.kernel().tree());
  bool any = false;
  for (const Ref<ThreadGroup>& child : task.group().links(tree).children) {
    if (!selected(tree, task, *child, selector, options)) continue;
    any = true;
    if (child->links(tree).state == ThreadGroup::State::kZombie) {
      if (!has(options, WEXITED)) continue;
      const Ref<ThreadGroup> keep = child;
      return take_zombie(tree, task, *keep, options);
    }
    if (const auto change = take_change(tree, *child, options)) return *change;
  }
  return any ? Errno::kAgain : Errno::kChild;
}

}  // namespace

Result<WaitResult> wait_child(Task& task, WaitSelector selector, int options) {
  if (has(options, WNOHANG)) {
    Result<WaitResult> result = look(task, selector, options);
    if (result.error() == Errno::kAgain) return WaitResult{};
    return result;
  }
  return task.block_on(task.group().child_events(), kReadable, {},
                       [&] { return look(task, selector, options); });
}

}  // namespace boxrun::kernel
