// Short programs of system calls, through the real table, against a small sandbox on the fake
// platform: nothing may crash, hang, or keep memory once all processes are gone.
//
// A program is a list of steps. A step is a system call number (2 bytes) and its arguments, or
// kPoke, an offset into the data area (2 bytes) and a value of 8 bytes that goes there. An argument
// or value is one byte that says of what kind it is, and what that kind needs (see Steps::value).
// A child of fork or clone goes on where its parent is, so that what follows is done by both.
#include <fcntl.h>
#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "platforms/fake/fake_platform.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/table.h"
#include "sentry/vfs/file_description.h"
#include "src/base/bytes.h"
#include "src/base/check.h"
#include "tests/fuzz/input.h"
#include "tests/unit/fake_program.h"
#include "tests/unit/test_sandbox.h"

using namespace boxrun;
using platform::FakeGuest;

namespace {

constexpr uint64_t kMemory = uint64_t{16} << 20;
constexpr int kMaxSteps = 48;  // of all tasks together
constexpr uint64_t kMaxTasks = 8;
constexpr uint64_t kHandler = test::kFakeEntry + 0x10;
constexpr uint64_t kRestorer = test::kFakeEntry + 0x20;
constexpr uint64_t kPaths = 0x8000;  // in the data area, 64 bytes each
constexpr uint16_t kPoke = 0xffff;
// Long enough for what does not wait; what does is killed then.
constexpr std::chrono::milliseconds kPatience{10};

constexpr const char* kPathTexts[] = {"/tmp/a",
                                      "/tmp/b",
                                      "/tmp/d",
                                      "/tmp/d/f",
                                      "a",
                                      "..",
                                      "/prog",
                                      "/tmp/prog",
                                      "/proc/self/fd/3",
                                      "/proc/self/exe",
                                      "/proc/self/status",
                                      "/proc/self/maps",
                                      "/proc/self/mem",
                                      "/proc/self/cwd",
                                      "/proc/thread-self/fdinfo/4",
                                      "/proc/sys/kernel/hostname",
                                      "/dev/zero",
                                      "/dev/null",
                                      "/dev/full",
                                      "/dev/shm/x",
                                      "/dev/tty",
                                      "/sys/devices/system/cpu/online",
                                      "/tmp/fifo",
                                      "/",
                                      "",
                                      "user.name",
                                      "trusted.x",
                                      "name"};

constexpr uint64_t kConstants[] = {0,
                                   1,
                                   ~uint64_t{0},
                                   static_cast<uint64_t>(AT_FDCWD),
                                   0x7fffffff,
                                   0x80000000,
                                   0xffffffff,
                                   uint64_t{1} << 47,
                                   INT64_MAX,
                                   uint64_t{1} << 63,
                                   test::kFakeEntry,
                                   kHandler,
                                   kRestorer,
                                   4096,
                                   4097,
                                   test::kFakeData + test::kFakeDataSize - 4,
                                   0x1000,
                                   0x7f0000000000};

// What one task has still to do.
class Steps {
 public:
  explicit Steps(fuzz::Input input) : input_(input) {}

  bool done() const { return input_.empty(); }
  uint16_t number() { return input_.take<uint16_t>(); }
  uint64_t offset() { return input_.take<uint16_t>() % (test::kFakeDataSize - 8); }
  void remember(int64_t result) {
    results_[next_++ % results_.size()] = static_cast<uint64_t>(result);
  }
  uint64_t value() {
    switch (input_.byte() % 9) {
      case 0:
        return input_.byte();
      case 1:  // a descriptor
        return input_.byte() % 16;
      case 2:  // a pointer into the data area
        return test::kFakeData + input_.take<uint16_t>();
      case 3:  // a path
        return test::kFakeData + kPaths + input_.byte() % std::size(kPathTexts) * 64;
      case 4:
        return input_.take<uint64_t>();
      case 5:  // what an earlier call returned
        return results_[input_.byte() % results_.size()];
      case 6:
        return input_.one_of(kConstants);
      case 7:
        return uint64_t{1} << input_.byte() % 64;
      default:
        return input_.take<uint32_t>();
    }
  }

 private:
  fuzz::Input input_;
  std::array<uint64_t, 8> results_{};
  size_t next_ = 0;
};

bool makes_task(uint64_t number) {
  return number == SYS_clone || number == SYS_fork || number == SYS_vfork || number == SYS_clone3;
}

// Sockets that hold each other as messages are not collected before the sandbox ends
// (sentry/net/README.md), and would be all that this target finds.
bool sends_descriptors(uint64_t number) { return number == SYS_sendmsg || number == SYS_sendmmsg; }

class Program {
 public:
  explicit Program(fuzz::Input input)
      : first_(input),
        sandbox_(platform_, mm::MemoryFile::make_backing(-1).take(),
                 {.memory = kMemory, .max_tasks = kMaxTasks}) {
    platform_.add_program(test::kFakeEntry, platform::FakePlatform::main([this](FakeGuest& guest) {
                            run_main(guest);
                            return 0;
                          }));
    platform_.add_program(kHandler, [](FakeGuest& guest) { guest.syscall(SYS_gettid); });
    platform_.add_program(kRestorer, [](FakeGuest& guest) { guest.syscall(SYS_rt_sigreturn); });
    CHECK(sandbox_.put("/prog", test::fake_program()).ok());
  }

  void run() {
    const auto stream = sandbox_.open("/tmp/stream", O_CREAT | O_RDWR, 0644).take();
    const auto process = sandbox_.start({"/prog"}, stream).take();
    std::unique_lock lock(mutex_);
    ended_.wait_for(lock, kPatience, [this] { return has_ended_; });
  }

 private:
  void run_main(FakeGuest& guest) {
    for (size_t i = 0; i < std::size(kPathTexts); i++) {
      const std::string_view text = kPathTexts[i];
      guest.copy_to(test::kFakeData + kPaths + i * 64, std::as_bytes(std::span(text)));
    }
    Steps steps = [this] {
      std::lock_guard lock(mutex_);
      return first_;
    }();
    run_steps(guest, steps);
    std::lock_guard lock(mutex_);
    has_ended_ = true;
    ended_.notify_all();
  }

  void run_steps(FakeGuest& guest, Steps& steps) {
    while (!steps.done() && done_++ < kMaxSteps) {
      const uint16_t number = steps.number();
      if (number == kPoke) {
        const uint64_t at = test::kFakeData + steps.offset();
        guest.write<uint64_t>(at, steps.value());
      } else {
        run_call(guest, steps, number % syscalls::kTableSize);
      }
    }
  }

  void run_call(FakeGuest& guest, Steps& steps, uint64_t number) {
    const syscalls::Syscall* row = syscalls::find(number);
    std::array<uint64_t, 6> args{};
    for (int i = 0; row != nullptr && i < row->argc; i++)
      args[static_cast<size_t>(i)] = steps.value();
    if (sends_descriptors(number)) return;
    if (number == SYS_execve || number == SYS_execveat) {
      // The new program goes on behind the call.
      std::lock_guard lock(mutex_);
      first_ = steps;
    }
    if (!makes_task(number)) {
      steps.remember(guest.syscall_as(platform::Arch::kX86_64, number, args));
      return;
    }
    const auto child = [this, steps](FakeGuest& in_child) mutable {
      run_steps(in_child, steps);
      for (;;) in_child.syscall(SYS_exit, 0);
    };
    steps.remember(guest.syscall_for_child(child, number, args[0], args[1], args[2], args[3],
                                           args[4], args[5]));
  }

  std::mutex mutex_;
  std::condition_variable ended_;
  bool has_ended_ = false;
  Steps first_;  // what a program that begins has to do
  std::atomic<int> done_{0};
  platform::FakePlatform platform_;
  test::TestSandbox sandbox_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Program(fuzz::Input(data, size)).run();
  return 0;
}
