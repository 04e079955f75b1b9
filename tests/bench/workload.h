#pragma once
// What the benchmarks let a sandbox do: ordinary loops that time themselves and know nothing of
// boxrun.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace bench {

// CLOCK_MONOTONIC in nanoseconds; every target answers it from its vDSO.
uint64_t now_ns();

// Ends the program with a message and errno's text: a loop that fails must not be timed.
[[noreturn]] void die(const char* what);

// The cost of one call of `once`, in nanoseconds: the number of rounds is doubled until they last
// long enough (kBatchNs), so that the same program suits targets that differ by a factor of a
// hundred.
constexpr uint64_t kBatchNs = 60'000'000;
template <class Once>
double ns_per_round(Once&& once) {
  once();  // the first round fills caches
  for (uint64_t rounds = 4;; rounds *= 2) {
    const uint64_t start = now_ns();
    for (uint64_t i = 0; i < rounds; i++) once();
    const uint64_t took = now_ns() - start;
    if (took >= kBatchNs) return static_cast<double>(took) / static_cast<double>(rounds);
  }
}

// One figure a line, as run.py reads them.
inline void report(const char* name, double ns) { std::printf("%s %.1f\n", name, ns); }

// workload_calls.cpp: loops around single system calls. Files are made in the working directory.
void getppid_loop();
void read_zero_loop();
void pread_loop();
void stat_loop(const char* path);
void open_loop(const char* path);
void create_loop();
void mmap_loop();
// Reads every file below `path`: "cold" is the first walk of this process, "warm" the median of
// later ones.
void walk(const char* path);

// workload_process.cpp: processes and threads.
void fork_loop(int mappings);
void spawn_loop();
void pipe_loop(bool across_cpus);
void compute(int threads);
// Threads that make calls all the time: wall time of one call of each.
void threaded_calls(int threads);
// The last of so many forks, one after the other.
void process_growth(int processes);
// Says "ready" and waits for the end of standard input.
void idle();

}  // namespace bench
