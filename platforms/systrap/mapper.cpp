#include "platforms/systrap/mapper.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace boxrun::platform {

Result<AnswerFd> AnswerFds::take() {
  {
    Lock lock(mutex_);
    if (!spare_.empty()) {
      AnswerFd answer = std::move(spare_.back());
      spare_.pop_back();
      return answer;
    }
  }
  AnswerFd answer;
  answer.fd = TRY(own_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
  answer.number = TRY(seed_.install(answer.fd.get()));
  return answer;
}

void AnswerFds::give_back(AnswerFd answer) {
  // A mapper that was killed may have left a part of its last answer.
  uint64_t old;
  while (::read(answer.fd.get(), &old, sizeof old) > 0) {
  }
  {
    Lock lock(mutex_);
    if (spare_.size() < kMaxSpare) {
      spare_.push_back(std::move(answer));
      return;
    }
  }
  seed_.discard(answer.number);
}

bool process_ended(pid_t process) {
  siginfo_t info{};
  // ECHILD: it was reaped.
  return ::waitid(P_PID, static_cast<id_t>(process), &info, WEXITED | WNOHANG | WNOWAIT | __WALL) !=
             0 ||
         info.si_pid == process;
}

void Mapper::come_here(pid_t process) {
  const int cpu = ::sched_getcpu();
  if (cpu < 0 || cpu == cpu_) return;
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(cpu, &here);
  // Fails when the process has ended, or the host narrowed what we may use: both harmless.
  (void)::sched_setaffinity(process, sizeof here, &here);
  cpu_ = cpu;
}

Mapper::Answer Mapper::run(pid_t process, std::span<const StubCall> calls) {
  come_here(process);
  Answer answer;
  size_t done = 0;
  while (done < calls.size() && answer.error == Errno::kOk) {
    answer = run_some(process,
                      calls.subspan(done, std::min(MapperPage::kCapacity, calls.size() - done)));
    done += answer.done;
  }
  answer.done = done;
  return answer;
}

void Mapper::post(std::span<const StubCall> calls) {
  MapperPage& page = control_.page(page_);
  page.count = static_cast<uint32_t>(calls.size());
  std::ranges::copy(calls, page.calls.begin());
  page.sequence.fetch_add(1, std::memory_order_release);
  futex_wake(&page.sequence, 1, FutexScope::kShared);
}

Mapper::Answer Mapper::run_some(pid_t process, std::span<const StubCall> calls) {
  post(calls);
  const Result<uint64_t> answer = wait_for_answer(process);
  if (!answer.ok()) return {0, 0, answer.error()};
  const uint64_t value = *answer & ((uint64_t{1} << kMapperValueBits) - 1);
  if ((*answer & kMapperDone) != 0) return {value, calls.size(), Errno::kOk};
  if ((value & 0xfff) == 0) return {0, 0, Errno::kSrch};  // no mapper of ours says that
  return {0, std::min<size_t>(value >> 12, calls.size()),
          from_host(static_cast<int>(value & 0xfff))};
}

Result<uint64_t> Mapper::wait_for_answer(pid_t process) {
  // Only a process that was killed from outside does not answer, so looking is rare.
  constexpr int kLookMilliseconds = 20;
  uint64_t sum = 0;
  for (bool ended = false;;) {
    uint64_t part = 0;
    const ssize_t n = ::read(answer_.fd.get(), &part, sizeof part);
    if (n == sizeof part) sum += part;
    if ((sum & (kMapperDone | kMapperFailed)) != 0) return sum;
    if (n >= 0 || errno == EINTR) continue;
    if (errno != EAGAIN) return last_error();
    // It may have answered before it ended: looked at once more.
    if (ended) return Errno::kSrch;
    pollfd readable{answer_.fd.get(), POLLIN, 0};
    ended = ::poll(&readable, 1, kLookMilliseconds) == 0 && process_ended(process);
  }
}

}  // namespace boxrun::platform
