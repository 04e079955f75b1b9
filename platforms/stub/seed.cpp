#include "platforms/stub/seed.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <vector>

#include "platforms/stub/filter.h"

namespace boxrun::platform {
namespace {

static_assert(kGuestMapFlags == (MAP_SHARED | MAP_FIXED | MAP_NORESERVE));
static_assert(sizeof(msghdr) == sizeof SeedPage::message && sizeof(iovec) == sizeof SeedPage::pieces);
static_assert(CMSG_SPACE(sizeof(int)) == sizeof SeedPage::control);
static_assert(offsetof(msghdr, msg_controllen) == 40);  // stub_text.S

// The steps of the child, in order; what the first packet of a failed seed names.
enum class Step : uint32_t {
  kStart = 1, kSession, kDescriptors, kRseq, kThreadState, kLimits, kCapabilities, kPrivileges, kFilter,
};
constexpr const char* kStepNames[] = {
    "", "arm the parent death signal of the first stub", "give the first stub its own session",
    "set up the descriptors of the first stub", "unregister the restartable sequence of the first stub",
    "clear the thread state of the first stub", "limit core dumps of the first stub",
    "drop the capabilities of the first stub", "set no_new_privs in the first stub",
    "install the seccomp filter of the first stub"};

// Everything the child needs, prepared by the parent: the child may not allocate.
struct ChildPlan {
  StubLayout layout;
  pid_t sentry = 0;
  int socket = -1;
  int memory_file = -1;
  sock_fprog filter{};
  void* rseq_area = nullptr;
  size_t rseq_size = 0;
};

// Between the fork and the jump into stub_text.S the child runs on a copy of the Sentry's memory,
// which sanitizers must not instrument: their run-time is not there after a raw clone.
#define BOXRUN_IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined"), noinline))

BOXRUN_IN_CHILD [[noreturn]] void fail_child(int socket, Step step) {
  const int64_t packet = static_cast<int64_t>(static_cast<uint64_t>(step) << 32 |
                                              static_cast<uint32_t>(errno));
  (void)::syscall(SYS_sendto, socket, &packet, sizeof packet, MSG_NOSIGNAL, nullptr, 0);
  for (;;) ::syscall(SYS_exit_group, 1);
}

BOXRUN_IN_CHILD void set_up_descriptors(const ChildPlan& plan) {
  // Both are moved out of the way first: either may be at the number of the other.
  const long socket = ::syscall(SYS_fcntl, plan.socket, F_DUPFD, 3);
  const long memory = plan.memory_file < 0 ? 0 : ::syscall(SYS_fcntl, plan.memory_file, F_DUPFD, 3);
  if (socket < 0 || memory < 0) fail_child(plan.socket, Step::kDescriptors);
  const int socket_fd = static_cast<int>(socket);
  if (::syscall(SYS_dup3, socket_fd, kStubSocketFd, O_CLOEXEC) < 0) fail_child(socket_fd, Step::kDescriptors);
  unsigned first_closed = kStubMemoryFd;
  if (plan.memory_file >= 0) {
    if (::syscall(SYS_dup3, memory, kStubMemoryFd, O_CLOEXEC) < 0) fail_child(kStubSocketFd, Step::kDescriptors);
    first_closed = kStubMemoryFd + 1;
  }
  if (::syscall(SYS_close_range, first_closed, ~0U, 0) == 0) return;
  // Linux before 5.9.
  rlimit limit{};
  ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
  const unsigned end = static_cast<unsigned>(limit.rlim_cur < (1u << 20) ? limit.rlim_cur : 1u << 20);
  for (unsigned fd = first_closed; fd < end; fd++) ::syscall(SYS_close, fd);
}

// The kernel must forget every address of the Sentry before its memory is unmapped.
BOXRUN_IN_CHILD void clear_thread_state(const ChildPlan& plan) {
  constexpr int kRseqUnregister = 1;
  if (plan.rseq_size != 0 &&
      ::syscall(SYS_rseq, plan.rseq_area, plan.rseq_size, kRseqUnregister, RSEQ_SIG) != 0) {
    fail_child(kStubSocketFd, Step::kRseq);
  }
  constexpr size_t kRobustListHeadSize = 24;
  if (::syscall(SYS_set_robust_list, nullptr, kRobustListHeadSize) != 0) fail_child(kStubSocketFd, Step::kThreadState);
  ::syscall(SYS_set_tid_address, nullptr);
  stack_t no_stack{};
  no_stack.ss_flags = SS_DISABLE;
  ::syscall(SYS_sigaltstack, &no_stack, nullptr);
}

BOXRUN_IN_CHILD void drop_privileges(const ChildPlan& plan) {
  // A limit of 1 stops a piped core_pattern, too, which 0 does not (fs/coredump.c).
  const rlimit no_core{1, 1};
  if (::syscall(SYS_prlimit64, 0, RLIMIT_CORE, &no_core, nullptr) != 0) fail_child(kStubSocketFd, Step::kLimits);
  // Fewer capabilities than the Sentry will have, or it may not trace us (security/commoncap.c).
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2]{};
  if (::syscall(SYS_capset, &header, none) != 0) fail_child(kStubSocketFd, Step::kCapabilities);
  if (::syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail_child(kStubSocketFd, Step::kPrivileges);
  // Speculation stays as the host has it: without this flag kernels before 5.16 slow the guest down.
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &plan.filter) != 0) {
    fail_child(kStubSocketFd, Step::kFilter);
  }
}

BOXRUN_IN_CHILD [[noreturn]] void enter_stub_text(const ChildPlan& plan) {
  const StubLayout& layout = plan.layout;
  const uint64_t page = layout.seed_page();
  const uint64_t message = page + offsetof(SeedPage, message);
  const uint64_t descriptor = page + offsetof(SeedPage, control) + CMSG_LEN(0);
  const uint64_t entry = layout.base + static_cast<uint64_t>(boxrun_stub_seed - boxrun_stub_text);
  const struct {
    uint64_t below, above, above_size, message, request, descriptor, reply, sentry, page, entry;
  } r = {layout.base, layout.range().end, kUserEnd - layout.range().end, message,
         page + offsetof(SeedPage, request), descriptor, page + offsetof(SeedPage, reply),
         static_cast<uint64_t>(plan.sentry), page, entry};
  asm volatile(
      "mov 8(%0), %%r8\n mov 16(%0), %%r9\n mov 24(%0), %%rbx\n mov 40(%0), %%r13\n"
      "mov 48(%0), %%r14\n mov 56(%0), %%r12\n mov 64(%0), %%r15\n mov 72(%0), %%rcx\n"
      "xor %%edi, %%edi\n mov 0(%0), %%rsi\n mov 32(%0), %%rbp\n"
      "jmp *%%rcx\n"
      :
      : "a"(&r)
      : "memory");
  __builtin_unreachable();
}

BOXRUN_IN_CHILD [[noreturn]] void run_child(const ChildPlan& plan) {
  if (::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 ||
      ::syscall(SYS_getppid) != plan.sentry) {
    fail_child(plan.socket, Step::kStart);
  }
  if (::syscall(SYS_setsid) < 0) fail_child(plan.socket, Step::kSession);
  set_up_descriptors(plan);
  clear_thread_state(plan);
  drop_privileges(plan);
  enter_stub_text(plan);
}

// Maps the stub area in the calling process, at the first place that is free.
Result<StubLayout> map_stub_area() {
  constexpr uint64_t kStep = 1 << 20;
  for (int i = 0; i < 64; i++) {
    const uint64_t base = kUserEnd - (1 << 16) - static_cast<uint64_t>(i) * kStep;
    void* p = ::mmap(reinterpret_cast<void*>(base), StubLayout::kSize, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED) continue;
    if (reinterpret_cast<uint64_t>(p) == base) return StubLayout{base};
    ::munmap(p, StubLayout::kSize);  // Linux before 4.17 takes the address for a hint
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

Result<void> fill_stub_area(const StubLayout& layout) {
  const auto size = static_cast<size_t>(boxrun_stub_text_end - boxrun_stub_text);
  CHECK(size <= kPageSize);
  auto* text = reinterpret_cast<char*>(layout.base);
  std::memset(text, 0xcc, kPageSize);  // int3
  std::memcpy(text, boxrun_stub_text, size);
  fill_seed_page(layout);
  if (::mprotect(text, kPageSize, PROT_READ | PROT_EXEC) != 0) return last_error();
  auto* list = reinterpret_cast<char*>(layout.list());
  if (::mprotect(list, kPageSize, PROT_READ) != 0) return last_error();
  return {};
}

void use_own_rseq(ChildPlan& plan) {
  if (__rseq_size == 0) return;
  plan.rseq_area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  // What glibc registered: 32 bytes until its 2.40, at least that afterwards.
  plan.rseq_size = std::max<size_t>(__rseq_size, 32);
}

}  // namespace

Seed::Seed(const StubLayout& layout, pid_t pid, UniqueFd socket)
    : layout_(layout), pid_(pid), socket_(std::move(socket)) {}

std::unique_ptr<Seed> Seed::create(int memory_file, StubError& error) {
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
  Result<StubLayout> layout = map_stub_area();
  if (!layout.ok()) return fail("map the stub area", layout.error());
  const Result<void> filled = fill_stub_area(*layout);

  ChildPlan plan{*layout, ::getpid(), theirs.get(), memory_file};
  std::vector<sock_filter> filter = stub_filter(*layout);
  plan.filter = {static_cast<unsigned short>(filter.size()), filter.data()};
  use_own_rseq(plan);
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const long pid = filled.ok() ? ::syscall(SYS_clone, 0, nullptr, nullptr, nullptr, nullptr) : -1;
  if (pid == 0) run_child(plan);
  const Errno clone_error = filled.ok() ? last_error() : filled.error();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::munmap(reinterpret_cast<void*>(layout->base), StubLayout::kSize);
  if (pid < 0) return fail("fork the first stub", clone_error);
  theirs.reset();

  std::unique_ptr<Seed> seed(new Seed(*layout, static_cast<pid_t>(pid), std::move(mine)));
  const Result<int64_t> answer = seed->request(kSeedPing, 0, -1);
  if (!answer.ok()) return fail("start the first stub", answer.error());
  if (const uint64_t a = static_cast<uint64_t>(*answer); a != 0) {
    const size_t step = std::min<size_t>(a >> 32, std::size(kStepNames) - 1);
    return fail(kStepNames[step], from_host(static_cast<int>(a & 0xffff)));
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
  if (TRY(host_result(::sendmsg(socket_.get(), &message, MSG_NOSIGNAL))) != sizeof request) {
    return Errno::kIo;
  }
  for (;;) {
    int64_t reply = 0;
    const ssize_t n = ::recv(socket_.get(), &reply, sizeof reply, 0);
    if (n == sizeof reply) return reply;
    if (n >= 0) return Errno::kSrch;
    if (errno != EINTR && errno != EAGAIN) return last_error();
    siginfo_t info{};
    // WNOWAIT: the destructor reaps.
    if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0 ||
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

Result<int> Seed::install(int fd) {
  const int64_t reply = TRY(request(kSeedReceive, 0, fd));
  if (reply < 0) return from_host(static_cast<int>(-reply));
  return static_cast<int>(reply);
}

void Seed::discard(int number) { (void)request(kSeedDiscard, static_cast<uint32_t>(number), -1); }

}  // namespace boxrun::platform
