// What the platforms cost, next to the host's own costs in the same run: one JSON object a line.
//
//   platform_bench [rounds]
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "platforms/ptrace/ptrace_platform.h"
#include "tests/unit/platform_machine.h"

using namespace boxrun;
using namespace boxrun::platform;

namespace {

// The median over batches of the time of one round, in nanoseconds.
double median_ns(int batches, int rounds, const std::function<void()>& round) {
  std::vector<double> times;
  for (int b = 0; b < batches; b++) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < rounds; i++) round();
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    times.push_back(took.count() / rounds);
  }
  std::ranges::nth_element(times, times.begin() + batches / 2);
  return times[static_cast<size_t>(batches) / 2];
}

void print(const char* name, double ours, double native) {
  fmt::print("{{\"name\":\"{}\",\"ns\":{:.0f},\"native_ns\":{:.0f},\"ratio\":{:.1f}}}\n", name,
             ours, native, ours / native);
}

double native_fork_ns(int rounds) {
  return median_ns(5, rounds, [] {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);
  });
}

double native_map_ns(const TestMemory& memory, int rounds) {
  return median_ns(5, rounds, [&memory] {
    void* p = ::mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd(), 1 << 20);
    ::munmap(p, 1 << 16);
  });
}

int bench(int rounds) {
  TestMemory memory;
  StubError error;
  std::unique_ptr<PtracePlatform> platform = PtracePlatform::create(memory.fd(), error);
  if (platform == nullptr) {
    fmt::print(stderr, "platform_bench: cannot {}: {}\n", error.step, errno_name(error.error));
    return 1;
  }
  auto space = std::move(platform->new_address_space(nullptr)).take();
  if (!map_program(*space, memory).ok()) return 1;
  GuestThread t(*platform, *space);
  t.start(guest_syscall);
  const auto call = [&t] { (void)t.run_with(SYS_getppid); };
  (void)t.run();
  print("syscall", median_ns(9, rounds, call),
        median_ns(9, rounds, [] { ::syscall(SYS_getppid); }));
  print("syscall with all registers",
        median_ns(5, rounds,
                  [&] {
                    t.cpu.registers_for_write().rax = SYS_getppid;
                    (void)t.run();
                  }),
        median_ns(5, rounds, [] { ::syscall(SYS_getppid); }));
  const Range range{0x20000000, 0x20010000};
  const double native_map = native_map_ns(memory, rounds / 4);
  print("mmap, call, munmap, call",
        median_ns(5, rounds / 4,
                  [&] {
                    const Op map = Op::map(range, memory.fd(), 1 << 20, kReadWrite);
                    (void)space->apply({&map, 1});
                    call();
                    const Op unmap = Op::unmap(range);
                    (void)space->apply({&unmap, 1});
                    call();
                  }),
        native_map);
  std::vector<Op> batch;
  for (uint64_t i = 0; i < 64; i++) {
    batch.push_back(Op::map({0x30000000 + i * 0x10000, 0x30010000 + i * 0x10000}, memory.fd(),
                            (1 << 20) + i * 0x1000, i % 2 == 0 ? kReadWrite : Prot::kRead));
  }
  print("64 maps at once, per map",
        median_ns(5, rounds / 64 + 1, [&] { (void)space->apply(batch); }) / 64, native_map);
  print("fork of the address space, first run, end",
        median_ns(5, rounds / 64 + 1,
                  [&] {
                    auto child = std::move(platform->new_address_space(space.get())).take();
                    CpuState copy(host_xstate_size());
                    copy.copy_from(t.cpu);
                    std::thread([&] {
                      GuestThread c(*platform, *child);
                      c.cpu.copy_from(copy);
                      (void)c.run_with(0);
                    }).join();
                  }),
        native_fork_ns(rounds / 64 + 1));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return bench(argc > 1 ? std::max(64, std::atoi(argv[1])) : 10000);
}
