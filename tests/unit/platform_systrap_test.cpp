// What the systrap platform promises against hostile guests: PLATFORMS.md, systrap, security.
#include <dirent.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "platforms/systrap/filter.h"
#include "tests/unit/platform_suite.h"

using namespace boxrun;
using namespace boxrun::platform;
using namespace std::chrono_literals;

namespace {

const SystrapLayout& layout_of(const Machine& m) {
  return static_cast<SystrapAddressSpace&>(*m.space).process()->layout();
}

// Interrupts a context every now and then, so that no guest code runs for ever.
class Timer {
 public:
  explicit Timer(Context& context)
      : thread_([this, &context] {
          while (!done_.load()) {
            std::this_thread::sleep_for(2ms);
            context.interrupt();
          }
        }) {}
  ~Timer() {
    done_.store(true);
    thread_.join();
  }

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

// Other guest processes go on whatever one of them does.
void check_serves(Machine& m) {
  auto space = m.platform->new_address_space(nullptr).take();
  REQUIRE(map_program(*space, m.memory).ok());
  m.memory.set_word(kDataOffset, 4711);
  CHECK(guest_word(m, *space, kDataAddress) == 4711);
}

}  // namespace

TEST_CASE("a guest that jumps to any byte of stub text hurts nobody but itself") {
  on_systrap([](Machine& m) {
    m.add_program();
    const auto size = static_cast<uint64_t>(boxrun_systrap_text_end - boxrun_systrap_text);
    const auto seed_size = static_cast<uint64_t>(boxrun_stub_text_end - boxrun_stub_text);
    const uint64_t text = layout_of(m).text();
    std::vector<uint64_t> addresses;
    for (uint64_t i = 0; i < size; i++) addresses.push_back(text + i);
    for (uint64_t i = 0; i < seed_size; i++) addresses.push_back(layout_of(m).stub.base + i);
    // Calls that would be fatal or visible if the host served them, wherever a list is looked for.
    const uint64_t calls[] = {SYS_kill, 0xffffffffffffffff, SIGKILL, 0, 0, 0, 0};
    for (size_t i = 0; i < std::size(calls); i++) m.memory.set_word(kDataOffset + i * 8, calls[i]);
    std::unique_ptr<GuestThread> t;
    for (const uint64_t at : addresses) {
      CAPTURE(at - text);
      if (!t) t = std::make_unique<GuestThread>(*m.platform, m.add_program());
      Registers r = registers_at(guest_text);
      r.rip = at;
      r.rax = SYS_kill;
      r.rdi = UINT64_MAX;
      r.rsi = SIGKILL;
      r.rbx = r.r13 = r.r14 = r.rbp = kDataAddress;
      r.r12 = 1;
      r.r15 = kTextAddress;
      t->cpu.reset(r);
      Why why = Why::kSyscall;
      {
        const Timer timer(*t->context);
        for (int i = 0; i < 20 && why == Why::kSyscall; i++) {
          why = t->run().why;
          t->cpu.set_result(0);
        }
      }
      if (why == Why::kLost) t.reset();
    }
    t.reset();
    check_serves(m);
  });
}

TEST_CASE("a guest can write to no page of ours but slots") {
  on_systrap([](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    const SystrapLayout layout = layout_of(m);
    for (uint64_t page = layout.stub.base; page < kUserEnd; page += kPageSize) {
      t.start(guest_store, page + 8, 0x4141);
      const Stop stop = t.run();
      CHECK(stop.why == Why::kFault);
      CHECK(stop.addr == page + 8);
    }
    // The slots of other processes are not even mapped.
    auto other = m.platform->new_address_space(nullptr).take();
    REQUIRE(map_program(*other, m.memory).ok());
    std::thread([&] {
      GuestThread u(*m.platform, *other);
      int mapped = 0;
      for (uint64_t i = 0; i < 16; i++) {
        u.start(guest_load, layout.slots().start + i * ThreadSlot::kSize);
        mapped += u.run().why == Why::kSyscall ? 1 : 0;
      }
      CHECK(mapped == 1);
    }).join();
  });
}

TEST_CASE("a systrap stub holds nothing of the Sentry and no rights") {
  ::setenv("BOXRUN_TEST_SECRET", "hunter2", 1);
  on_systrap([](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_syscall);
    REQUIRE(t.run().why == Why::kSyscall);
    const pid_t stub = leader_of(m, *m.space);
    const std::string proc = "/proc/" + std::to_string(stub);
    std::ifstream maps(proc + "/maps");
    int ours = 0;
    int slots = 0;
    for (std::string line; std::getline(maps, line);) {
      CAPTURE(line);
      const uint64_t start = std::stoull(line, nullptr, 16);
      if (line.find("[vsyscall]") != std::string::npos) continue;
      if (layout_of(m).slots().contains(start)) {
        slots++;
        CHECK(line.find("/memfd:boxrun-stubs") != std::string::npos);
      } else if (start >= layout_of(m).stub.base) {
        ours++;
        CHECK(line.find(" rw") == std::string::npos);
      } else {
        CHECK(line.find("/memfd:guest") != std::string::npos);
      }
    }
    CHECK(ours == 4);  // the seed's text, the mapper's page, text, constants
    CHECK(slots == 1);
    std::ifstream status(proc + "/status");
    int facts = 0;
    for (std::string line; std::getline(status, line);) {
      if (line == "NoNewPrivs:\t1" || line == "Seccomp:\t2") facts++;
      if (line.starts_with("Cap") && !line.starts_with("CapBnd")) {
        CHECK(line.ends_with("\t0000000000000000"));
        facts++;
      }
    }
    CHECK(facts == 6);
    CHECK(::getsid(stub) != ::getsid(0));
    std::set<std::string> fds;
    DIR* dir = ::opendir((proc + "/fd").c_str());
    REQUIRE(dir != nullptr);
    while (const dirent* entry = ::readdir(dir)) fds.insert(entry->d_name);
    ::closedir(dir);
    // The socket, the two files and one answer descriptor.
    CHECK(fds.size() == 2 + 4);
  });
}

namespace {

// Exit status of a fork that has the filters and makes one call.
int outcome(const std::vector<std::vector<sock_filter>>& filters, long number,
            std::initializer_list<uint64_t> args) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    for (const auto& filter : filters) {
      const sock_fprog program{static_cast<unsigned short>(filter.size()),
                               const_cast<sock_filter*>(filter.data())};
      ::prctl(PR_SET_SECCOMP, 2, &program);
    }
    std::array<uint64_t, 6> a{};
    std::copy(args.begin(), args.end(), a.begin());
    ::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    // The thread sanitizer has a thread of its own in every process.
    ::syscall(SYS_exit_group, 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

bool trapped(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS; }

}  // namespace

TEST_CASE("the filter of stub processes allows its own calls and traps every other") {
  const SystrapLayout layout{{0x7ffffffef000, kSystrapPages}};
  const std::vector<std::vector<sock_filter>> filters{process_filter(layout)};
  const std::set<int> allowed = {
      SYS_mmap,         SYS_munmap,      SYS_mprotect,       SYS_clone,      SYS_prctl,
      SYS_getppid,      SYS_exit,        SYS_recvmsg,        SYS_sendto,     SYS_exit_group,
      SYS_close,        SYS_write,       SYS_futex,          SYS_seccomp,    SYS_set_tid_address,
      SYS_rt_sigreturn, SYS_sigaltstack, SYS_rt_sigprocmask, SYS_sched_yield};
  for (int number = 0; number < 470; number++) {
    // uretprobe and uprobe pass every filter; they do nothing outside the kernel's own trampolines.
    if (allowed.contains(number) || number == 335 || number == 336) continue;
    CAPTURE(number);
    CHECK(trapped(outcome(filters, number, {})));
  }
  const auto passes = [&](long number, std::initializer_list<uint64_t> args) {
    return !trapped(outcome(filters, number, args));
  };
  CHECK(passes(SYS_mmap, {0x10000, 0, 0, kGuestMapFlags}));
  CHECK_FALSE(passes(SYS_mmap, {0x10000, 0, 0, 0x22}));
  CHECK_FALSE(passes(SYS_clone, {SIGCHLD}));
  CHECK_FALSE(passes(SYS_clone, {kCloneProcess | (uint64_t{1} << 32)}));
  CHECK_FALSE(passes(SYS_prctl, {PR_SET_DUMPABLE, 1}));
  CHECK_FALSE(passes(SYS_prctl, {59, 1, 0, ~uint64_t{0}}));  // all of memory may make calls
  CHECK_FALSE(passes(SYS_seccomp, {SECCOMP_SET_MODE_FILTER, 0, kDataAddress}));
  CHECK_FALSE(passes(SYS_seccomp, {SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER}));
  CHECK_FALSE(passes(SYS_rt_sigprocmask, {SIG_SETMASK, kDataAddress}));
  CHECK_FALSE(passes(SYS_write, {1, kDataAddress, 9}));
  CHECK_FALSE(passes(SYS_recvmsg, {0, 0x1000}));
  CHECK_FALSE(passes(0x40000000 | SYS_getppid, {}));  // x32
}

TEST_CASE("the filter of guest threads leaves nothing outside stub text") {
  const SystrapLayout layout{{0x7ffffffef000, kSystrapPages}};
  const std::vector<std::vector<sock_filter>> filters{process_filter(layout),
                                                      thread_filter(layout)};
  for (int number = 0; number < 470; number++) {
    if (number == 335 || number == 336) continue;
    CAPTURE(number);
    CHECK(trapped(outcome(filters, number, {layout.slots().start, FUTEX_WAKE})));
  }
}

// What guest code gets when it jumps to the `syscall` instructions of stub text: the handler hands
// those that the filter traps to the Sentry, as if guest code had made them.
TEST_CASE("of stub text's system calls the host serves five") {
  on_systrap([](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    const uint64_t restorer = layout_of(m).address_of(boxrun_systrap_restorer);
    const uint64_t instruction = restorer + 5;  // behind mov $SYS_rt_sigreturn, %eax
    const uint64_t slots = layout_of(m).slots().start;
    const auto stop_of = [&](uint64_t number, uint64_t a0, uint64_t a1) {
      Registers r = registers_at(guest_text);
      r.rip = instruction;
      r.rax = number;
      r.rdi = a0;
      r.rsi = a1;
      t.cpu.reset(r);
      return t.run();
    };
    for (uint64_t number = 0; number < 470; number++) {
      // 335, 336: see above.
      if (number == SYS_rt_sigreturn || number == SYS_exit || number == SYS_sched_yield ||
          number == 335 || number == 336) {
        continue;
      }
      CAPTURE(number);
      const Stop stop = stop_of(number, kDataAddress, FUTEX_WAIT);
      REQUIRE(stop.why == Why::kSyscall);
      CHECK(t.cpu.syscall_number() == number);
    }
    for (const uint64_t operation : {FUTEX_REQUEUE, FUTEX_WAKE_OP, FUTEX_LOCK_PI, FUTEX_WAIT_BITSET,
                                     FUTEX_WAKE | FUTEX_PRIVATE_FLAG}) {
      CAPTURE(operation);
      CHECK(stop_of(SYS_futex, slots, operation).why == Why::kSyscall);
    }
    CHECK(stop_of(SYS_futex, slots - 4, FUTEX_WAKE).why == Why::kSyscall);
    CHECK(stop_of(SYS_futex, layout_of(m).slots().end, FUTEX_WAKE).why == Why::kSyscall);
    // The end of one thread is the end of the guest process, which no longer obeys.
    CHECK(stop_of(SYS_exit, 0, 0).why == Why::kLost);
    check_serves(m);
  });
}

TEST_CASE("scribbled slots kill the guest process that scribbles and nobody else") {
  on_systrap([](Machine& m) {
    for (int round = 0; round < 8; round++) {
      CAPTURE(round);
      AddressSpace& space = m.add_program();
      std::atomic<bool> end{false};
      std::atomic<Context*> victim_context{nullptr};
      uint64_t slot = 0;
      // The victim makes system calls; a sibling writes garbage all over its slot.
      std::thread victim([&] {
        GuestThread t(*m.platform, space);
        t.start(guest_syscall);
        (void)t.run();
        victim_context.store(t.context.get());
        for (uint64_t i = 0; !end.load() && t.run_with(i).why != Why::kLost; i++) {
        }
        end.store(true);
        while (victim_context.load() != nullptr) std::this_thread::yield();
      });
      while (victim_context.load() == nullptr) std::this_thread::yield();
      std::thread sibling([&] {
        GuestThread t(*m.platform, space);
        for (uint64_t i = 0; i < 64 && slot == 0; i++) {
          const uint64_t at = layout_of(m).slots().start + i * ThreadSlot::kSize;
          t.start(guest_load, at);
          if (t.run().why == Why::kSyscall) slot = at;
        }
        uint64_t value = 0x9e3779b97f4a7c15 * static_cast<uint64_t>(round + 1);
        for (int i = 0; i < 4'000 && !end.load(); i++) {
          value = value * 6364136223846793005 + 1442695040888963407;
          const uint64_t offset = round % 2 == 0 ? value >> 32 & 0x38 : value >> 32 & 0xfff8;
          const uint64_t word = round % 4 < 2 ? value : value >> 62;
          t.start(guest_store, slot + offset, word);
          if (t.run().why == Why::kLost) break;
        }
        end.store(true);
      });
      sibling.join();
      victim_context.load()->interrupt();
      const auto deadline = std::chrono::steady_clock::now() + 20s;
      victim_context.store(nullptr);
      victim.join();
      CHECK(std::chrono::steady_clock::now() < deadline);
    }
    check_serves(m);
  });
}

// A frame for rt_sigreturn with every signal blocked, which goes on at guest_spin.
TEST_CASE("a guest thread that blocks every signal is lost after bounded time") {
  on_systrap([](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    constexpr uint64_t kFrame = 0x100;  // in the data page; struct ucontext
    const auto set = [&](uint64_t offset, uint64_t value) {
      m.memory.set_word(kDataOffset + kFrame + offset, value);
    };
    set(160, kDataAddress + 0xf00);         // rsp
    set(168, guest_address(guest_spin));    // rip
    set(176, 0x202);                        // eflags
    set(184, 0x33 | uint64_t{0x2b} << 48);  // cs, ss
    set(296, ~uint64_t{0});                 // the mask
    Registers r = registers_at(guest_text, kDataAddress + kFrame);
    r.rip = layout_of(m).address_of(boxrun_systrap_restorer);
    t.cpu.reset(r);
    std::thread killer([&] {
      std::this_thread::sleep_for(50ms);
      t.context->interrupt();
    });
    const auto start = std::chrono::steady_clock::now();
    const Why why = t.run().why;
    killer.join();
    CHECK(why == Why::kLost);
    CHECK(std::chrono::steady_clock::now() - start < 60s);
    check_serves(m);
  });
}

TEST_CASE("a forged completion withdraws nothing") {
  on_systrap([](Machine& m) {
    // One thread writes to a page all the time, another forges every word of the hammer's slot that
    // could say it has stopped. After each withdrawal the page stays as it is.
    AddressSpace& space = m.add_program();
    std::atomic<bool> end{false};
    std::atomic<uint64_t> forged{0};
    std::thread forger([&] {
      GuestThread t(*m.platform, space);
      std::vector<uint64_t> slots;
      while (!end.load()) {
        for (uint64_t i = 0; i < 16; i++) {
          t.start(guest_store, layout_of(m).slots().start + i * ThreadSlot::kSize + 48, i);
          const Why why = t.run().why;
          if (why == Why::kLost) return;
          if (why == Why::kSyscall) forged++;
        }
      }
    });
    std::atomic<Context*> context{nullptr};
    std::thread hammer([&] {
      GuestThread t(*m.platform, space);
      t.start(guest_hammer, kDataAddress);
      context.store(t.context.get());
      while (!end.load()) {
        const Why why = t.run().why;
        if (why == Why::kLost) break;
      }
      while (context.load() != nullptr) std::this_thread::yield();
    });
    while (context.load() == nullptr || forged.load() == 0) std::this_thread::yield();
    for (int round = 0; round < 200; round++) {
      REQUIRE(
          space.apply(std::array{map_page(kDataAddress, m.memory, kDataOffset, kReadWrite)}).ok());
      std::this_thread::sleep_for(200us);
      REQUIRE(space.apply(std::array{Op::unmap({kDataAddress, kDataAddress + kPageSize})}).ok());
      const uint64_t after = m.memory.word(kDataOffset);
      for (int i = 0; i < 200; i++) REQUIRE(m.memory.word(kDataOffset) == after);
    }
    end.store(true);
    context.load()->interrupt();
    context.store(nullptr);
    forger.join();
    hammer.join();
  });
}
