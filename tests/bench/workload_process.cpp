#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/bench/workload.h"

namespace bench {
namespace {

int count_mappings() {
  std::FILE* maps = std::fopen("/proc/self/maps", "r");
  if (maps == nullptr) die("/proc/self/maps");
  int lines = 0;
  for (int c = std::fgetc(maps); c != EOF; c = std::fgetc(maps)) lines += c == '\n' ? 1 : 0;
  std::fclose(maps);
  return lines;
}

// Neighbours differ in protection, so that they stay apart; all are touched, as a program's are.
void make_mappings(int wanted) {
  for (int made = count_mappings(); made < wanted; made++) {
    constexpr size_t kSize = 64 << 10;
    void* p = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) die("mmap");
    *static_cast<volatile char*>(p) = 1;
    if (made % 2 == 0) ::mprotect(p, kSize, PROT_READ);
  }
}

void wait_for(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child || status != 0) die("a child failed");
}

// The host's choice where the sandbox does not pass affinity on.
void prefer_cpu(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

void echo(int in, int out) {
  char byte;
  while (::read(in, &byte, 1) == 1) {
    if (::write(out, &byte, 1) != 1) break;
  }
}

// Keeps one CPU busy without memory traffic; returns something that depends on every round.
uint64_t spin(uint64_t rounds) {
  uint64_t x = 88172645463325252;
  for (uint64_t i = 0; i < rounds; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  }
  return x;
}

}  // namespace

void fork_loop(int mappings) {
  make_mappings(mappings);
  report("fork", ns_per_round([] {
           const pid_t child = ::fork();
           if (child < 0) die("fork");
           if (child == 0) ::_exit(0);
           wait_for(child);
         }));
}

void spawn_loop() {
  std::string program = "/bin/true";
  char* const argv[] = {program.data(), nullptr};
  report("spawn", ns_per_round([&argv] {
           pid_t child;
           if (::posix_spawn(&child, argv[0], nullptr, nullptr, argv, environ) != 0)
             die("posix_spawn");
           wait_for(child);
         }));
}

void pipe_loop(bool across_cpus) {
  int there[2];
  int back[2];
  if (::pipe(there) < 0 || ::pipe(back) < 0) die("pipe");
  const pid_t child = ::fork();
  if (child < 0) die("fork");
  if (child == 0) {
    ::close(there[1]);
    if (across_cpus) prefer_cpu(1);
    echo(there[0], back[1]);
    ::_exit(0);
  }
  if (across_cpus) prefer_cpu(0);
  report("pipe", ns_per_round([&] {
           char byte = 0;
           if (::write(there[1], &byte, 1) != 1 || ::read(back[0], &byte, 1) != 1) die("pipe");
         }));
  ::close(there[1]);
  wait_for(child);
}

void compute(int threads) {
  constexpr uint64_t kRounds = 100'000'000;
  std::vector<uint64_t> results(static_cast<size_t>(threads));
  const uint64_t start = now_ns();
  std::vector<std::thread> workers;
  for (uint64_t& result : results) workers.emplace_back([&result] { result = spin(kRounds); });
  for (std::thread& worker : workers) worker.join();
  const uint64_t took = now_ns() - start;
  for (const uint64_t result : results) {
    if (result != results[0]) die("threads computed different results");
  }
  report("compute", static_cast<double>(took));
}

void threaded_calls(int threads) {
  constexpr uint64_t kCalls = 20'000;
  const uint64_t start = now_ns();
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; i++) {
    workers.emplace_back([] {
      for (uint64_t call = 0; call < kCalls; call++) ::getppid();
    });
  }
  for (std::thread& worker : workers) worker.join();
  report("calls", static_cast<double>(now_ns() - start) / static_cast<double>(kCalls));
}

void process_growth(int processes) {
  // The last tenth of them, so that what grows with their number shows.
  const int counted = processes / 10;
  uint64_t start = 0;
  for (int i = 0; i < processes; i++) {
    if (i == processes - counted) start = now_ns();
    const pid_t child = ::fork();
    if (child < 0) die("fork");
    if (child == 0) ::_exit(0);
    wait_for(child);
  }
  report("processes", static_cast<double>(now_ns() - start) / counted);
}

void idle() {
  std::puts("ready");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
}

}  // namespace bench
