#include "platforms/stub/seed.h"

#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <vector>

#include "platforms/stub/seed_child.h"
#include "src/base/check.h"

namespace boxrun::platform {
namespace {

static_assert(kGuestMapFlags == (MAP_SHARED | MAP_FIXED | MAP_NORESERVE));
static_assert(sizeof(msghdr) == sizeof SeedPage::message &&
              sizeof(iovec) == sizeof SeedPage::pieces);
static_assert(CMSG_SPACE(sizeof(int)) == sizeof SeedPage::control);
static_assert(offsetof(msghdr, msg_controllen) == 40);  // stub_text.S

// Maps the stub area in the calling process, at the first place that is free.
Result<StubLayout> map_stub_area(uint64_t pages) {
  const uint64_t size = pages * kPageSize;
  constexpr uint64_t kStep = 1 << 20;
  for (int i = 0; i < 64; i++) {
    const uint64_t base = kUserEnd - (1 << 16) - static_cast<uint64_t>(i) * kStep;
    void* p = ::mmap(reinterpret_cast<void*>(base), size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED) continue;
    if (reinterpret_cast<uint64_t>(p) == base) return StubLayout{base, pages};
    ::munmap(p, size);  // Linux before 4.17 takes the address for a hint
  }
  return Errno::kNoMem;
}

void fill_seed_page(const StubLayout& layout) {
  auto* page = new (reinterpret_cast<void*>(layout.seed_page())) SeedPage{};
  iovec piece{&page->request, sizeof page->request};
  std::memcpy(page->pieces, &piece, sizeof piece);
  msghdr message{};
  message.msg_iov = reinterpret_cast<iovec*>(page->pieces);
  message.msg_iovlen = 1;
  message.msg_control = page->control;
  message.msg_controllen = sizeof page->control;
  std::memcpy(page->message, &message, sizeof message);
}

Result<void> protect(uint64_t page, uint64_t size, int protection) {
  if (::mprotect(reinterpret_cast<void*>(page), size, protection) != 0) return last_error();
  return {};
}

Result<void> fill_stub_area(const StubLayout& layout, const SeedOptions& options) {
  const auto size = static_cast<size_t>(boxrun_stub_text_end - boxrun_stub_text);
  CHECK(size <= kPageSize);
  auto* text = reinterpret_cast<char*>(layout.base);
  std::memset(text, 0xcc, kPageSize);  // int3
  std::memcpy(text, boxrun_stub_text, size);
  fill_seed_page(layout);
  if (options.fill_extra) options.fill_extra(layout);
  TRY(protect(layout.base, kPageSize, PROT_READ | PROT_EXEC));
  TRY(protect(layout.list(), kPageSize, PROT_READ));
  if (layout.pages <= 3) return {};
  TRY(protect(layout.extra(), kPageSize, PROT_READ | PROT_EXEC));
  const uint64_t rest = layout.extra() + kPageSize;
  return protect(rest, layout.range().end - rest, PROT_READ);
}

// glibc's registration of the calling thread.
void use_own_rseq(SeedChild& plan) {
  if (__rseq_size == 0) return;
  plan.rseq_area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  // What glibc registered: 32 bytes until its 2.40, at least that afterwards.
  plan.rseq_size = std::max<size_t>(__rseq_size, 32);
}

SeedChild plan_child(const StubLayout& layout, int socket, const SeedOptions& options) {
  const uint64_t page = layout.seed_page();
  SeedChild plan;
  plan.sentry = ::getpid();
  plan.socket = socket;
  plan.memory_file = options.memory_file;
  plan.control_file = options.control_file;
  if (options.signal_handler != 0) {
    plan.signal_handler = layout.extra() + options.signal_handler;
    plan.signal_restorer = layout.extra() + options.signal_restorer;
  }
  plan.entry = layout.address_of(boxrun_stub_seed);
  plan.below = layout.base;
  plan.above = layout.range().end;
  plan.above_size = kUserEnd - layout.range().end;
  plan.message = page + offsetof(SeedPage, message);
  plan.request = page + offsetof(SeedPage, request);
  plan.descriptor = page + offsetof(SeedPage, control) + CMSG_LEN(0);
  plan.reply = page + offsetof(SeedPage, reply);
  plan.page = page;
  use_own_rseq(plan);
  return plan;
}

}  // namespace

Seed::Seed(const StubLayout& layout, pid_t pid, UniqueFd socket)
    : layout_(layout), pid_(pid), socket_(std::move(socket)) {}

std::unique_ptr<Seed> Seed::create(const SeedOptions& options, StubError& error) {
  const auto fail = [&error](const char* step, Errno e) {
    error = {step, e};
    return nullptr;
  };
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail("make the socket of the first stub", last_error());
  }
  UniqueFd mine(ends[0]);
  UniqueFd theirs(ends[1]);
  // The other end is in the table of every stub, so its closing tells nothing about the seed:
  // waits are bounded and look whether the seed lives.
  const timeval bound{0, 200'000};
  ::setsockopt(mine.get(), SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound);
  Result<StubLayout> layout = map_stub_area(options.pages);
  if (!layout.ok()) return fail("map the stub area", layout.error());
  const Result<void> filled = fill_stub_area(*layout, options);

  std::vector<sock_filter> filter = options.filter(*layout);
  SeedChild plan = plan_child(*layout, theirs.get(), options);
  plan.filter = {static_cast<unsigned short>(filter.size()), filter.data()};
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  // Stubs that nobody traces tell of their end by this signal, which they inherit (CLONE_PARENT).
  const long exit_signal = options.signal_handler != 0 ? SIGCHLD : 0;
  const long pid =
      filled.ok() ? ::syscall(SYS_clone, exit_signal, nullptr, nullptr, nullptr, nullptr) : -1;
  if (pid == 0) run_seed_child(plan);
  const Errno clone_error = filled.ok() ? last_error() : filled.error();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::munmap(reinterpret_cast<void*>(layout->base), layout->range().size());
  if (pid < 0) return fail("fork the first stub", clone_error);
  theirs.reset();

  std::unique_ptr<Seed> seed(new Seed(*layout, static_cast<pid_t>(pid), std::move(mine)));
  const Result<int64_t> answer = seed->request(kSeedPing, 0, -1);
  if (!answer.ok()) return fail("start the first stub", answer.error());
  if (const uint64_t a = static_cast<uint64_t>(*answer); a != 0) {
    return fail(seed_step_name(static_cast<SeedStep>(a >> 32)),
                from_host(static_cast<int>(a & 0xffff)));
  }
  return seed;
}

Seed::~Seed() {
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, __WALL) < 0 && errno == EINTR) {
  }
}

Result<int64_t> Seed::request(uint32_t what, uint32_t argument, int fd) {
  const SeedPage::Request request{what, argument};
  iovec piece{const_cast<SeedPage::Request*>(&request), sizeof request};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  Lock lock(mutex_);
  // A seed that failed at its start has left its last words in the socket.
  ssize_t sent;
  do {
    sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno != EPIPE && errno != ECONNRESET) return last_error();
  for (;;) {
    int64_t reply = 0;
    const ssize_t n = ::recv(socket_.get(), &reply, sizeof reply, 0);
    if (n == sizeof reply) return reply;
    if (n >= 0) return Errno::kSrch;
    if (errno == EINTR || errno == ECONNRESET) continue;  // the latter is reported once
    if (errno != EAGAIN) return last_error();
    siginfo_t info{};
    // WNOWAIT: the destructor reaps.
    if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT | __WALL) !=
            0 ||
        info.si_pid == pid_) {
      return Errno::kSrch;
    }
  }
}

Result<pid_t> Seed::fork() {
  const int64_t reply = TRY(request(kSeedFork, 0, -1));
  if (reply <= 0) return from_host(static_cast<int>(-reply));
  return static_cast<pid_t>(reply);
}

Result<pid_t> Seed::fork_mapper(uint32_t page) {
  const int64_t reply = TRY(request(kSeedForkMapper, page, -1));
  if (reply <= 0) return from_host(static_cast<int>(-reply));
  return static_cast<pid_t>(reply);
}

Result<int> Seed::install(int fd) {
  const int64_t reply = TRY(request(kSeedReceive, 0, fd));
  if (reply < 0) return from_host(static_cast<int>(-reply));
  return static_cast<int>(reply);
}

void Seed::discard(int number) { (void)request(kSeedDiscard, static_cast<uint32_t>(number), -1); }

}  // namespace boxrun::platform
