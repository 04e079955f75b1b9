// Signals as data: sets, information, queues and actions. Who may send what to whom is in
// signals.h; what a signal does to a task is in signal_delivery.cpp; the frame a handler sees is
// in signal_frame.cpp.
#pragma once
#include <signal.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>

#include "sentry/kernel/fwd.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::kernel {

inline constexpr int kSignalCount = 64;  // valid signals are 1 to 64
inline constexpr int kFirstRealTime = 32;
constexpr bool valid_signal(int signo) { return signo >= 1 && signo <= kSignalCount; }

// The kernel's sigset_t: bit signo - 1.
struct SignalSet {
  uint64_t bits = 0;

  static constexpr SignalSet of(int signo) { return {uint64_t{1} << (signo - 1)}; }
  template <class... Rest>
  static constexpr SignalSet of(int signo, Rest... rest) {
    return {of(signo).bits | of(rest...).bits};
  }
  constexpr bool has(int signo) const { return (bits >> (signo - 1) & 1) != 0; }
  constexpr bool empty() const { return bits == 0; }
  constexpr int first() const { return std::countr_zero(bits) + 1; }  // not of an empty set
  constexpr SignalSet operator|(SignalSet o) const { return {bits | o.bits}; }
  constexpr SignalSet operator&(SignalSet o) const { return {bits & o.bits}; }
  constexpr SignalSet operator~() const { return {~bits}; }
  constexpr bool operator==(const SignalSet&) const = default;
};
inline constexpr SignalSet kUnblockable = SignalSet::of(SIGKILL, SIGSTOP);
inline constexpr SignalSet kStopSignals = SignalSet::of(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU);

// siginfo_t of x86-64: the host's is the guest's.
using SigInfo = siginfo_t;
SigInfo kernel_signal(int signo);                                // SI_KERNEL
SigInfo user_signal(int signo, int code, pid_t pid, uid_t uid);  // SI_USER, SI_TKILL
SigInfo fault_signal(int signo, int code, uint64_t addr);        // SIGSEGV and its like

// What the default action of a signal is (signal(7)).
enum class DefaultAction : uint8_t { kTerminate, kCore, kIgnore, kStop, kContinue };
DefaultAction default_action(int signo);

// struct kernel_sigaction of x86-64, as rt_sigaction(2) passes it.
struct SignalAction {
  uint64_t handler = 0;  // SIG_DFL, SIG_IGN or an address
  uint64_t flags = 0;
  uint64_t restorer = 0;
  SignalSet mask;
  bool is_default() const { return handler == 0; }
  bool is_ignore() const { return handler == 1; }
};
static_assert(sizeof(SignalAction) == 32);

// Who queued a signal and wants to hear of its delivery: a POSIX timer.
class SignalSource : public RefCounted {
 public:
  // The signal was taken off the queue; returns its si_overrun. Under the signal lock.
  virtual int delivered() = 0;
};

// Bounds what is queued in a whole sandbox. Linux counts per user (RLIMIT_SIGPENDING); one sandbox
// is one user.
using SignalQueueCount = std::atomic<uint64_t>;

// Signals that were generated and not yet delivered: of one task, or of a thread group. Guarded by
// the group's signal lock.
class PendingSignals {
 public:
  explicit PendingSignals(SignalQueueCount& queued) : queued_(queued) {}
  ~PendingSignals() { clear(); }
  PendingSignals(const PendingSignals&) = delete;
  PendingSignals& operator=(const PendingSignals&) = delete;

  SignalSet set() const { return set_; }
  // Queues `info`; a standard signal that is pending already is dropped, as on Linux. Over `limit`
  // queued entries the information is lost: EAGAIN for a real-time signal sent by sigqueue and its
  // like, otherwise the signal is pending without it.
  Result<void> add(const SigInfo& info, uint64_t limit);
  // A timer's signal: at most one entry per source. False when it is queued still (an overrun).
  bool add_from(const SigInfo& info, Ref<SignalSource> source);
  void remove_from(const SignalSource& source);
  // Takes the first signal in `wanted`: synchronous ones first, then by number, then by age.
  std::optional<SigInfo> take(SignalSet wanted);
  void discard(SignalSet signals);
  void clear() { discard(~SignalSet{}); }

 private:
  struct Queued {
    SigInfo info;
    Ref<SignalSource> source;
  };
  SignalQueueCount& queued_;
  SignalSet set_;
  std::list<Queued> queue_;  // in order of arrival; set_ may have bits without an entry
};

// The table of signal actions: shared by CLONE_SIGHAND, always shared within a thread group.
class SignalHandlers final : public RefCounted {
 public:
  SignalAction get(int signo) const EXCLUDES(mutex_);
  // Returns the previous action. The caller has validated `signo` and cleaned the mask.
  SignalAction set(int signo, const SignalAction& action) EXCLUDES(mutex_);
  // The action of a signal about to be delivered; applies SA_RESETHAND to the table.
  SignalAction take_for_delivery(int signo) EXCLUDES(mutex_);
  Ref<SignalHandlers> copy() const EXCLUDES(mutex_);
  // execve(2): handlers become SIG_DFL, ignored signals stay ignored.
  void reset_for_exec() EXCLUDES(mutex_);
  // CLONE_CLEAR_SIGHAND is the same rule as execve.
  bool ignored(int signo) const EXCLUDES(mutex_);  // SIG_IGN, or SIG_DFL with nothing to do
  SignalSet caught() const EXCLUDES(mutex_);       // for /proc/PID/status
  SignalSet explicitly_ignored() const EXCLUDES(mutex_);

 private:
  using Actions = std::array<SignalAction, kSignalCount + 1>;
  void adopt(const Actions& actions);
  mutable Mutex mutex_{Rank::kSignalHandlers};
  Actions actions_ GUARDED_BY(mutex_){};
};

inline constexpr uint32_t kAutoDisarm = 1u << 31;  // SS_AUTODISARM

// sigaltstack(2), as the kernel keeps it.
struct AltStack {
  uint64_t base = 0;
  uint64_t size = 0;
  uint32_t flags =
      SS_DISABLE;  // as given: 0, SS_ONSTACK, SS_DISABLE, with or without SS_AUTODISARM

  bool contains(uint64_t sp) const { return sp > base && sp - base <= size; }
  // In use at `sp`. Never with SS_AUTODISARM, which disarms on entry to a handler.
  bool active(uint64_t sp) const;
  // What sigaltstack reports: SS_DISABLE, SS_ONSTACK or 0, and SS_AUTODISARM.
  uint32_t reported_flags(uint64_t sp) const;
};

}  // namespace boxrun::kernel
