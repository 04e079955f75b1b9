// Processes: running, fork, exec, exit, wait, orphans, threads.
#include <sys/wait.h>

#include <atomic>

#include "platforms/fake/fake_address_space.h"
#include "sentry/kernel/clone.h"
#include "sentry/kernel/wait_child.h"
#include "tests/unit/kernel_harness.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::kernel;
using namespace boxrun::test;

TEST_CASE("a process runs, makes system calls and exits") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    const bool right = guest.syscall(SYS_getpid) == 2 && guest.syscall(SYS_gettid) == 2 &&
                       guest.syscall(9999) == -ENOSYS;
    return right ? 42 : 1;
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 42);
}

TEST_CASE("i386 and x32 calls are ENOSYS and reported") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    return guest.syscall_as(platform::Arch::kI386, 20, {}) == -ENOSYS ? 0 : 1;
  });
  CHECK(status == 0);
  CHECK(k.foreign_calls == 1);
}

TEST_CASE("fork copies memory, wait reaps and reports") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    guest.write<uint32_t>(kData, 1);
    const int64_t pid = fork(guest, [](FakeGuest& child) {
      child.write<uint32_t>(kData, 2);
      child.syscall(SYS_exit_group, 7);
    });
    int child_status = 0;
    if (wait4(guest, -1, &child_status) != pid) return 1;
    if (!WIFEXITED(child_status) || WEXITSTATUS(child_status) != 7) return 2;
    if (guest.read<uint32_t>(kData) != 1) return 3;
    if (wait4(guest, -1) != -ECHILD) return 4;
    return 0;
  });
  CHECK(status == 0);
}

TEST_CASE("wait options: WNOHANG, WNOWAIT, a process group, __WCLONE") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    const int64_t pid = fork(guest, [](FakeGuest& child) { pause(child); });
    if (wait4(guest, -1, nullptr, WNOHANG) != 0) return 1;
    if (wait4(guest, -1, nullptr, WNOHANG | __WCLONE) != -ECHILD) return 2;
    call(guest, [&](Task& task) -> Result<uint64_t> {
      TRY(kernel::kill(task, static_cast<pid_t>(pid), SIGTERM));
      return 0;
    });
    int seen = 0;
    if (wait4(guest, -1, &seen, WNOWAIT) != pid || WTERMSIG(seen) != SIGTERM) return 3;
    const int64_t by_group = call(guest, [&](Task& task) -> Result<uint64_t> {
      WaitSelector group{WaitSelector::Kind::kProcessGroup, 0};
      return static_cast<uint64_t>(TRY(wait_child(task, group, WEXITED)).pid);
    });
    return by_group == pid ? 0 : 4;
  });
  CHECK(status == 0);
}

TEST_CASE("vfork holds the parent until the child executes or exits") {
  TestKernel k;
  std::atomic<int> order{0};
  const int status = k.run([&](FakeGuest& guest) {
    fork(
        guest,
        [&](FakeGuest& child) {
          order = 1;
          child.syscall(SYS_exit_group, 0);
        },
        CLONE_VM | CLONE_VFORK);
    return order == 1 ? 0 : 1;
  });
  CHECK(status == 0);
}

TEST_CASE("execve replaces the program; its errors leave the old one") {
  TestKernel k;
  k.add_program("/new", [](FakeGuest& guest) {
    guest.syscall(SYS_exit_group, guest.read<uint32_t>(kData) == 0 ? 9 : 1);
  });
  const int status = k.run([](FakeGuest& guest) {
    guest.write<uint32_t>(kData, 5);
    const auto exec = [&](const char* path) {
      return call(guest, [=](Task& task) -> Result<uint64_t> {
        ExecRequest request;
        request.path = path;
        TRY(task.exec(request));
        return 0;
      });
    };
    if (exec("/missing") != -ENOENT || guest.read<uint32_t>(kData) != 5) return 1;
    exec("/new");
    return 2;
  });
  CHECK(WEXITSTATUS(status) == 9);
}

TEST_CASE("execve by a thread ends the others and takes the process's number") {
  TestKernel k;
  k.add_program("/new", [](FakeGuest& guest) {
    guest.syscall(SYS_exit_group, guest.syscall(SYS_gettid) == 2 ? 9 : 1);
  });
  const int status = k.run([](FakeGuest& guest) {
    spawn_thread(
        guest, [](FakeGuest& thread) { pause(thread); }, kData + 4);
    spawn_thread(
        guest,
        [](FakeGuest& thread) {
          call(thread, [](Task& task) -> Result<uint64_t> {
            ExecRequest request;
            request.path = "/new";
            TRY(task.exec(request));
            return 0;
          });
        },
        kData + 8);
    pause(guest);
    return 3;
  });
  CHECK(WEXITSTATUS(status) == 9);
}

TEST_CASE("orphans go to init, or to a subreaper") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    const auto orphan_parent = [&](bool subreaper) {
      call(guest, [=](Task& task) -> Result<uint64_t> {
        TreeLock tree(task.kernel().tree());
        task.group().links(tree).subreaper = subreaper;
        return 0;
      });
      std::atomic<int64_t> parent{0};
      const int64_t middle = fork(guest, [&](FakeGuest& child) {
        fork(child, [&](FakeGuest& grandchild) {
          for (int i = 0; i < 10000 && parent == 0; i++) {
            parent = call(grandchild, [&](Task& task) -> Result<uint64_t> {
              TreeLock tree(task.kernel().tree());
              const pid_t now = task.group().links(tree).parent->tgid;
              return static_cast<uint64_t>(now == 1 || now == 2 ? now : 0);
            });
          }
          grandchild.syscall(SYS_exit_group, 0);
        });
        child.syscall(SYS_exit_group, 0);
      });
      wait4(guest, static_cast<pid_t>(middle));
      while (parent == 0) guest.syscall(SYS_getpid);
      return parent.load();
    };
    if (orphan_parent(false) != 1) return 1;
    if (orphan_parent(true) != 2) return 2;
    return wait4(guest, -1) > 0 ? 0 : 3;
  });
  CHECK(status == 0);
}

TEST_CASE("a parent that ignores SIGCHLD gets no zombies") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    ignore(guest, SIGCHLD);
    fork(guest, [](FakeGuest& child) { child.syscall(SYS_exit_group, 0); });
    return wait4(guest, -1) == -ECHILD ? 0 : 1;
  });
  CHECK(status == 0);
}

TEST_CASE("the limit of tasks is EAGAIN") {
  TestKernel k(2);
  const int status = k.run([](FakeGuest& guest) {
    const int64_t first = fork(guest, [](FakeGuest& child) { pause(child); });
    const int64_t second = fork(guest, [](FakeGuest&) {});
    return first > 0 && second == -EAGAIN ? 0 : 1;
  });
  CHECK(status == 0);
}

TEST_CASE("exit_group ends a hundred threads, wherever they sleep") {
  TestKernel k;
  std::atomic<int> running{0};
  const int status = k.run([&](FakeGuest& guest) {
    for (int i = 0; i < 100; i++) {
      spawn_thread(
          guest,
          [&](FakeGuest& thread) {
            running++;
            if (running % 2 == 0) thread.spin();
            pause(thread);
          },
          kData + 4 * i);
    }
    while (running < 100) guest.syscall(SYS_getpid);
    return 11;
  });
  CHECK(WEXITSTATUS(status) == 11);
  // The last thread has left the process, but perhaps not yet its host thread.
  k.kernel->shutdown();
  CHECK(k.kernel->queued_signals() == 0);
}

TEST_CASE("a lost stub kills its process and says so") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    guest.die();
    return 0;
  });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGKILL);
  CHECK(k.killed() == std::vector{KillReason::kLostStub});
}

TEST_CASE("a stub that is lost while its task waits kills that process at once, and no other") {
  TestKernel k;
  std::atomic<platform::FakeAddressSpace*> of_child{nullptr};
  std::atomic<int> child_pid{0};
  const auto process = k.start([&](FakeGuest& guest) {
    const int64_t child = fork(guest, [&](FakeGuest& sleeper) {
      call(sleeper, [&](Task& task) -> Result<uint64_t> {
        child_pid = task.tid();
        of_child = &static_cast<platform::FakeAddressSpace&>(task.mm().address_space());
        return 0;
      });
      pause(sleeper);
    });
    int status = 0;
    if (wait4(guest, static_cast<pid_t>(child), &status) != child) return 1;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 7 : 2;
  });
  REQUIRE(eventually([&] { return of_child.load() != nullptr; }));
  const Ref<Task> child = k.kernel->find_task(child_pid);
  REQUIRE(child);
  REQUIRE(eventually([&] { return child->state_letter() == 'S'; }));
  k.kernel->end_lost_processes();
  CHECK(k.killed().empty());
  of_child.load()->lose();
  k.kernel->end_lost_processes();
  CHECK(WEXITSTATUS(k.wait(*process)) == 7);
  CHECK(k.killed() == std::vector{KillReason::kLostStub});
}

TEST_CASE("clone refuses combinations that Linux refuses") {
  TestKernel k;
  const int status = k.run([](FakeGuest& guest) {
    const auto error = [&](uint64_t flags) {
      return fork(
          guest, [](FakeGuest&) {}, flags);
    };
    if (error(CLONE_THREAD) != -EINVAL) return 1;
    if (error(CLONE_SIGHAND) != -EINVAL) return 2;
    if (error(CLONE_NEWNS | CLONE_FS) != -EINVAL) return 3;
    if (error(CLONE_NEWUSER) != -EPERM) return 4;
    return 0;
  });
  CHECK(status == 0);
}

TEST_CASE("shutdown kills what still runs") {
  TestKernel k;
  const Ref<ThreadGroup> process = k.start([](FakeGuest& guest) {
    fork(guest, [](FakeGuest& child) { pause(child); });
    guest.spin();
    return 0;
  });
  k.kernel->shutdown();
  CHECK(WTERMSIG(k.wait(*process)) == SIGKILL);
}
