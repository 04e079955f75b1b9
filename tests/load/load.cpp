// load THREADS SECONDS: threads that do a bit of everything at once, for ever interrupted by each
// other, while the first one watches that each of them gets on. Ends with 1 and says which thread
// is stuck where.
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <vector>

namespace {

// No step takes long; a thread that does not finish one in this time has lost a wake-up.
constexpr int kStuckSeconds = 15;

struct Worker {
  int number = 0;
  pthread_t thread{};
  std::atomic<pid_t> tid{0};
  std::atomic<uint64_t> steps{0};
  std::atomic<const char*> doing{"start"};
  std::atomic<uint32_t> futex{0};
  int pipe[2]{-1, -1};
  uint64_t random = 0;

  uint64_t next() {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random;
  }
};

std::vector<std::unique_ptr<Worker>> workers;
std::atomic<bool> ending{false};
std::atomic<size_t> ended{0};
std::atomic<uint64_t> signals_seen{0};

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "load: %s: %s\n", what, std::strerror(errno));
  _exit(1);
}

void expect(bool right, const char* what) {
  if (!right) die(what);
}

double seconds() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

void on_signal(int, siginfo_t*, void*) {
  const int error = errno;
  signals_seen++;
  getppid();
  errno = error;
}

void calls(Worker& w) {
  const pid_t parent = getppid();
  for (int i = 0; i < 200; i++) expect(getppid() == parent, "getppid");
  expect(syscall(SYS_gettid) == w.tid.load(), "gettid");
}

void memory(Worker& w) {
  const size_t size = 4096 * (1 + w.next() % 64);
  auto* p = static_cast<uint64_t*>(
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  expect(p != MAP_FAILED, "mmap");
  const uint64_t mark = w.next();
  for (size_t i = 0; i < size / 8; i += 512) p[i] = mark + i;
  expect(mprotect(p, size, PROT_READ) == 0, "mprotect");
  for (size_t i = 0; i < size / 8; i += 512) expect(p[i] == mark + i, "what memory holds");
  expect(munmap(p, size) == 0, "munmap");
}

void files(Worker& w) {
  char name[32];
  std::snprintf(name, sizeof name, "file-%d", w.number);
  const int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  expect(fd >= 0, "open");
  const uint64_t mark = w.next();
  expect(pwrite(fd, &mark, sizeof mark, 512) == sizeof mark, "pwrite");
  uint64_t seen = 0;
  expect(pread(fd, &seen, sizeof seen, 512) == sizeof seen && seen == mark, "pread");
  expect(close(fd) == 0 && unlink(name) == 0, "unlink");
}

void process(Worker& w) {
  const int status_wanted = static_cast<int>(w.next() % 100);
  const pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 20; i++) getppid();
    _exit(status_wanted);
  }
  expect(child > 0, "fork");
  int status = 0;
  while (waitpid(child, &status, 0) < 0) expect(errno == EINTR, "waitpid");
  expect(WIFEXITED(status) && WEXITSTATUS(status) == status_wanted, "what a child ended with");
}

void own_pipe(Worker& w) {
  const uint64_t mark = w.next();
  expect(write(w.pipe[1], &mark, sizeof mark) == sizeof mark, "write to a pipe");
  pollfd ready{w.pipe[0], POLLIN, 0};
  while (poll(&ready, 1, 5000) != 1) expect(errno == EINTR, "poll");
  uint64_t seen = 0;
  expect(read(w.pipe[0], &seen, sizeof seen) == sizeof seen && seen == mark, "read from a pipe");
}

// Waits with a limit for a neighbour's wake-up, and wakes the other one.
void hand_over(Worker& w) {
  Worker& other = *workers[(static_cast<size_t>(w.number) + 1) % workers.size()];
  other.futex++;
  syscall(SYS_futex, &other.futex, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  const timespec limit{0, 2'000'000};
  syscall(SYS_futex, &w.futex, FUTEX_WAIT_PRIVATE, w.futex.load(), &limit, nullptr, 0);
}

void interrupt(Worker& w) {
  const Worker& other = *workers[w.next() % workers.size()];
  const pid_t tid = other.tid.load();
  if (tid != 0) (void)syscall(SYS_tgkill, getpid(), tid, SIGUSR1);
}

void compute(Worker& w) {
  for (int i = 0; i < 50'000; i++) w.next();
}

struct Step {
  const char* name;
  void (*run)(Worker& w);
  unsigned weight;
};
constexpr Step kSteps[] = {{"calls", calls, 6},      {"memory", memory, 4},
                           {"files", files, 4},      {"fork", process, 1},
                           {"pipe", own_pipe, 4},    {"futex", hand_over, 4},
                           {"signal", interrupt, 6}, {"compute", compute, 2}};

void* work(void* argument) {
  auto& w = *static_cast<Worker*>(argument);
  w.tid.store(static_cast<pid_t>(syscall(SYS_gettid)));
  unsigned total = 0;
  for (const Step& step : kSteps) total += step.weight;
  while (!ending.load()) {
    auto pick = static_cast<unsigned>(w.next() % total);
    for (const Step& step : kSteps) {
      if (pick < step.weight) {
        w.doing.store(step.name);
        step.run(w);
        break;
      }
      pick -= step.weight;
    }
    w.steps++;
  }
  w.tid.store(0);
  ended++;
  return nullptr;
}

void watch(double until) {
  std::vector<uint64_t> seen(workers.size());
  std::vector<double> since(workers.size(), seconds());
  while (ended.load() < workers.size()) {
    if (seconds() >= until) ending.store(true);
    const timespec pause{0, 200'000'000};
    nanosleep(&pause, nullptr);
    for (size_t i = 0; i < workers.size(); i++) {
      const uint64_t steps = workers[i]->steps.load();
      if (steps != seen[i] || workers[i]->tid.load() == 0) {
        seen[i] = steps;
        since[i] = seconds();
      } else if (seconds() - since[i] > kStuckSeconds) {
        std::fprintf(stderr, "load: thread %zu is stuck after %llu steps in: %s\n", i,
                     static_cast<unsigned long long>(steps), workers[i]->doing.load());
        _exit(1);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: load THREADS SECONDS\n");
    return 2;
  }
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  for (int i = 0; i < std::atoi(argv[1]); i++) {
    auto w = std::make_unique<Worker>();
    w->number = i;
    w->random = 0x9e3779b97f4a7c15 * static_cast<uint64_t>(i + 1);
    if (pipe(w->pipe) != 0) die("pipe");
    workers.push_back(std::move(w));
  }
  // Signals are for workers: the watch must not be late.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  for (auto& w : workers) {
    if (pthread_create(&w->thread, nullptr, work, w.get()) != 0) die("pthread_create");
  }
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::puts("started");
  std::fflush(stdout);
  watch(seconds() + std::atof(argv[2]));
  uint64_t steps = 0;
  for (auto& w : workers) {
    pthread_join(w->thread, nullptr);
    steps += w->steps.load();
  }
  std::printf("steps %llu signals %llu\n", static_cast<unsigned long long>(steps),
              static_cast<unsigned long long>(signals_seen.load()));
  return signals_seen.load() > 0 ? 0 : 1;
}
