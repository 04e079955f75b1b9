#include "sentry/policy/violation_log.h"

#include <sys/socket.h>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"
#include "src/report/wire.h"

namespace boxrun::policy {
namespace {

constexpr std::chrono::milliseconds kFlushInterval{200};

// The calling process first, then its ancestors up to the first process of the sandbox.
std::vector<report::Process> ancestry(kernel::Task& task) {
  std::vector<report::Process> chain;
  std::vector<Ref<kernel::Task>> leaders;
  chain.push_back({task.tgid(), task.comm()});
  {
    kernel::TreeLock tree(task.kernel().tree());
    const kernel::ThreadGroup* init = &task.kernel().init();
    for (auto* group = task.group().links(tree).parent;
         group != nullptr && group != init && leaders.size() < report::kMaxChain;
         group = group->links(tree).parent) {
      leaders.emplace_back(group->links(tree).leader);
    }
  }
  for (const auto& leader : leaders) {
    if (leader) chain.push_back({leader->tgid(), leader->comm()});
  }
  return chain;
}

}  // namespace

void ViolationLog::record(kernel::Task* task, Violation violation) {
  report::Record record;
  record.kind = violation.kind;
  record.severity = report::default_severity(violation.kind);
  record.verdict = violation.verdict;
  record.error = violation.error;
  record.target = std::move(violation.target);
  record.detail = std::move(violation.detail);
  record.grant = std::move(violation.grant);
  record.syscall = std::move(violation.syscall);
  record.call = std::move(violation.call);
  record.rule = std::move(violation.rule);
  Key key{record.kind, record.verdict, record.rule,
          record.target.empty() ? record.syscall : record.target};

  {
    Lock lock(mutex_);
    total_++;
    if (const auto known = seen_.find(key); known != seen_.end()) {
      known->second.count++;
      const auto now = std::chrono::steady_clock::now();
      if (now - last_flush_ > kFlushInterval) {
        last_flush_ = now;
        flush_locked();
      }
      return;
    }
    if (seen_.size() == kMaxRecords) {
      unrecorded_++;
      return;
    }
  }

  // The ancestors are looked up without our lock: the tree lock comes before it.
  if (task != nullptr) {
    std::vector<report::Process> chain = ancestry(*task);
    record.process = std::move(chain.front());
    chain.erase(chain.begin());
    record.chain = std::move(chain);
  }
  record.first_time = clock_.realtime();

  Lock lock(mutex_);
  const auto id = static_cast<uint32_t>(seen_.size());
  const auto [at, is_new] = seen_.emplace(std::move(key), Seen{id, 1, 1});
  if (!is_new) {
    at->second.count++;  // another task was faster
    return;
  }
  send_locked(report::encode(report::Sighting{id, std::move(record)}));
}

void ViolationLog::flush() {
  Lock lock(mutex_);
  flush_locked();
}

void ViolationLog::send_change(report::Change change) {
  Lock lock(mutex_);
  send_locked(report::encode(std::move(change)));
}

void ViolationLog::send_statistic(report::Statistic statistic) {
  Lock lock(mutex_);
  send_locked(report::encode(std::move(statistic)));
}

uint64_t ViolationLog::total() const {
  Lock lock(mutex_);
  return total_;
}

void ViolationLog::flush_locked() {
  for (auto& [key, seen] : seen_) {
    if (seen.sent == seen.count) continue;
    send_locked(report::encode(report::CountUpdate{seen.id, seen.count}));
    seen.sent = seen.count;
  }
  if (unrecorded_ != unrecorded_sent_) {
    send_locked(report::encode(report::Unrecorded{unrecorded_}));
    unrecorded_sent_ = unrecorded_;
  }
}

// The monitor reads all the time; when it is gone the whole sandbox is about to end, so an error
// here has nobody left to be told.
void ViolationLog::send_locked(const std::vector<std::byte>& packet) {
  if (!socket_) return;
  (void)send(socket_.get(), packet.data(), packet.size(), MSG_NOSIGNAL);
}

}  // namespace boxrun::policy
