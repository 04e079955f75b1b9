// workload NAME [ARG]: one row of the benchmarks, see run.py. Prints "NAME ns" lines.
#include "tests/bench/workload.h"

#include <cstring>
#include <ctime>

namespace bench {

uint64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

}  // namespace bench

namespace {

struct Row {
  const char* name;
  void (*run)(const char* arg);
};

constexpr Row kRows[] = {
    {"getppid", [](const char*) { bench::getppid_loop(); }},
    {"read", [](const char*) { bench::read_zero_loop(); }},
    {"pread", [](const char*) { bench::pread_loop(); }},
    {"stat", [](const char* arg) { bench::stat_loop(arg); }},
    {"open", [](const char* arg) { bench::open_loop(arg); }},
    {"create", [](const char*) { bench::create_loop(); }},
    {"mmap", [](const char*) { bench::mmap_loop(); }},
    {"walk", [](const char* arg) { bench::walk(arg); }},
    {"fork", [](const char* arg) { bench::fork_loop(std::atoi(arg)); }},
    {"spawn", [](const char*) { bench::spawn_loop(); }},
    {"pipe", [](const char* arg) { bench::pipe_loop(std::strcmp(arg, "across") == 0); }},
    {"compute", [](const char* arg) { bench::compute(std::atoi(arg)); }},
    {"calls", [](const char* arg) { bench::threaded_calls(std::atoi(arg)); }},
    {"processes", [](const char* arg) { bench::process_growth(std::atoi(arg)); }},
    {"idle", [](const char*) { bench::idle(); }},
};

}  // namespace

int main(int argc, char** argv) {
  for (const Row& row : kRows) {
    if (argc < 2 || std::strcmp(row.name, argv[1]) != 0) continue;
    row.run(argc > 2 ? argv[2] : "");
    return 0;
  }
  std::fprintf(stderr, "usage: workload NAME [ARG]\n");
  return 2;
}
