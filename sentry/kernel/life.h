// Entering and leaving the task tree, between the files that implement clone, exit and wait.
#pragma once
#include "sentry/kernel/fwd.h"
#include "sentry/kernel/task_tree.h"

namespace boxrun::kernel {

// A task comes to life: entered into its process, its number taken. The process is in the tree.
void enter_task(TreeLock& tree, Task& task);
// A process has become a zombie, or a zombie has a new parent: signal and wake the parent, or reap
// at once when it wants no zombies.
void announce_zombie(TreeLock& tree, ThreadGroup& process);
// Takes a zombie out of the tree and frees its number. What it used was added up by the caller.
void reap(TreeLock& tree, ThreadGroup& process);

}  // namespace boxrun::kernel
