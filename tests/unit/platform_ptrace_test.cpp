// What the ptrace platform promises against a hostile guest and an unkind host.
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#include "platforms/stub/filter.h"
#include "platforms/stub/range_set.h"
#include "tests/unit/platform_suite.h"

using namespace boxrun;
using namespace boxrun::platform;
using namespace std::chrono_literals;

namespace {

void on_ptrace(const std::function<void(Machine&)>& body) {
  on_platforms(Which::kRealCode, [&body](Machine& m) {
    if (m.kind == "ptrace") body(m);
  });
}

void on_stubs(const std::function<void(Machine&)>& body) { on_platforms(Which::kRealCode, body); }

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string status_line(pid_t pid, const std::string& key) {
  std::istringstream in(read_file("/proc/" + std::to_string(pid) + "/status"));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key + ":"))
      return line.substr(line.find_first_not_of(" \t", key.size() + 1));
  }
  return "";
}

// Runs on and on through traps and system calls until a stop count is reached: never the host's
// business, never an end. A timer interrupts endless loops.
void run_wild(GuestThread& t, int stops) {
  std::atomic<bool> done{false};
  std::thread timer([&] {
    while (!done.load()) {
      std::this_thread::sleep_for(2ms);
      t.context->interrupt();
    }
  });
  for (int i = 0; i < stops; i++) {
    const Stop stop = t.run();
    CHECK(stop.why != Why::kLost);
    if (stop.why != Why::kSyscall) break;
    t.cpu.set_result(0);
  }
  done.store(true);
  timer.join();
}

}  // namespace

TEST_CASE("a guest that jumps to any byte of the stub's text gains nothing") {
  on_ptrace([](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    const uint64_t base = m.platform->user_addresses().end;
    const auto size = static_cast<uint64_t>(boxrun_stub_text_end - boxrun_stub_text);
    // Calls that would be fatal or visible if the host served them, for the list runner.
    const uint64_t calls[] = {SYS_kill, 0xffffffffffffffff, SIGKILL, 0, 0, 0, 0};
    for (size_t i = 0; i < std::size(calls); i++) m.memory.set_word(kDataOffset + i * 8, calls[i]);
    for (uint64_t at = 0; at < size; at++) {
      CAPTURE(at);
      Registers r = registers_at(guest_text);
      r.rip = base + at;
      r.rax = SYS_exit_group;
      r.rbx = r.r13 = r.r14 = kDataAddress;
      r.rbp = kDataAddress;
      r.rdi = 9;
      r.r12 = 1;
      r.r15 = kTextAddress;
      t.cpu.reset(r);
      run_wild(t, 20);
    }
    // And the address space still serves, in this thread and through its leader.
    t.start(guest_load, kDataAddress);
    Stop stop = t.run();
    if (stop.why == Why::kInterrupted) stop = t.run();  // the timer's last
    CHECK(stop.why == Why::kSyscall);
    std::thread([&] {
      const Op op = map_page(0x20000000, m.memory, kDataOffset, Prot::kRead);
      CHECK(m.space->apply({&op, 1}).ok());
      GuestThread other(*m.platform, *m.space);
      other.start(guest_load, 0x20000000);
      CHECK(other.run().why == Why::kSyscall);
    }).join();
  });
}

TEST_CASE("a guest cannot write to any page that is ours") {
  on_ptrace([](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    const uint64_t base = m.platform->user_addresses().end;
    for (uint64_t page = base; page < 0x7ffffffff000; page += kPageSize) {
      t.start(guest_store, page + 8, 0x4141);
      const Stop stop = t.run();
      CHECK(stop.why == Why::kFault);
      CHECK(stop.addr == page + 8);
    }
  });
}

TEST_CASE("a stub holds nothing of the Sentry and no rights") {
  ::setenv("BOXRUN_TEST_SECRET", "hunter2", 1);
  on_ptrace([](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_syscall);
    REQUIRE(t.run().why == Why::kSyscall);
    const pid_t stub = leader_of(m, *m.space);
    const std::string proc = "/proc/" + std::to_string(stub);
    std::istringstream maps(read_file(proc + "/maps"));
    int stub_pages = 0;
    for (std::string line; std::getline(maps, line);) {
      CAPTURE(line);
      const uint64_t start = std::stoull(line, nullptr, 16);
      if (line.find("[vsyscall]") != std::string::npos) continue;
      if (start >= m.platform->user_addresses().end) {
        stub_pages++;
        CHECK(line.find(" rw") == std::string::npos);
      } else {
        CHECK(line.find("/memfd:guest") != std::string::npos);
      }
    }
    CHECK(stub_pages == 2);
    CHECK(read_file(proc + "/environ").empty());
    CHECK(read_file(proc + "/cmdline").empty());
    CHECK(status_line(stub, "NoNewPrivs") == "1");
    CHECK(status_line(stub, "Seccomp") == "2");
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"})
      CHECK(status_line(stub, set) == "0000000000000000");
    CHECK(::getsid(stub) != ::getsid(0));
    std::set<std::string> fds;
    DIR* dir = ::opendir((proc + "/fd").c_str());
    REQUIRE(dir != nullptr);
    while (const dirent* entry = ::readdir(dir)) fds.insert(entry->d_name);
    ::closedir(dir);
    CHECK(fds == std::set<std::string>{".", "..", "0", "1"});
  });
}

TEST_CASE("the stub filter allows its own calls and kills the stub for every other") {
  // A fork of this test installs the filter and makes one call: the exit status tells.
  const StubLayout layout{0x7ffffffef000};
  const std::set<int> allowed = {SYS_mmap,       SYS_munmap,  SYS_mprotect, SYS_pause,
                                 SYS_clone,      SYS_prctl,   SYS_getppid,  SYS_exit,
                                 SYS_exit_group, SYS_recvmsg, SYS_sendto,   SYS_close};
  std::vector<sock_filter> filter = stub_filter(layout);
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  const auto outcome = [&](long number, uint64_t a0, uint64_t a1, uint64_t a3) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      ::prctl(PR_SET_SECCOMP, 2, &program);
      if (number == SYS_pause) ::syscall(SYS_exit_group, 0);
      ::syscall(number, a0, a1, 0, a3, 0, 0);
      ::syscall(SYS_exit_group, 0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
  };
  for (int number = 0; number < 470; number++) {
    // uretprobe and uprobe pass every filter; they do nothing outside the kernel's own trampolines.
    if (allowed.contains(number) || number == 335 || number == 336) continue;
    CAPTURE(number);
    const int status = outcome(number, 0, 0, 0);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGSYS);
  }
  const auto passes = [&](long number, uint64_t a0, uint64_t a1, uint64_t a3) {
    return WIFEXITED(outcome(number, a0, a1, a3));
  };
  CHECK(passes(SYS_getppid, 0, 0, 0));
  CHECK(passes(SYS_mmap, 0x10000, 0, kGuestMapFlags));
  CHECK_FALSE(passes(SYS_mmap, 0x10000, 0, 0x22));
  CHECK(passes(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0));
  CHECK_FALSE(passes(SYS_prctl, PR_SET_PDEATHSIG, 0, 0));
  CHECK_FALSE(passes(SYS_prctl, PR_SET_DUMPABLE, 1, 0));
  CHECK_FALSE(passes(SYS_clone, SIGCHLD, 0, 0));
  CHECK_FALSE(passes(SYS_clone, 0x10000000, 0, 0));  // CLONE_NEWUSER
  CHECK_FALSE(
      passes(SYS_clone, kCloneProcess | (uint64_t{1} << 32), 0, 0));  // the upper half counts
  CHECK_FALSE(passes(SYS_recvmsg, 0, 0x1000, 0));
  CHECK_FALSE(passes(SYS_sendto, 1, layout.seed_page(), 0));
  CHECK_FALSE(passes(0x40000000 | SYS_getppid, 0, 0, 0));  // x32
}

TEST_CASE("a stub that is killed is lost at once, wherever its threads are") {
  on_stubs([](Machine& m) {
    // While it runs.
    {
      GuestThread t(*m.platform, m.add_program());
      t.start(guest_spin);
      std::thread killer([&] {
        std::this_thread::sleep_for(10ms);
        ::kill(leader_of(m, *m.space), SIGKILL);
      });
      CHECK(t.run().why == Why::kLost);
      CHECK(t.run().why == Why::kLost);
      killer.join();
      CHECK_FALSE(map_program(*m.space, m.memory).ok());
    }
    // While it is stopped: seen by the next operation, whichever that is.
    for (int i = 0; i < 3; i++) {
      GuestThread t(*m.platform, m.add_program());
      t.start(guest_syscall);
      REQUIRE(t.run().why == Why::kSyscall);
      ::kill(leader_of(m, *m.space), SIGKILL);
      if (i == 0) CHECK(map_program(*m.space, m.memory).error() == Errno::kSrch);
      if (i == 1) (void)t.cpu.registers();
      CHECK(t.run_with(0).why == Why::kLost);
      t.context->interrupt();
    }
    // By somebody without a thread there, while a sibling is stopped and does not look.
    {
      GuestThread t(*m.platform, m.add_program());
      t.start(guest_syscall);
      REQUIRE(t.run().why == Why::kSyscall);
      ::kill(leader_of(m, *m.space), SIGKILL);
      std::thread([&] {
        CHECK(map_program(*m.space, m.memory).error() == Errno::kSrch);
        CHECK_FALSE(m.platform->new_address_space(m.space.get()).ok());
        GuestThread other(*m.platform, *m.space);
        other.start(guest_syscall);
        CHECK(other.run().why == Why::kLost);
      }).join();
      CHECK(t.run().why == Why::kLost);
    }
    // Others are not concerned.
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_syscall);
    CHECK(t.run().why == Why::kSyscall);
  });
}

TEST_CASE("a stub that is killed while its threads are stopped is told of") {
  sigset_t before;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  on_ptrace([](Machine& m) {
    const UniqueFd losses = watch_losses().take();
    const auto readable = [&losses](int timeout_ms) {
      pollfd wait{losses.get(), POLLIN, 0};
      return ::poll(&wait, 1, timeout_ms) == 1;
    };
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_syscall);
    REQUIRE(t.run().why == Why::kSyscall);
    const auto other = m.platform->new_address_space(m.space.get()).take();
    std::thread([&] {
      GuestThread u(*m.platform, *other);
      u.start(guest_syscall);
      CHECK(u.run().why == Why::kSyscall);
      // Neither system calls nor the end of other threads and processes make it readable.
      for (uint64_t i = 0; i < 100; i++) CHECK(u.run_with(i).why == Why::kSyscall);
      std::thread([&] {
        const auto third = m.platform->new_address_space(nullptr).take();
        CHECK(map_program(*third, m.memory).ok());
        GuestThread v(*m.platform, *third);
        v.start(guest_syscall);
        CHECK(v.run().why == Why::kSyscall);
      }).join();
      CHECK_FALSE(readable(0));
      CHECK(m.space->apply({}).ok());
      ::kill(leader_of(m, *m.space), SIGKILL);
      CHECK(readable(10'000));
      CHECK(m.space->apply({}).error() == Errno::kSrch);
      CHECK(other->apply({}).ok());
    }).join();
    CHECK(t.run_with(0).why == Why::kLost);
  });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_CASE("an address space at work is not taken for a lost one") {
  on_stubs([](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_syscall);
    REQUIRE(t.run().why == Why::kSyscall);
    std::atomic<bool> end{false};
    std::atomic<int> losses{0};
    std::thread asks([&] {
      while (!end.load()) losses += m.space->apply({}).ok() ? 0 : 1;
    });
    for (uint64_t i = 0; i < 5'000; i++) t.run_with(i);
    end.store(true);
    asks.join();
    CHECK(losses.load() == 0);
  });
}

TEST_CASE("a leader that is killed during foreign work is noticed") {
  on_stubs([](Machine& m) {
    for (int i = 0; i < 20; i++) {
      GuestThread t(*m.platform, m.add_program());
      t.start(guest_syscall);
      REQUIRE(t.run().why == Why::kSyscall);
      std::atomic<bool> end{false};
      std::thread foreign([&] {
        while (map_program(*m.space, m.memory).ok()) {
        }
        end.store(true);
      });
      std::this_thread::sleep_for(std::chrono::microseconds(500 + 37 * i));
      ::kill(leader_of(m, *m.space), SIGKILL);
      // This thread does not reap its own stub meanwhile.
      foreign.join();
      CHECK(end.load());
      CHECK(t.run().why == Why::kLost);
    }
  });
}

TEST_CASE("signals of other processes do not reach the guest") {
  on_ptrace([](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_syscall);
    REQUIRE(t.run().why == Why::kSyscall);
    const pid_t stub = leader_of(m, *m.space);
    for (const int signo : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGSEGV, SIGTRAP, SIGCHLD, SIGSTOP,
                            SIGCONT, kDoorbell}) {
      CAPTURE(signo);
      ::kill(stub, signo);
      CHECK(t.run_with(77).why == Why::kSyscall);
      CHECK(t.cpu.syscall_number() == 77);
      std::thread([&] {
        const Op op = map_page(0x20000000, m.memory, kDataOffset, Prot::kRead);
        CHECK(m.space->apply({&op, 1}).ok());
      }).join();
    }
  });
}

TEST_CASE("stubs die with the Sentry") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const pid_t sentry = ::fork();
  if (sentry == 0) {
    TestMemory memory;
    std::string reason;
    std::unique_ptr<Platform> platform = make_platform("ptrace", memory.fd(), reason);
    if (platform == nullptr) ::_exit(1);
    const auto leader = [](AddressSpace& space) {
      return static_cast<PtraceAddressSpace&>(space).process()->leader();
    };
    auto parent = std::move(platform->new_address_space(nullptr)).take();
    (void)map_program(*parent, memory);
    GuestThread t(*platform, *parent);
    t.start(guest_syscall);
    (void)t.run();
    auto idle = std::move(platform->new_address_space(parent.get())).take();
    const pid_t stubs[2] = {leader(*parent), leader(*idle)};
    (void)!::write(ends[1], stubs, sizeof stubs);
    t.start(guest_spin);
    for (;;) (void)t.run();
  }
  ::close(ends[1]);
  pid_t stubs[2] = {};
  const ssize_t n = ::read(ends[0], stubs, sizeof stubs);
  ::close(ends[0]);
  ::kill(sentry, SIGKILL);
  ::waitpid(sentry, nullptr, 0);
  if (n != sizeof stubs) {
    MESSAGE("SKIPPED: no ptrace here");
    return;
  }
  for (const pid_t stub : stubs) {
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    const auto gone = [stub] {
      const std::string state = status_line(stub, "State");
      return state.empty() || state[0] == 'Z' || state[0] == 'X';
    };
    while (!gone() && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(1ms);
    CHECK(gone());
  }
}

TEST_CASE("range sets join, cut and list their parts") {
  RangeSet set;
  set.add({10, 20});
  set.add({30, 40});
  set.add({20, 30});
  CHECK(set.parts({0, 100}) == std::vector<Range>{{10, 40}});
  set.remove({15, 18});
  CHECK(set.parts({0, 100}) == std::vector<Range>{{10, 15}, {18, 40}});
  CHECK(set.parts({12, 20}) == std::vector<Range>{{12, 15}, {18, 20}});
  set.remove({0, 100});
  CHECK(set.empty());
}

// Sanitizers make calls of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
namespace {

// What any sealed process may do, beside the rows that the platform asks for.
constexpr int kBaseCalls[] = {
    SYS_futex,      SYS_mmap,     SYS_munmap,       SYS_mprotect,       SYS_madvise,
    SYS_brk,        SYS_clone,    SYS_clone3,       SYS_rt_sigprocmask, SYS_exit,
    SYS_exit_group, SYS_write,    SYS_gettid,       SYS_rseq,           SYS_set_robust_list,
    SYS_close,      SYS_fcntl,    SYS_rt_sigreturn, SYS_clock_gettime,  SYS_sched_getaffinity,
    SYS_getrandom,  SYS_prlimit64};

void seal(const Platform& platform) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2]{};
  ::syscall(SYS_capset, &header, none);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  std::vector<sock_filter> f = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  const auto allow = [&f](int number) {
    f.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1));
    f.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  };
  for (const int number : kBaseCalls) allow(number);
  for (const HostSyscall& row : platform.host_syscalls()) allow(row.number);
  f.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  const sock_fprog program{static_cast<unsigned short>(f.size()), f.data()};
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) ::_exit(3);
}

// Everything that a kernel does with a platform after start-up.
bool work(Platform& platform, const TestMemory& memory, int host_file) {
  auto space = platform.new_address_space(nullptr);
  if (!space.ok() || !map_program(**space, memory).ok()) return false;
  GuestThread t(platform, **space);
  t.start(guest_load, 0x20000000);
  if (t.run().why != Why::kFault) return false;
  const Op map = Op::map({0x20000000, 0x20001000}, host_file, 0, Prot::kRead);
  if (!t.space->apply({&map, 1}).ok() || t.run().why != Why::kSyscall) return false;
  auto child = platform.new_address_space(space->get());
  if (!child.ok()) return false;
  bool ok = false;
  std::thread([&] {
    GuestThread c(platform, **child);
    c.start(guest_spin);
    std::thread poke([&c] { c.context->interrupt(); });
    ok = c.run().why == Why::kInterrupted;
    poke.join();
    auto next = platform.new_address_space(nullptr);
    ok = ok && next.ok() && map_program(**next, memory).ok();
    c.space = next->get();
    c.start(guest_syscall);
    for (int i = 0; i < 100; i++) ok = ok && c.run_with(0).why == Why::kSyscall;
    c.context.reset();
  }).join();
  std::this_thread::sleep_for(20ms);  // the placement thread lets go
  return ok;
}

}  // namespace

TEST_CASE("a sealed Sentry needs no system call that the platform did not ask for") {
  const pid_t sentry = ::fork();
  if (sentry == 0) {
    TestMemory memory;
    UniqueFd file(::memfd_create("host file", MFD_CLOEXEC));
    (void)!::ftruncate(file.get(), kPageSize);
    std::string reason;
    std::unique_ptr<Platform> platform = make_platform("ptrace", memory.fd(), reason);
    if (platform == nullptr) ::_exit(2);
    seal(*platform);
    ::_exit(work(*platform, memory, file.get()) ? 0 : 1);
  }
  int status = 0;
  ::waitpid(sentry, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
    MESSAGE("SKIPPED: no ptrace here");
    return;
  }
  CHECK(status == 0);
}
#endif
