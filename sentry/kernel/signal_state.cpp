#include "sentry/kernel/signal_state.h"

#include <algorithm>
#include <utility>

namespace boxrun::kernel {
namespace {

// Delivered before all others, because they describe the instruction that was interrupted
// (kernel/signal.c: SYNCHRONOUS_MASK).
constexpr SignalSet kSynchronous = SignalSet::of(SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS);
constexpr SignalSet kIgnoredByDefault = SignalSet::of(SIGCONT, SIGCHLD, SIGWINCH, SIGURG);
constexpr SignalSet kCoreByDefault = SignalSet::of(SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE,
                                                   SIGSEGV, SIGBUS, SIGSYS, SIGXCPU, SIGXFSZ);

}  // namespace

SigInfo kernel_signal(int signo) {
  SigInfo info{};
  info.si_signo = signo;
  info.si_code = SI_KERNEL;
  return info;
}

SigInfo user_signal(int signo, int code, pid_t pid, uid_t uid) {
  SigInfo info{};
  info.si_signo = signo;
  info.si_code = code;
  info.si_pid = pid;
  info.si_uid = uid;
  return info;
}

SigInfo fault_signal(int signo, int code, uint64_t addr) {
  SigInfo info{};
  info.si_signo = signo;
  info.si_code = code;
  info.si_addr = reinterpret_cast<void*>(addr);
  return info;
}

DefaultAction default_action(int signo) {
  if (signo == SIGCONT) return DefaultAction::kContinue;
  if (signo >= kFirstRealTime) return DefaultAction::kTerminate;
  if (kIgnoredByDefault.has(signo)) return DefaultAction::kIgnore;
  if (kStopSignals.has(signo)) return DefaultAction::kStop;
  return kCoreByDefault.has(signo) ? DefaultAction::kCore : DefaultAction::kTerminate;
}

Result<void> PendingSignals::add(const SigInfo& info, uint64_t limit) {
  const int signo = info.si_signo;
  const bool real_time = signo >= kFirstRealTime;
  if (!real_time && set_.has(signo)) return {};
  // Linux lets what the kernel itself sends go beyond the limit (override_rlimit).
  const bool by_kernel = !real_time && info.si_code >= 0;
  if (queued_.fetch_add(1, std::memory_order_relaxed) < limit || by_kernel) {
    queue_.push_back({info, nullptr});
  } else {
    queued_.fetch_sub(1, std::memory_order_relaxed);
    if (real_time && info.si_code != SI_USER) return Errno::kAgain;
  }
  set_ = set_ | SignalSet::of(signo);
  return {};
}

bool PendingSignals::add_from(const SigInfo& info, Ref<SignalSource> source) {
  for (const Queued& queued : queue_) {
    if (queued.source == source) return false;
  }
  queued_.fetch_add(1, std::memory_order_relaxed);
  queue_.push_back({info, std::move(source)});
  set_ = set_ | SignalSet::of(info.si_signo);
  return true;
}

void PendingSignals::remove_from(const SignalSource& source) {
  const auto at = std::find_if(queue_.begin(), queue_.end(),
                               [&](const Queued& q) { return q.source.get() == &source; });
  if (at == queue_.end()) return;
  const int signo = at->info.si_signo;
  queue_.erase(at);
  queued_.fetch_sub(1, std::memory_order_relaxed);
  const bool more = std::any_of(queue_.begin(), queue_.end(),
                                [&](const Queued& q) { return q.info.si_signo == signo; });
  if (!more) set_ = set_ & ~SignalSet::of(signo);
}

std::optional<SigInfo> PendingSignals::take(SignalSet wanted) {
  const SignalSet candidates = set_ & wanted;
  if (candidates.empty()) return std::nullopt;
  const SignalSet synchronous = candidates & kSynchronous;
  const int signo = (synchronous.empty() ? candidates : synchronous).first();
  const auto matches = [&](const Queued& q) { return q.info.si_signo == signo; };
  const auto at = std::find_if(queue_.begin(), queue_.end(), matches);
  SigInfo info = user_signal(signo, SI_USER, 0, 0);  // what Linux reports when the entry was lost
  bool more = false;
  if (at != queue_.end()) {
    info = at->info;
    if (at->source) info.si_overrun = at->source->delivered();
    const auto after = queue_.erase(at);
    queued_.fetch_sub(1, std::memory_order_relaxed);
    more = std::any_of(after, queue_.end(), matches);
  }
  if (!more) set_ = set_ & ~SignalSet::of(signo);
  return info;
}

void PendingSignals::discard(SignalSet signals) {
  if ((set_ & signals).empty()) return;
  const size_t gone =
      std::erase_if(queue_, [&](const Queued& q) { return signals.has(q.info.si_signo); });
  queued_.fetch_sub(gone, std::memory_order_relaxed);
  set_ = set_ & ~signals;
}

SignalAction SignalHandlers::get(int signo) const {
  Lock lock(mutex_);
  return actions_[signo];
}

SignalAction SignalHandlers::set(int signo, const SignalAction& action) {
  Lock lock(mutex_);
  return std::exchange(actions_[signo], action);
}

SignalAction SignalHandlers::take_for_delivery(int signo) {
  Lock lock(mutex_);
  const SignalAction action = actions_[signo];
  // Only the handler goes back; flags and mask stay (kernel/signal.c: get_signal).
  if (!action.is_ignore() && !action.is_default() && (action.flags & SA_RESETHAND) != 0) {
    actions_[signo].handler = 0;
  }
  return action;
}

Ref<SignalHandlers> SignalHandlers::copy() const {
  auto other = make_ref<SignalHandlers>();
  Lock lock(mutex_);
  other->adopt(actions_);
  return other;
}

void SignalHandlers::adopt(const Actions& actions) NO_THREAD_SAFETY_ANALYSIS {
  actions_ = actions;  // nobody else knows this object yet
}

void SignalHandlers::reset_for_exec() {
  Lock lock(mutex_);
  for (SignalAction& action : actions_) {
    action = {
        .handler = action.is_ignore() ? action.handler : 0, .flags = 0, .restorer = 0, .mask = {}};
  }
}

bool SignalHandlers::ignored(int signo) const {
  Lock lock(mutex_);
  const SignalAction& action = actions_[signo];
  return action.is_ignore() || (action.is_default() && kIgnoredByDefault.has(signo));
}

SignalSet SignalHandlers::caught() const {
  Lock lock(mutex_);
  SignalSet set;
  for (int signo = 1; signo <= kSignalCount; signo++) {
    if (actions_[signo].handler > 1) set = set | SignalSet::of(signo);
  }
  return set;
}

SignalSet SignalHandlers::explicitly_ignored() const {
  Lock lock(mutex_);
  SignalSet set;
  for (int signo = 1; signo <= kSignalCount; signo++) {
    if (actions_[signo].is_ignore()) set = set | SignalSet::of(signo);
  }
  return set;
}

bool AltStack::active(uint64_t sp) const { return (flags & kAutoDisarm) == 0 && contains(sp); }

uint32_t AltStack::reported_flags(uint64_t sp) const {
  const uint32_t state = size == 0 ? uint32_t{SS_DISABLE} : active(sp) ? uint32_t{SS_ONSTACK} : 0;
  return state | (flags & kAutoDisarm);
}

}  // namespace boxrun::kernel
