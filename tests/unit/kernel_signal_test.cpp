// Signals: sending, delivery, frames, restarts, stops, forced signals.
#include <sys/wait.h>

#include <atomic>

#include "sentry/kernel/clone.h"
#include "sentry/kernel/job_control.h"
#include "sentry/kernel/wait_child.h"
#include "tests/unit/kernel_harness.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::kernel;
using namespace boxrun::test;

namespace {

int64_t send(FakeGuest& guest, int64_t pid, int signo) {
  return call(guest, [=](Task& task) -> Result<uint64_t> {
    TRY(kernel::kill(task, static_cast<pid_t>(pid), signo));
    return 0;
  });
}

int64_t send_self(FakeGuest& guest, int signo) {
  return send(guest, guest.syscall(SYS_getpid), signo);
}

// Waits until the process is asleep ('S') or stopped ('T').
void wait_for_state(FakeGuest& guest, int64_t pid, char state) {
  call(guest, [=](Task& task) -> Result<uint64_t> {
    while (task.kernel().find_task(static_cast<pid_t>(pid))->state_letter() != state) {
      TRY(task.sleep_until(std::chrono::steady_clock::now() + std::chrono::milliseconds(1)));
    }
    return 0;
  });
}

// A system call that sleeps once, interrupted with `code`; at most three tries.
int64_t sleepy(FakeGuest& guest, Errno code, int* tries) {
  return call(guest, [=](Task& task) -> Result<uint64_t> {
    if (++*tries > 1) return 77;
    task.sleeper().reset();
    while (task.sleep({}).ok()) {
    }
    return code;
  });
}

}  // namespace

TEST_CASE("a handler runs with its arguments, and everything comes back") {
  TestKernel k;
  const int status = k.run([&](FakeGuest& guest) {
    std::atomic<int> ran{0};
    set_handler(
        guest, k, SIGUSR1,
        [&](FakeGuest& handler) {
          const auto& r = handler.registers();
          const auto info = handler.read<siginfo_t>(r.rsi);
          if (r.rdi == SIGUSR1 && info.si_signo == SIGUSR1 && info.si_code == SI_USER &&
              info.si_pid == 2 && info.si_uid == 1000 && r.rsp % 16 == 8) {
            ran = 1;
          }
          handler.registers().r12 = 99;
          handler.xstate()[160] = std::byte{1};  // the lowest byte of xmm0
        },
        SA_SIGINFO);
    guest.registers().r12 = 12;
    guest.xstate()[160] = std::byte{0x5a};
    if (send_self(guest, SIGUSR1) != 0) return 1;
    if (ran != 1) return 2;
    if (guest.registers().r12 != 12) return 3;
    if (guest.xstate()[160] != std::byte{0x5a}) return 4;
    return 0;
  });
  CHECK(status == 0);
}

TEST_CASE("the frame has Linux's layout") {
  TestKernel k;
  const int status = k.run([&](FakeGuest& guest) {
    int bad = 0;
    const uint64_t sp = guest.registers().rsp;
    set_handler(guest, k, SIGUSR1, [&](FakeGuest& handler) {
      const uint64_t frame = handler.registers().rsp;
      const uint64_t uc = handler.registers().rdx;
      if (uc != frame + 8 || handler.registers().rsi != frame + 8 + 304) bad = 1;
      if (handler.read<uint64_t>(uc) != 7) bad = 2;
      if (handler.read<uint64_t>(uc + 40 + 15 * 8) != sp) bad = 3;  // rsp
      if (handler.read<uint16_t>(uc + 40 + 144) != 0x33) bad = 4;   // cs
      if (handler.read<uint64_t>(uc + 296) != 1) bad = 5;           // mask: SIGHUP
      const auto fp = handler.read<uint64_t>(uc + 40 + 184);
      if (fp % 64 != 0 || fp + 576 > sp - 128) bad = 6;
      if (handler.read<uint32_t>(fp + 464) != 0x46505853) bad = 7;
      const auto size = handler.read<uint32_t>(fp + 464 + 16);
      if (size != platform::host_xstate_size()) bad = 8;
      if (handler.read<uint32_t>(fp + size) != 0x46505845) bad = 9;
      call(handler, [&](Task& task) -> Result<uint64_t> {
        if (!(task.signal_mask() == SignalSet::of(SIGHUP, SIGUSR1))) bad = 10;
        return 0;
      });
    });
    block(guest, SignalSet::of(SIGHUP));
    send_self(guest, SIGUSR1);
    call(guest, [&](Task& task) -> Result<uint64_t> {
      if (!(task.signal_mask() == SignalSet::of(SIGHUP))) bad = 11;
      return 0;
    });
    return bad;
  });
  CHECK(status == 0);
}

TEST_CASE("sigreturn refuses a state that the processor would refuse") {
  for (const uint64_t offset : {uint64_t{520}, uint64_t{24}}) {  // xcomp_bv, mxcsr
    TestKernel k;
    const int status = k.run([&](FakeGuest& guest) {
      set_handler(guest, k, SIGUSR1, [=](FakeGuest& handler) {
        const auto fp = handler.read<uint64_t>(handler.registers().rdx + 40 + 184);
        handler.write<uint32_t>(fp + offset, 0xffffffff);
      });
      send_self(guest, SIGUSR1);
      return 0;
    });
    CHECK(WTERMSIG(status) == SIGSEGV);
  }
}

TEST_CASE("restarts follow the code and SA_RESTART") {
  TestKernel k;
  struct Case {
    Errno code;
    uint64_t flags;
    bool handler;
    int64_t expected;
  };
  const Case cases[] = {
      {Errno::kRestartSys, 0, true, -EINTR},
      {Errno::kRestartSys, SA_RESTART, true, 77},
      {Errno::kRestartNoHand, SA_RESTART, true, -EINTR},
      {Errno::kRestartNoIntr, 0, true, 77},
      {Errno::kRestartSys, 0, false, 77},
      {Errno::kRestartNoHand, 0, false, 77},
      {Errno::kIntr, SA_RESTART, true, -EINTR},
  };
  for (const Case& c : cases) {
    CAPTURE(static_cast<int>(c.code));
    CAPTURE(c.flags);
    const int status = k.run([&](FakeGuest& guest) {
      int handled = 0;
      set_handler(
          guest, k, SIGUSR1, [&](FakeGuest&) { handled++; }, c.flags);
      const int64_t self = guest.syscall(SYS_getpid);
      const int signo = c.handler ? SIGUSR1 : SIGCONT;
      fork(guest, [&](FakeGuest& child) {
        wait_for_state(child, self, 'S');
        if (!c.handler) {
          send(child, self, SIGSTOP);
          wait_for_state(child, self, 'T');
        }
        send(child, self, signo);
        child.syscall(SYS_exit_group, 0);
      });
      int tries = 0;
      const int64_t result = sleepy(guest, c.code, &tries);
      wait4(guest, -1);
      return result == c.expected && handled == (c.handler ? 1 : 0) ? 0 : 1;
    });
    CHECK(status == 0);
  }
}

TEST_CASE("a restart block continues what was interrupted by a stop") {
  TestKernel k;
  const Ref<ThreadGroup> process = k.start([](FakeGuest& guest) {
    const int64_t result = call(guest, [](Task& task) -> Result<uint64_t> {
      task.set_restart([](Task&) -> Result<uint64_t> { return 55; });
      task.sleeper().reset();
      while (task.sleep({}).ok()) {
      }
      return Errno::kRestartBlock;
    });
    return result == 55 ? 0 : 1;
  });
  REQUIRE(eventually([&] { return k.kernel->find_task(process->tgid)->state_letter() == 'S'; }));
  k.kernel->signal(*process, SIGSTOP);
  REQUIRE(eventually([&] { return k.stops() == std::vector<int>{SIGSTOP}; }));
  k.kernel->signal(*process, SIGCONT);
  CHECK(k.wait(*process) == 0);
  CHECK(k.stops() == std::vector<int>{SIGSTOP, 0});
}

TEST_CASE("default actions end the process with the signal") {
  TestKernel k;
  for (const int signo : {SIGTERM, SIGQUIT, SIGKILL, 40}) {
    const int status = k.run([=](FakeGuest& guest) {
      send_self(guest, signo);
      return 0;
    });
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == signo);
    CHECK_FALSE(WCOREDUMP(status));
  }
}

TEST_CASE("SIGKILL reaches a guest that never makes a system call") {
  TestKernel k;
  const Ref<ThreadGroup> process = k.start([](FakeGuest& guest) {
    for (;;) guest.spin();
    return 0;
  });
  k.kernel->signal(*process, SIGKILL);
  CHECK(WTERMSIG(k.wait(*process)) == SIGKILL);
}

TEST_CASE("a fault is SIGSEGV with its code and address; blocked, it kills") {
  TestKernel k;
  const int handled = k.run([&](FakeGuest& guest) {
    std::atomic<int> seen{0};
    set_handler(
        guest, k, SIGSEGV,
        [&](FakeGuest& handler) {
          const auto info = handler.read<siginfo_t>(handler.registers().rsi);
          const uint64_t uc = handler.registers().rdx;
          const auto error = handler.read<uint64_t>(uc + 40 + 152);
          const auto trap = handler.read<uint64_t>(uc + 40 + 160);
          const auto cr2 = handler.read<uint64_t>(uc + 40 + 176);
          const bool right = info.si_code == SEGV_MAPERR && error == 6 && trap == 14 &&
                             info.si_addr == reinterpret_cast<void*>(0x5000000) && cr2 == 0x5000000;
          handler.syscall(SYS_exit_group, right ? 5 : 6);
        },
        SA_SIGINFO);
    guest.write<uint32_t>(0x5000000, 1);
    return seen.load();
  });
  CHECK(WEXITSTATUS(handled) == 5);
  const int killed = k.run([&](FakeGuest& guest) {
    set_handler(guest, k, SIGSEGV, [](FakeGuest&) {});
    block(guest, SignalSet::of(SIGSEGV));
    guest.read<uint32_t>(0x5000000);
    return 0;
  });
  CHECK(WTERMSIG(killed) == SIGSEGV);
  const int trap = k.run([](FakeGuest& guest) {
    guest.trap(SIGFPE, FPE_INTDIV, kEntry);
    return 0;
  });
  CHECK(WTERMSIG(trap) == SIGFPE);
}

TEST_CASE("a handler without room for its frame dies of SIGSEGV") {
  TestKernel k;
  const int status = k.run([&](FakeGuest& guest) {
    set_handler(guest, k, SIGUSR1, [](FakeGuest&) {});
    guest.registers().rsp = 0x6000000;
    send_self(guest, SIGUSR1);
    return 0;
  });
  CHECK(WTERMSIG(status) == SIGSEGV);
}

TEST_CASE("the alternate stack is used, reported, and not changed while in use") {
  TestKernel k;
  const int status = k.run([&](FakeGuest& guest) {
    int bad = 0;
    const AltStack stack{.base = kData + 4096, .size = 16384, .flags = 0};
    const auto alt = [](FakeGuest& g, const AltStack* wanted, AltStack* old) {
      return call(g, [=](Task& task) -> Result<uint64_t> {
        *old = TRY(task.sigaltstack(wanted));
        return 0;
      });
    };
    AltStack old;
    const AltStack small{.base = kData, .size = 100, .flags = 0};
    if (alt(guest, &small, &old) != -ENOMEM || alt(guest, &stack, &old) != 0) return 1;
    set_handler(
        guest, k, SIGUSR1,
        [&](FakeGuest& handler) {
          const uint64_t sp = handler.registers().rsp;
          if (sp < stack.base || sp > stack.base + stack.size) bad = 2;
          AltStack now;
          if (alt(handler, &stack, &now) != -EPERM) bad = 3;
          if (alt(handler, nullptr, &now) != 0 || now.flags != SS_ONSTACK) bad = 4;
        },
        SA_ONSTACK);
    send_self(guest, SIGUSR1);
    if (alt(guest, nullptr, &old) != 0 || old.flags != 0) return 5;
    // With SS_AUTODISARM the stack is off inside the handler and back after it.
    const AltStack autodisarm{.base = stack.base, .size = stack.size, .flags = kAutoDisarm};
    alt(guest, &autodisarm, &old);
    set_handler(
        guest, k, SIGUSR2,
        [&](FakeGuest& handler) {
          AltStack now;
          if (alt(handler, nullptr, &now) != 0 || now.flags != SS_DISABLE) bad = 6;
        },
        SA_ONSTACK);
    send_self(guest, SIGUSR2);
    if (alt(guest, nullptr, &old) != 0 || old.flags != kAutoDisarm) return 7;
    return bad;
  });
  CHECK(status == 0);
}

TEST_CASE("sigsuspend and sigtimedwait") {
  TestKernel k;
  const int status = k.run([&](FakeGuest& guest) {
    int handled = 0;
    set_handler(guest, k, SIGUSR1, [&](FakeGuest&) { handled++; });
    block(guest, SignalSet::of(SIGUSR1, SIGUSR2));
    send_self(guest, SIGUSR1);
    if (handled != 0) return 1;
    const auto suspend = [](Task& task) -> Result<uint64_t> {
      TRY(task.sigsuspend({}));
      return 0;
    };
    if (call(guest, suspend) != -EINTR || handled != 1) return 2;
    send_self(guest, SIGUSR2);
    const int64_t taken = call(guest, [](Task& task) -> Result<uint64_t> {
      if (!(task.signal_mask() == SignalSet::of(SIGUSR1, SIGUSR2))) return Errno::kIo;
      const SigInfo info = TRY(task.sigtimedwait(SignalSet::of(SIGUSR2), {}));
      return static_cast<uint64_t>(info.si_signo);
    });
    if (taken != SIGUSR2) return 3;
    const int64_t none = call(guest, [](Task& task) -> Result<uint64_t> {
      TRY(task.sigtimedwait(SignalSet::of(SIGUSR2), std::chrono::steady_clock::now()));
      return 0;
    });
    return none == -EAGAIN ? 0 : 4;
  });
  CHECK(status == 0);
}

TEST_CASE("a signal to the process wakes a thread that waits for it") {
  TestKernel k;
  const int status = k.run([&](FakeGuest& guest) {
    block(guest, SignalSet::of(SIGUSR1));
    std::atomic<int64_t> taken{0};
    spawn_thread(
        guest,
        [&](FakeGuest& thread) {
          taken = call(thread, [](Task& task) -> Result<uint64_t> {
            return static_cast<uint64_t>(
                TRY(task.sigtimedwait(SignalSet::of(SIGUSR1), {})).si_signo);
          });
          thread.syscall(SYS_exit_group, taken == SIGUSR1 ? 0 : 1);
        },
        kData + 8);
    send_self(guest, SIGUSR1);
    pause(guest);
    return 2;
  });
  CHECK(status == 0);
}

TEST_CASE("stop and continue are reported to the parent once") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    const int64_t pid = fork(guest, [](FakeGuest& child) {
      for (;;) child.spin();
    });
    int seen = 0;
    send(guest, pid, SIGSTOP);
    if (wait4(guest, -1, &seen, WUNTRACED) != pid || !WIFSTOPPED(seen)) return 1;
    if (WSTOPSIG(seen) != SIGSTOP) return 2;
    if (wait4(guest, -1, &seen, WUNTRACED | WNOHANG) != 0) return 3;
    send(guest, pid, SIGCONT);
    if (wait4(guest, -1, &seen, WCONTINUED) != pid || !WIFCONTINUED(seen)) return 4;
    send(guest, pid, SIGSTOP);
    send(guest, pid, SIGKILL);
    while (wait4(guest, -1, &seen, 0) == pid && !WIFSIGNALED(seen)) {
    }
    return WTERMSIG(seen) == SIGKILL ? 0 : 5;
  });
  CHECK(status == 0);
}

TEST_CASE("who may signal whom") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    const int64_t pid = fork(guest, [](FakeGuest& child) {
      call(child, [](Task& task) -> Result<uint64_t> {
        Ref<Credentials> other = task.cred().clone();
        other->ruid = other->euid = other->suid = other->fsuid = 2000;
        task.set_cred(std::move(other));
        return 0;
      });
      pause(child);
    });
    while (send(guest, pid, 0) == 0) guest.syscall(SYS_getpid);
    if (send(guest, pid, SIGKILL) != -EPERM) return 1;
    if (send(guest, pid, SIGCONT) != 0) return 2;  // the same session
    if (send(guest, 1, SIGKILL) != -EPERM) return 3;
    if (send(guest, 4242, 0) != -ESRCH) return 4;
    if (send(guest, pid, 65) != -EINVAL) return 5;
    return send(guest, -1, SIGTERM) == -EPERM ? 0 : 6;
  });
  CHECK(status == 0);
}

TEST_CASE("process groups and sessions") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    const auto setpgid = [](FakeGuest& g, pid_t pid, pid_t pgid) {
      return call(g, [=](Task& task) -> Result<uint64_t> {
        TRY(set_process_group(task, pid, pgid));
        return 0;
      });
    };
    const auto setsid = [](FakeGuest& g) {
      return call(g, [](Task& task) -> Result<uint64_t> {
        return static_cast<uint64_t>(TRY(create_session(task)));
      });
    };
    if (setsid(guest) != -EPERM) return 1;  // leads a process group
    std::atomic<int> go{0};
    const int64_t a = fork(guest, [&](FakeGuest& child) {
      while (go == 0) child.syscall(SYS_getpid);
      child.syscall(SYS_exit_group, setsid(child) == -EPERM ? 0 : 1);
    });
    if (setpgid(guest, static_cast<pid_t>(a), 0) != 0) return 2;
    if (setpgid(guest, static_cast<pid_t>(a), 77) != -EPERM) return 3;
    if (setpgid(guest, 1, 0) != -ESRCH) return 4;
    const int64_t b = fork(guest, [&](FakeGuest& child) {
      const int64_t sid = setsid(child);
      child.syscall(SYS_exit_group, sid == child.syscall(SYS_getpid) ? 0 : 1);
    });
    int seen = 1;
    if (wait4(guest, static_cast<pid_t>(b), &seen) != b || seen != 0) return 5;
    go = 1;
    if (wait4(guest, static_cast<pid_t>(a), &seen) != a || seen != 0) return 6;
    return 0;
  });
  CHECK(status == 0);
}

TEST_CASE("a stopped process group that becomes orphaned is hung up") {
  TestKernel k;
  const int status = k.run([&](FakeGuest& guest) {
    call(guest, [](Task& task) -> Result<uint64_t> {
      TreeLock tree(task.kernel().tree());
      task.group().links(tree).subreaper = true;
      return 0;
    });
    const int64_t leader = fork(guest, [&](FakeGuest& child) {
      call(child, [](Task& task) -> Result<uint64_t> {
        TRY(create_session(task));
        return 0;
      });
      const int64_t inner = fork(child, [&](FakeGuest& stopped) {
        call(stopped, [](Task& task) -> Result<uint64_t> {
          TRY(set_process_group(task, 0, 0));
          return 0;
        });
        send_self(stopped, SIGTSTP);
        for (;;) pause(stopped);
      });
      int seen = 0;
      wait4(child, static_cast<pid_t>(inner), &seen, WUNTRACED);
      child.syscall(SYS_exit_group, WIFSTOPPED(seen) ? 0 : 1);
    });
    int seen = 1;
    if (wait4(guest, static_cast<pid_t>(leader), &seen) != leader || seen != 0) return 1;
    if (wait4(guest, -1, &seen) < 0) return 2;
    return WTERMSIG(seen) == SIGHUP ? 0 : 3;
  });
  CHECK(status == 0);
}
