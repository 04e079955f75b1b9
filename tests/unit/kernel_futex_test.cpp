// Futexes, robust lists, timers, pidfds, signalfds.
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <atomic>
#include <random>

#include "sentry/kernel/clone.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/signalfd.h"
#include "src/base/bytes.h"
#include "tests/unit/kernel_harness.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::kernel;
using namespace boxrun::test;

namespace {

constexpr uint32_t kAny = FutexTable::kAnyBit;

int64_t futex_wait(FakeGuest& guest, uint64_t addr, uint32_t value, uint32_t bitset = kAny,
                   Nanos timeout = 0) {
  return call(guest, [=](Task& task) -> Result<uint64_t> {
    Deadline deadline;
    if (timeout != 0) {
      deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout);
    }
    TRY(task.kernel().futexes().wait(task, addr, false, value, bitset, deadline));
    return 0;
  });
}

int64_t futex_wake(FakeGuest& guest, uint64_t addr, uint32_t count, uint32_t bitset = kAny) {
  return call(guest, [=](Task& task) -> Result<uint64_t> {
    return TRY(task.kernel().futexes().wake(task.mm(), addr, false, count, bitset));
  });
}

constexpr uint64_t kWord = kData + 0x100;
constexpr uint64_t kOther = kData + 0x200;

}  // namespace

TEST_CASE("a futex wait compares, times out, and checks its arguments") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    guest.write<uint32_t>(kWord, 1);
    if (futex_wait(guest, kWord, 0) != -EAGAIN) return 1;
    if (futex_wait(guest, kWord, 1, kAny, 1'000'000) != -ETIMEDOUT) return 2;
    if (futex_wait(guest, kWord + 2, 1) != -EINVAL) return 3;
    if (futex_wait(guest, kWord, 1, 0) != -EINVAL) return 4;
    if (futex_wait(guest, 0x5000000, 1) != -EFAULT) return 5;
    if (futex_wake(guest, kWord, 1) != 0) return 6;
    return 0;
  });
  CHECK(status == 0);
}

TEST_CASE("wake respects count and bitset; requeue moves without waking") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    std::atomic<int> woken{0};
    for (uint32_t i = 0; i < 4; i++) {
      spawn_thread(
          guest,
          [&, i](FakeGuest& thread) {
            if (futex_wait(thread, kWord, 0, 1u << i) == 0) woken++;
            pause(thread);
          },
          kData + 4 * i);
    }
    const auto asleep = [&] {
      return call(guest, [](Task& task) -> Result<uint64_t> {
        uint64_t count = 0;
        for (pid_t tid = 3; tid <= 6; tid++) {
          const Ref<Task> thread = task.kernel().find_task(tid);
          if (thread && thread->state_letter() == 'S') count++;
        }
        return count;
      });
    };
    while (asleep() != 4) guest.syscall(SYS_getpid);
    if (futex_wake(guest, kWord, 9, 1u << 2) != 1) return 1;
    const int64_t moved = call(guest, [](Task& task) -> Result<uint64_t> {
      const uint32_t expected = 0;
      return TRY(task.kernel().futexes().requeue(task.mm(), kWord, kOther, false, 1, 9, &expected));
    });
    if (moved != 3) return 2;
    if (futex_wake(guest, kWord, 9) != 0) return 3;
    while (woken != 2) guest.syscall(SYS_getpid);
    if (futex_wake(guest, kOther, 9) != 2) return 4;
    while (woken != 4) guest.syscall(SYS_getpid);
    const int64_t changed = call(guest, [](Task& task) -> Result<uint64_t> {
      const uint32_t expected = 5;
      return TRY(task.kernel().futexes().requeue(task.mm(), kWord, kOther, false, 1, 1, &expected));
    });
    return changed == -EAGAIN ? 0 : 5;
  });
  CHECK(status == 0);
}

TEST_CASE("wake_op changes the word and compares the old value") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    guest.write<uint32_t>(kOther, 10);
    // FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 10)
    const uint32_t op = 1u << 28 | 0u << 24 | 5u << 12 | 10u;
    const int64_t none = call(guest, [=](Task& task) -> Result<uint64_t> {
      return TRY(task.kernel().futexes().wake_op(task.mm(), kWord, kOther, false, 1, 1, op));
    });
    if (none != 0 || guest.read<uint32_t>(kOther) != 15) return 1;
    const int64_t unknown = call(guest, [](Task& task) -> Result<uint64_t> {
      return TRY(task.kernel().futexes().wake_op(task.mm(), kWord, kOther, false, 1, 1, 7u << 28));
    });
    return unknown == -ENOSYS ? 0 : 2;
  });
  CHECK(status == 0);
}

TEST_CASE("no wake-up is missed between many threads that hand over a word") {
  TestKernel k;
  constexpr uint32_t kRounds = 300;
  constexpr uint32_t kThreads = 4;
  const int status = k.run([](FakeGuest& guest) {
    for (uint32_t me = 1; me < kThreads; me++) {
      spawn_thread(
          guest,
          [me](FakeGuest& thread) {
            for (;;) {
              const uint32_t turn = thread.load_u32(kWord);
              if (turn % kThreads != me) {
                futex_wait(thread, kWord, turn);
                continue;
              }
              thread.store_u32(kWord, turn + 1);
              futex_wake(thread, kWord, kThreads);
            }
          },
          kData + 4 * me);
    }
    for (;;) {
      const uint32_t turn = guest.load_u32(kWord);
      if (turn >= kRounds) return 0;
      if (turn % kThreads != 0) {
        futex_wait(guest, kWord, turn);
        continue;
      }
      guest.store_u32(kWord, turn + 1);
      futex_wake(guest, kWord, kThreads);
    }
  });
  CHECK(status == 0);
}

TEST_CASE("a dying owner of robust mutexes marks them and wakes a waiter") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    // One mutex in the list (its word 16 bytes behind its link), one pending.
    constexpr uint64_t kHead = kData + 0x1000, kLink = kData + 0x1100, kPending = kData + 0x1200;
    std::atomic<bool> died{false};
    guest.write<uint64_t>(kHead, kLink);
    guest.write<int64_t>(kHead + 8, 16);
    guest.write<uint64_t>(kHead + 16, kPending);
    guest.write<uint64_t>(kLink, kHead);
    spawn_thread(
        guest,
        [&](FakeGuest& thread) {
          const auto tid = static_cast<uint32_t>(thread.syscall(SYS_gettid));
          thread.write<uint32_t>(kLink + 16, tid | 0x80000000);
          thread.write<uint32_t>(kPending + 16, tid);
          call(thread, [](Task& task) -> Result<uint64_t> {
            task.robust_list = kHead;
            return 0;
          });
          died = true;
          thread.syscall(SYS_exit, 0);
        },
        kData + 8);
    // CLEARTID zeroes and wakes when all of the rest has been done.
    for (uint32_t tid; (tid = guest.load_u32(kData + 8)) != 0 || !died;) {
      call(guest, [=](Task& task) -> Result<uint64_t> {
        TRY(task.kernel().futexes().wait(task, kData + 8, true, tid, kAny, {}));
        return 0;
      });
    }
    if (guest.read<uint32_t>(kLink + 16) != 0xc0000000) return 1;
    if (guest.read<uint32_t>(kPending + 16) != 0x40000000) return 2;
    return 0;
  });
  CHECK(status == 0);
}

TEST_CASE("interval timers and POSIX timers send their signals and count overruns") {
  TestKernel k;
  const int status = k.run([&](FakeGuest& guest) {
    std::atomic<int> alarms{0};
    set_handler(guest, k, SIGALRM, [&](FakeGuest&) { alarms++; });
    call(guest, [](Task& task) -> Result<uint64_t> {
      TRY(task.group().timers().set_interval(ITIMER_REAL, {2'000'000, 2'000'000}));
      return 0;
    });
    while (alarms < 3) guest.spin();
    int id = -1;
    int overrun = -1;
    siginfo_t info{};
    const int64_t rest = call(guest, [&](Task& task) -> Result<uint64_t> {
      ProcessTimers& timers = task.group().timers();
      TRY(timers.set_interval(ITIMER_REAL, {}));
      task.set_signal_mask(SignalSet::of(SIGRTMAX, SIGALRM));
      PosixTimer::Target target;
      target.signo = SIGRTMAX;
      target.value.sival_int = 7;
      id = TRY(timers.create(task, CLOCK_MONOTONIC, target));
      TRY(timers.set(id, {1'000'000, 1'000'000}, false));
      TRY(task.sleep_until(std::chrono::steady_clock::now() + std::chrono::milliseconds(20)));
      info = TRY(task.sigtimedwait(SignalSet::of(SIGRTMAX), {}));
      overrun = TRY(timers.overrun(id));
      TRY(timers.remove(id));
      if (timers.overrun(id).error() != Errno::kInval) return Errno::kIo;
      return 0;
    });
    if (rest != 0) return 1;
    if (info.si_code != SI_TIMER || info.si_value.sival_int != 7 || info.si_timerid != id) return 2;
    return overrun >= 5 && overrun == info.si_overrun ? 0 : 3;
  });
  CHECK(status == 0);
}

TEST_CASE("RLIMIT_CPU: SIGXCPU at the soft limit") {
  TestKernel k;
  const int status = k.run([&](FakeGuest& guest) {
    call(guest, [](Task& task) -> Result<uint64_t> {
      TRY(task.group().limits().set(RLIMIT_CPU, {0, 100}, true));
      task.group().timers().watch_cpu_limit();
      return 0;
    });
    for (;;) guest.spin();
    return 0;
  });
  CHECK(WTERMSIG(status) == SIGXCPU);
}

TEST_CASE("a pidfd becomes readable when its process ends, and outlives its number") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    const int64_t pid = fork(guest, [](FakeGuest& child) { child.syscall(SYS_exit_group, 0); });
    Ref<vfs::FileDescription> file;
    call(guest, [&](Task& task) -> Result<uint64_t> {
      file = TRY(open_pidfd(task, static_cast<pid_t>(pid), 0));
      return task.block_on(*file->queue(), kReadable, {}, [&]() -> Result<uint64_t> {
        if ((file->ready() & kReadable) == 0) return Errno::kAgain;
        return 0;
      });
    });
    if (!file || (file->ready() & kHangup) != 0) return 1;
    if (wait4(guest, -1) != pid || (file->ready() & kHangup) == 0) return 2;
    const int64_t sent = call(guest, [&](Task& task) -> Result<uint64_t> {
      TRY(pidfd_send_signal(task, *TRY(process_of(*file)), SIGTERM, nullptr));
      return 0;
    });
    return sent == -ESRCH ? 0 : 3;
  });
  CHECK(status == 0);
}

TEST_CASE("a signalfd reads blocked signals in order") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    const int64_t result = call(guest, [](Task& task) -> Result<uint64_t> {
      const SignalSet set = SignalSet::of(SIGUSR1, SIGUSR2);
      task.set_signal_mask(set);
      const auto file = open_signalfd(task, set, 0);
      std::array<signalfd_siginfo, 3> infos{};
      IoBuffers room{std::as_writable_bytes(std::span<signalfd_siginfo>(infos))};
      if (file->read(room).error() != Errno::kAgain) return 1;
      TRY(kernel::kill(task, task.tgid(), SIGUSR2));
      TRY(kernel::tkill(task, task.tid(), SIGUSR1));
      if (file->ready() != kReadable) return 2;
      if (TRY(file->read(room)) != 2 * sizeof infos[0]) return 3;
      if (infos[0].ssi_signo != SIGUSR1 || infos[0].ssi_code != SI_TKILL) return 4;
      if (infos[1].ssi_signo != SIGUSR2 || infos[1].ssi_uid != 1000) return 5;
      return 0;
    });
    return static_cast<int>(result);
  });
  CHECK(status == 0);
}
