// A serving thread follows its client's CPU.
#include <sched.h>

#include <chrono>

#include "gofer/cpu_follower.h"
#include "tests/unit/gofer_fixture.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::gofer;

namespace {

cpu_set_t affinity(pid_t thread = 0) {
  cpu_set_t set;
  CPU_ZERO(&set);
  REQUIRE(::sched_getaffinity(thread, sizeof set, &set) == 0);
  return set;
}

cpu_set_t only(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return set;
}

bool operator==(const cpu_set_t& a, const cpu_set_t& b) { return CPU_EQUAL(&a, &b); }

std::vector<int> cpus_of(const cpu_set_t& set) {
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

uint16_t hint(int cpu) { return static_cast<uint16_t>(cpu + 1); }

// Puts the affinity of this thread back.
struct Affinity {
  const cpu_set_t before = affinity();
  ~Affinity() { ::sched_setaffinity(0, sizeof before, &before); }
};

}  // namespace

TEST_CASE("a hint is followed when it comes twice, and not more often than once a millisecond") {
  const Affinity whole;
  const std::vector<int> cpus = cpus_of(whole.before);
  CpuFollower follower;
  const CpuFollower::Time start = std::chrono::steady_clock::now();
  follower.follow(hint(cpus.back()), start);
  CHECK(affinity() == whole.before);
  follower.follow(hint(cpus.back()), start);
  CHECK(affinity() == only(cpus.back()));
  for (int i = 0; i < 3; i++) follower.follow(hint(cpus.front()), start);
  CHECK(affinity() == only(cpus.back()));
  const auto later = start + std::chrono::milliseconds(2);
  follower.follow(hint(cpus.front()), later);
  CHECK(affinity() == only(cpus.front()));
}

TEST_CASE("hints that name no CPU of ours are ignored") {
  const Affinity whole;
  CpuFollower follower;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &whole.before)) continue;
    follower.follow(hint(cpu));
    follower.follow(hint(cpu));
  }
  for (const uint16_t wrong :
       {kNoCpu, kNoCpu, kNoTag, kNoTag, hint(CPU_SETSIZE), hint(CPU_SETSIZE)})
    follower.follow(wrong);
  CHECK(affinity() == whole.before);
}

TEST_CASE("the thread that serves a pinned client comes to its CPU") {
  const Affinity whole;
  TempTree tree;
  const Served served(tree.path());
  const int cpu = cpus_of(whole.before).back();
  const cpu_set_t one = only(cpu);
  REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
  // When a request is answered, what the one before it brought about is done.
  for (int i = 0; i < 3; i++) CHECK(served.client->statfs(served.root()).ok());
  int pinned = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (affinity(std::stoi(task.path().filename().string())) == one) pinned++;
  }
  CHECK(pinned >= 2);
}
